"""What measures batches, as the sweep runner sees it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.grid import Grid
from profiler_service.plan.base import Batch, Part
from profiler_service.workload import Dims, Workload


class BatchMeasurer(Protocol):
    """The part of `measurement.measurer.Measurer` that the runner uses."""

    @property
    def platform(self) -> Platform:
        """The platform of all samples."""

    @property
    def protocol(self) -> TimingProtocol:
        """The timing protocol of all samples."""

    @property
    def dtypes(self) -> Sequence[str]:
        """Element types that the device multiplies."""

    @property
    def backends(self) -> Mapping[str, Sequence[str]]:
        """Backend of products → the dtypes that it multiplies."""

    @property
    def measured_cpus(self) -> Collection[int]:
        """Processors that the child measures on; this process keeps off them."""

    def measure_part(
        self, workload: Workload, grid: Grid, batch: Batch, *, must_yield: Callable[[int], bool]
    ) -> Part:
        """The samples of `batch`, or of its first visits if `must_yield` says so."""

    def name_kernels(
        self,
        workload: Workload,
        points: Sequence[Dims],
        *,
        limit_s: float,
        must_stop: Callable[[], bool],
    ) -> dict[Dims, str] | None:
        """The names of the kernels at these points, as many as can be had in about `limit_s`.

        None if no child runs at the moment.
        """

    def read_gpu_use(self) -> float | None:
        """The share of about the last second in which the GPU worked for anybody; or None."""

    def interrupt(self) -> None:
        """Makes a running `measure_part` in another thread raise soon."""

    def close(self) -> None:
        """Ends the child."""
