"""A planner and a measurer whose every step is known beforehand, and a worker made of them.

`python -m tests.processes.fake_worker` runs the real worker on them, as the tests of jobs need
it: the planner visits one point a batch, in order; the measurer writes down each batch it begins.
Settings come from the environment (`LHP_*`), as for the real one, and:
FAKE_LOG (file), FAKE_BATCH_S (seconds a batch takes), FAKE_MODEL (device model), FAKE_MACHINE
(identity of the machine), FAKE_WAITS (set: waits for other workers to end, as beside a service).
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from profiler_service.analysis.curve import AnswerTable, LatencyCurve, PointStatus
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.errors import LhpError, MeasurementFailedError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from profiler_service.plan.base import Batch, Part, Planner
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import Progress, SweepSpec
from profiler_service.plan.turns import Demand
from profiler_service.processes import attendance, supervisor, worker
from profiler_service.processes.keeper_line import tell_nobody
from profiler_service.processes.sweep_runner import SweepRunner
from profiler_service.settings import Settings
from profiler_service.storage.store import Store, Sweep
from profiler_service.workload import Dims, Workload

PATIENCE_S = 120.0
HEARTBEAT_S = 1.0
"""Of the worker here: tests wait for what a heartbeat notices, some of them for two."""
PROTOCOL = TimingProtocol(timer="fake")
HOST = "host"


def platform(model: str = "fake") -> Platform:
    """A platform that differs from others by its model only."""
    return Platform(
        device="cpu",
        device_model=model,
        memory_bytes=1 << 30,
        driver="none",
        framework="none",
        libraries=(),
        threads=1,
        cpus=1,
        flags=(),
    )


def spec(num_batches: int, mode: Mode = "grid") -> SweepSpec:
    """A sweep of as many points, hence batches."""
    grid = Grid(axes=(GridAxis(first=1, count=num_batches),))
    return SweepSpec(workload=MATMUL.describe(), mode=mode, grid=grid)


class FakePlanner:
    """Batch number i visits point i; after the last point there is nothing left to do."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self._batches: list[Samples] = []

    def next_batch(self) -> Batch | None:
        index = len(self._batches)
        if index == self._spec.grid.size:
            return None
        return Batch(
            point=np.array([index], dtype=np.int32), round=np.array([index], dtype=np.int32)
        )

    def record(self, samples: Samples) -> None:
        self._batches.append(samples)

    def progress(self) -> Progress:
        done = len(self._batches)
        return Progress(
            fraction=done / self._spec.grid.size,
            stage=f"batch {done}",
            num_samples=sum(map(len, self._batches)),
            seconds=sum(samples.seconds for samples in self._batches),
        )

    def build_curve(
        self, platform: Platform, protocol: TimingProtocol, measured_at: dt.datetime
    ) -> LatencyCurve:
        size = self._spec.grid.size
        latency_s = np.full(size, np.nan)
        failures: dict[int, str] = {}
        for samples in self._batches:
            latency_s[samples.point] = samples.latency_s
            failures |= samples.failures
        measured = np.isfinite(latency_s)
        none = np.full(size, np.nan)
        return LatencyCurve(
            workload=self._spec.workload,
            platform=platform,
            protocol=protocol,
            grid=self._spec.grid,
            latency_s=latency_s,
            low_s=latency_s,
            high_s=latency_s,
            num_samples=measured.astype(np.int32),
            status=np.where(measured, PointStatus.UNDECIDED, PointStatus.UNMEASURED).astype(
                np.int8
            ),
            answers=AnswerTable(
                target=np.full(size, -1, dtype=np.int32),
                ratio=none,
                ratio_low=none,
                ratio_high=none,
            ),
            measured_at=measured_at,
            failures=failures,
        )


class FakeMeasurer:
    """Point i takes i + 1 milliseconds per call; a batch takes `batch_s`."""

    def __init__(
        self,
        log: Path,
        *,
        batch_s: float = 0.0,
        model: str = "fake",
        failing: Collection[int] = (),
    ) -> None:
        self.platform = platform(model)
        self.protocol = PROTOCOL
        self.dtypes = ("float32",)
        self.backends = {"dense": ("float32",)}
        self.measured_cpus: tuple[int, ...] = ()
        self.closed = False
        self._log = log
        self._batch_s = batch_s
        self._failing = failing
        self._interrupted = threading.Event()

    def measure(self, workload: Workload, grid: Grid, batch: Batch) -> Samples:
        with self._log.open("a") as log:
            log.write(f"{batch.round[0]}\n")
        if self._interrupted.wait(self._batch_s):
            raise MeasurementFailedError("interrupted")
        ok = ~np.isin(batch.point, list(self._failing))
        point = batch.point[ok]
        return Samples(
            point=point,
            round=batch.round[ok],
            time_s=(self._batch_s * np.arange(len(point)) / max(1, len(point))).astype(np.float32),
            latency_s=(point + 1) / 1000,
            calls=1,
            unstable=np.zeros(len(point), dtype=np.bool_),
            failures={int(p): "too large" for p in batch.point[~ok]},
            seconds=self._batch_s,
        )

    def measure_part(
        self, workload: Workload, grid: Grid, batch: Batch, *, must_yield: Callable[[int], bool]
    ) -> Part:
        return Part(samples=self.measure(workload, grid, batch), rest=None)

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
        self._interrupted.set()

    def close(self) -> None:
        self.closed = True


def create_sweep(store: Store, num_batches: int, demand: Demand | None = None) -> Sweep:
    store.register_host(HOST, platform(), protocol=PROTOCOL, dtypes=["float32"])
    return store.create_sweep(spec(num_batches), host=HOST, demand=demand)[0]


def create_runner(
    store: Store,
    measurer: FakeMeasurer,
    create_planner: Callable[[SweepSpec], Planner] = FakePlanner,
) -> SweepRunner:
    return SweepRunner(store=store, measurer=measurer, create_planner=create_planner)


def begun(log: Path) -> list[int]:
    """Numbers of the batches begun so far, in order."""
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def wait_until(reached: Callable[[], bool]) -> None:
    """Returns once `reached()`; fails after PATIENCE_S.

    Looks at most for a quarter of the time: what is waited for needs the processor, too.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        began = time.monotonic()
        if reached():
            return
        assert began < deadline, "not reached"
        time.sleep(min(max(0.002, 3 * (time.monotonic() - began)), 0.2))


def main() -> None:
    """Runs the worker; an error of ours becomes exit code 1 and one line."""
    logging.basicConfig(level=logging.INFO)
    measurer = FakeMeasurer(
        Path(os.environ["FAKE_LOG"]),
        batch_s=float(os.environ["FAKE_BATCH_S"]),
        model=os.environ.get("FAKE_MODEL", "fake"),
    )
    if "FAKE_MACHINE" in os.environ:
        worker.find_machine_id = lambda: os.environ["FAKE_MACHINE"]  # type: ignore[attr-defined]
    supervisor.OTHER_WORKER_POLL_S = 0.05
    attendance.HEARTBEAT_S = HEARTBEAT_S
    worker.HEARTBEAT_S = HEARTBEAT_S  # type: ignore[attr-defined]

    def run(settings: Settings) -> None:
        worker.run(settings, create_measurer=lambda _: measurer, create_planner=FakePlanner)

    try:
        if "FAKE_WAITS" in os.environ:
            supervisor.run_worker_alone(Settings(), run, tell_nobody)
        else:
            run(Settings())
    except LhpError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
