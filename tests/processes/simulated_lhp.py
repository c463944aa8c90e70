"""`lhp` on a machine whose latencies are made up: it needs neither torch nor quiet processors.

`python -m tests.processes.simulated_lhp ARGUMENTS…` is the real command, but for the device and
its doctor. Settings come from the environment (`LHP_*`), and SIMULATED_MACHINE is the machine's
identity. SIMULATED_KERNELS (default 1.0) is the version of its kernels: multiples of 8 win with
1.0, and don't with any other.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Sequence
from unittest import mock

import numpy as np

from profiler_service.cli.app import run
from profiler_service.grid import Grid
from profiler_service.measurement import doctor, identity
from profiler_service.measurement.diagnosis import Diagnosis
from profiler_service.plan.base import Batch, Part
from profiler_service.processes import attendance, worker
from profiler_service.settings import Settings
from profiler_service.workload import Dims, Workload
from tests.processes.fake_worker import HEARTBEAT_S
from tests.synthetic import PLATFORM, PROTOCOL, SyntheticDevice

FIT = Diagnosis(findings=(), smallest_effect=0.001, num_samples=1)


class SimulatedMeasurer:
    """Dims that aren't multiples of 8 cost a tenth more on each axis; larger products cost more."""

    def __init__(self) -> None:
        version = os.environ.get("SIMULATED_KERNELS", "1.0")
        self.platform = dataclasses.replace(PLATFORM, libraries=(("kernels", version),))
        self._uneven = 1.1 if version == "1.0" else 1.0
        self.protocol = PROTOCOL
        self.dtypes = ("float32",)
        self.backends = {"dense": ("float32",)}
        self.measured_cpus: tuple[int, ...] = ()
        self._devices: dict[Grid, SyntheticDevice] = {}

    def measure_part(
        self, workload: Workload, grid: Grid, batch: Batch, *, must_yield: Callable[[int], bool]
    ) -> Part:
        if grid not in self._devices:
            self._devices[grid] = _create_device(grid, self._uneven)
        return Part(samples=self._devices[grid].measure(batch), rest=None)

    def name_kernels(
        self,
        workload: Workload,
        points: Sequence[Dims],
        *,
        limit_s: float,
        must_stop: Callable[[], bool],
    ) -> dict[Dims, str] | None:
        return {}

    def read_gpu_use(self) -> float | None:
        return None

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


def _create_device(grid: Grid, uneven: float) -> SyntheticDevice:
    dims = grid.all_dims().astype(np.float64)
    products = dims.prod(axis=1)
    num_uneven = (dims % 8 != 0).sum(axis=1)
    latency_s = 1e-4 * (products / products[0]) ** 4 * uneven**num_uneven
    return SyntheticDevice(latency_s, noise=0.003, spikes=0.0, drift=0.0)


def main() -> None:
    """Runs the command."""

    def create(_settings: Settings) -> SimulatedMeasurer:
        return SimulatedMeasurer()

    def examine(**_: object) -> Diagnosis:
        return FIT

    def find_machine_id() -> str:
        return os.environ["SIMULATED_MACHINE"]

    execv = os.execv

    def become_simulated(path: str, arguments: list[str]) -> None:
        # `lhp join` becomes `python -m profiler_service.cli worker`.
        execv(path, [path, "-m", "tests.processes.simulated_lhp", *arguments[3:]])

    with (
        mock.patch.object(doctor, "examine", examine),
        mock.patch.object(identity, "find_machine_id", find_machine_id),
        mock.patch.object(worker, "find_machine_id", find_machine_id),
        mock.patch.object(worker, "create_measurer", create),
        mock.patch.object(attendance, "HEARTBEAT_S", HEARTBEAT_S),
        mock.patch.object(worker, "HEARTBEAT_S", HEARTBEAT_S),
        mock.patch.object(worker, "run", functools.partial(worker.run, create_measurer=create)),
        mock.patch.object(os, "execv", become_simulated),
    ):
        sys.exit(run())


if __name__ == "__main__":
    main()
