"""The worker as it is run: real measurer, real planner, real job engine; and its lock."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from profiler_service import jobs
from profiler_service.errors import MeasurementFailedError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.processes.exit_codes import PLATFORM_CHANGED
from profiler_service.processes.worker import create_measurer
from profiler_service.settings import Settings
from profiler_service.storage import schema
from profiler_service.storage.store import Store
from tests.processes.fake_worker import PATIENCE_S, wait_until

StartWorker = Callable[..., subprocess.Popen[bytes]]

WORKER = """
from profiler_service import settings
from profiler_service.processes import worker

worker.run(settings.Settings())
"""

# Its child dies after the first batch; the next one would find another platform.
WORKER_THAT_MOVES = """
import os
from profiler_service import settings
from profiler_service.processes import worker
from profiler_service.measurement.measurer import Measurer

class MovingMeasurer(Measurer):
    def measure_part(self, *arguments, **options):
        part = super().measure_part(*arguments, **options)
        os.environ["MKL_CBWR"] = "COMPATIBLE"
        self.close()
        return part

worker.run(settings.Settings(), create_measurer=lambda _: MovingMeasurer(device="cpu"))
"""

# Somebody else trains on its GPU.
WORKER_ON_A_BUSY_GPU = """
from profiler_service import settings
from profiler_service.processes import worker
from profiler_service.measurement.measurer import Measurer

class BusyMeasurer(Measurer):
    def read_gpu_use(self):
        return 0.93

worker.run(settings.Settings(), create_measurer=lambda _: BusyMeasurer(device="cpu"))
"""


def children(pid: int) -> list[int]:
    """The process's children, of all of its threads."""
    return [
        int(child)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text().split()
    ]


def is_running(pid: int) -> bool:
    """Whether the process lives; a zombie that nobody has reaped yet doesn't."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "LHP_DATABASE_URL": f"sqlite:///{tmp_path / 'lhp.sqlite'}",
        "LHP_HOST": "host",
        "LHP_DEVICE": "cpu",
        "XDG_DATA_HOME": str(tmp_path),
    }


@pytest.fixture
def start_worker(environment: dict[str, str]) -> Iterator[StartWorker]:
    processes = []

    def start(code: str = WORKER, **variables: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", code], env={**os.environ, **environment, **variables}
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_a_real_sweep_survives_a_killed_worker(
    start_worker: StartWorker, environment: dict[str, str]
) -> None:
    pytest.importorskip("torch")
    settings = Settings(database_url=environment["LHP_DATABASE_URL"], host="host")
    schema.upgrade(settings.database_url)
    jobs.upgrade(settings)
    with (
        contextlib.closing(Store.open(settings.database_url)) as store,
        contextlib.closing(jobs.JobClient(settings)) as client,
    ):
        first = start_worker()
        wait_until(lambda: len(store.list_hosts()) == 1)
        grid = Grid(axes=(GridAxis(first=64, count=4, step=8),))
        spec = SweepSpec(workload=MATMUL.describe(), mode="grid", grid=grid)
        sweep, _ = store.create_sweep(spec, host="host")
        client.enqueue(sweep)
        wait_until(lambda: len(store.load_batches(sweep.id)) >= 2)

        measuring = children(first.pid)
        first.kill()
        first.wait()
        kept = store.load_batches(sweep.id)
        start_worker()
        wait_until(lambda: store.get_sweep(sweep.id).state.is_final)

        ended = store.get_sweep(sweep.id)
        assert ended.state is SweepState.DONE, ended.error
        assert ended.curve_id is not None
        curve = store.load_curve(ended.curve_id)
        assert curve.evidence.others_share is not None
        assert curve.num_measured == 4 and (curve.latency_s > 0).all()
        # What had been kept is still what it was.
        for before, after in zip(kept, store.load_batches(sweep.id), strict=False):
            np.testing.assert_array_equal(before.latency_s, after.latency_s)
        # The measuring child went down with its worker.
        assert measuring
        assert not any(map(is_running, measuring))


def test_a_worker_whose_platform_changes_ends_to_be_started_again(
    start_worker: StartWorker, environment: dict[str, str]
) -> None:
    pytest.importorskip("torch")
    settings = Settings(database_url=environment["LHP_DATABASE_URL"], host="host")
    schema.upgrade(settings.database_url)
    jobs.upgrade(settings)
    with (
        contextlib.closing(Store.open(settings.database_url)) as store,
        contextlib.closing(jobs.JobClient(settings)) as client,
    ):
        first = start_worker(WORKER_THAT_MOVES)
        wait_until(lambda: len(store.list_hosts()) == 1)
        [before] = store.list_hosts()
        grid = Grid(axes=(GridAxis(first=64, count=4, step=8),))
        spec = SweepSpec(workload=MATMUL.describe(), mode="grid", grid=grid)
        sweep, _ = store.create_sweep(spec, host="host")
        client.enqueue(sweep)

        # Neither 0 (told to stop) nor 78 (not worth starting again).
        assert first.wait(PATIENCE_S) == PLATFORM_CHANGED == 1
        assert store.get_sweep(sweep.id).state is SweepState.RUNNING
        assert len(store.load_batches(sweep.id)) == 1

        start_worker(MKL_CBWR="COMPATIBLE")
        wait_until(lambda: store.get_sweep(sweep.id).state.is_final)
        ended = store.get_sweep(sweep.id)
        assert ended.state is SweepState.FAILED and "platform" in ended.error
        assert len(store.load_batches(sweep.id)) == 1
        [after] = store.list_hosts()
        assert after.platform_key != before.platform_key


def test_a_worker_waits_for_a_busy_gpu_as_long_as_the_settings_say(
    start_worker: StartWorker, environment: dict[str, str]
) -> None:
    pytest.importorskip("torch")
    settings = Settings(database_url=environment["LHP_DATABASE_URL"], host="host")
    schema.upgrade(settings.database_url)
    jobs.upgrade(settings)
    with (
        contextlib.closing(Store.open(settings.database_url)) as store,
        contextlib.closing(jobs.JobClient(settings)) as client,
    ):
        start_worker(WORKER_ON_A_BUSY_GPU, LHP_YIELD_S="3600")
        wait_until(lambda: len(store.list_hosts()) == 1)
        grid = Grid(axes=(GridAxis(first=64, count=4, step=8),))
        spec = SweepSpec(workload=MATMUL.describe(), mode="grid", grid=grid)
        sweep, _ = store.create_sweep(spec, host="host")
        client.enqueue(sweep)
        wait_until(lambda: "others use the GPU" in store.get_sweep(sweep.id).error)
        assert store.get_sweep(sweep.id).error.startswith("waiting for at most 3600 s")
        assert not store.load_batches(sweep.id)


def test_the_measurer_flushes_the_cache_as_the_settings_say() -> None:
    # Shown by the refusal: a CPU's isn't flushed.
    with pytest.raises(MeasurementFailedError, match="flushed on a GPU only"):
        create_measurer(Settings(device="cpu", cache="flushed"))
