"""The measuring side's contract: a child process that turns batches into samples."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from profiler_service.grid import Grid
from profiler_service.plan import Batch
from profiler_service.samples import Platform, Protocol, Samples
from profiler_service.workload import Workload


class Measurer:
    """A measuring child process, pinned away from this one. Not safe to share.

    Raises MeasurementError on creation where the device asked for isn't there.
    """

    platform: Platform
    protocol: Protocol
    dtypes: tuple[str, ...]

    def __init__(self, *, device: str = "auto", threads: int = 0) -> None:
        raise NotImplementedError

    def measure(self, workload: Workload, grid: Grid, batch: Batch) -> Samples:
        """The samples of `batch`. A point that can't be measured is listed as a failure."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends the child."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
