"""A worker as the service runs it, except that its latencies are made up.

    LHP_DATABASE_URL=… LHP_HOST=… python -m benchmarks.many_hosts.simulated

It registers, waits, and takes sweeps as every worker does. It needs neither torch nor a device.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from profiler_service.grid import Grid
    from profiler_service.plan.base import Batch, Part
    from profiler_service.settings import Settings
    from profiler_service.workload import Dims, Workload


class SimulatedMeasurer:
    """A device on which every call takes a tenth of a millisecond."""

    def __init__(self) -> None:
        from profiler_service.analysis.samples import Platform, TimingProtocol

        self.platform = Platform(
            device="cpu",
            device_model="simulated",
            memory_bytes=1 << 30,
            driver="",
            framework="",
            libraries=(),
            threads=1,
            cpus=1,
            flags=(),
        )
        self.protocol = TimingProtocol(timer="simulated")
        self.dtypes = ("float32",)
        self.backends = {"dense": ("float32",)}
        self.measured_cpus: tuple[int, ...] = ()

    def measure_part(
        self, workload: Workload, grid: Grid, batch: Batch, *, must_yield: Callable[[int], bool]
    ) -> Part:
        """Samples of the whole batch, at once."""
        from profiler_service.analysis.samples import Samples
        from profiler_service.plan.base import Part

        count = len(batch.point)
        samples = Samples(
            point=batch.point,
            round=batch.round,
            time_s=np.arange(count, dtype=np.float32) * 1e-4,
            latency_s=np.full(count, 1e-4),
            calls=batch.calls,
            unstable=np.zeros(count, dtype=np.bool_),
            failures={},
            seconds=count * 1e-4,
        )
        return Part(samples=samples, rest=None)

    def name_kernels(
        self,
        workload: Workload,
        points: Sequence[Dims],
        *,
        limit_s: float,
        must_stop: Callable[[], bool],
    ) -> dict[Dims, str] | None:
        """No name."""
        return {}

    def read_gpu_use(self) -> float | None:
        """No GPU."""
        return None

    def interrupt(self) -> None:
        """Nothing takes long enough."""

    def close(self) -> None:
        """Nothing is open."""


def main() -> None:
    """Runs until SIGTERM."""
    from profiler_service.processes import worker
    from profiler_service.settings import Settings

    logging.basicConfig(level=logging.WARNING)

    def create(_settings: Settings) -> SimulatedMeasurer:
        return SimulatedMeasurer()

    worker.run(Settings(), create_measurer=create)


if __name__ == "__main__":
    main()
