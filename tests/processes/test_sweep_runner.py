"""The runner, batch by batch, on both databases, without the job engine; and the lock."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from profiler_service.analysis.samples import Samples
from profiler_service.errors import (
    DeviceLostError,
    LhpError,
    MeasurementFailedError,
    PlatformMismatchError,
    StoreUnavailableError,
    WorkerAlreadyRunningError,
)
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.kinds.kernels import ALL_KERNELS, kernel_workload
from profiler_service.plan.base import Batch, Planner
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import Progress, SweepSpec, SweepState
from profiler_service.processes.exit_codes import PLATFORM_CHANGED
from profiler_service.processes.sweep_runner import StopRequest, SweepRunner
from profiler_service.processes.worker import create_measurer, hold_lock
from profiler_service.settings import Settings
from profiler_service.storage.store import Store, Sweep
from profiler_service.workload import Workload
from tests.processes.fake_worker import (
    PROTOCOL,
    FakeMeasurer,
    FakePlanner,
    begun,
    platform,
    spec,
    wait_until,
)

HOST = "host"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "begun.txt"


def create_sweep(store: Store, num_batches: int) -> Sweep:
    store.register_host(HOST, platform(), protocol=PROTOCOL, dtypes=["float32"])
    return store.create_sweep(spec(num_batches), host=HOST)[0]


def create_runner(
    store: Store,
    measurer: FakeMeasurer,
    create_planner: Callable[[SweepSpec], Planner] = FakePlanner,
) -> SweepRunner:
    return SweepRunner(store=store, measurer=measurer, create_planner=create_planner)


def test_every_batch_is_measured_once_and_the_curve_is_kept(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 3)
    runner = create_runner(store, FakeMeasurer(log))

    # Three batches, one a call; the fourth call finds nothing left and builds the curve.
    assert [runner.run_batch(sweep.id) for _ in range(4)] == [False, False, False, True]

    assert begun(log) == [0, 1, 2]
    ended = store.get_sweep(sweep.id)
    assert ended.state is SweepState.DONE and ended.curve_id is not None
    # Point i takes i + 1 ms.
    np.testing.assert_allclose(store.load_curve(ended.curve_id).latency_s, [1e-3, 2e-3, 3e-3])
    assert ended.progress is not None and ended.progress.stage == "batch 3"


def test_an_ended_sweep_is_left_alone(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 1)
    store.request_cancel(sweep.id)

    assert create_runner(store, FakeMeasurer(log)).run_batch(sweep.id)

    assert begun(log) == []
    assert store.get_sweep(sweep.id).state is SweepState.CANCELLED


def test_a_new_process_measures_nothing_that_was_kept(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 4)
    first = create_runner(store, FakeMeasurer(log))
    first.run_batch(sweep.id)
    first.run_batch(sweep.id)

    # As after a crash right after the second batch was kept: the job engine may ask for it
    # again, but the store decides, and it says that batch 2 is next.
    second = create_runner(store, FakeMeasurer(log))
    while not second.run_batch(sweep.id):
        pass

    assert begun(log) == [0, 1, 2, 3]
    assert store.get_sweep(sweep.id).state is SweepState.DONE


def test_sweeps_may_take_turns(store: Store, log: Path) -> None:
    one, other = create_sweep(store, 2), create_sweep(store, 3)
    runner = create_runner(store, FakeMeasurer(log))

    assert [runner.run_batch(s.id) for s in (one, other, one, other, one, other, other)] == [
        False,
        False,
        False,
        False,
        True,
        False,
        True,
    ]
    assert begun(log) == [0, 0, 1, 1, 2]


def test_a_curve_tells_when_its_last_batch_was_measured(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 2)
    runner = create_runner(store, FakeMeasurer(log))
    assert not runner.run_batch(sweep.id)
    assert not runner.run_batch(sweep.id)
    last = store.last_measured_at(sweep.id)
    # Another worker, started later, makes the curve.
    assert create_runner(store, FakeMeasurer(log)).run_batch(sweep.id)
    curve_id = store.get_sweep(sweep.id).curve_id
    assert curve_id is not None
    assert store.get_curve_header(curve_id).measured_at == last


def test_a_race_is_run_between_the_batches_of_a_grid_sweep(store: Store, log: Path) -> None:
    grid = create_sweep(store, 3)
    runner = create_runner(store, FakeMeasurer(log))
    assert not runner.run_batch(grid.id)
    race = store.create_sweep(spec(2, "race"), host=HOST)[0]

    # Two batches of the race and its end, then the grid sweep's remaining two and its end.
    assert [runner.run_batch(grid.id) for _ in range(6)] == [False] * 5 + [True]

    assert begun(log) == [0, 0, 1, 1, 2]
    assert store.get_sweep(race.id).state is SweepState.DONE
    ended, waited = store.get_sweep(grid.id), store.get_sweep(race.id)
    assert ended.finished_at is not None and waited.finished_at is not None
    assert waited.finished_at < ended.finished_at
    # The race's own job finds it ended.
    assert runner.run_batch(race.id)
    assert len(begun(log)) == 5


def test_a_failing_race_leaves_the_grid_sweep_alone(store: Store, log: Path) -> None:
    grid = create_sweep(store, 2)
    race = store.create_sweep(spec(1, "race"), host=HOST)[0]
    runner = create_runner(store, FakeMeasurer(log, failing=[0]))
    while not runner.run_batch(grid.id):
        pass
    assert store.get_sweep(race.id).state is SweepState.FAILED
    assert store.get_sweep(grid.id).state is SweepState.DONE


class ForgetfulStore(Store):
    """Is unreachable for the first batch number 1 that it is to keep."""

    failed = False

    def commit_batch(self, sweep_id: str, index: int, samples: Samples, progress: Progress) -> bool:
        if index == 1 and not self.failed:
            self.failed = True
            raise StoreUnavailableError("away")
        return super().commit_batch(sweep_id, index, samples, progress)


def test_a_batch_that_could_not_be_kept_is_measured_again(database_url: str, log: Path) -> None:
    store = ForgetfulStore.open(database_url)
    sweep = create_sweep(store, 2)
    runner = create_runner(store, FakeMeasurer(log))
    assert not runner.run_batch(sweep.id)

    with pytest.raises(StoreUnavailableError):
        runner.run_batch(sweep.id)
    assert store.get_sweep(sweep.id).state is SweepState.RUNNING
    while not runner.run_batch(sweep.id):
        pass

    # The planner had recorded batch 1 already; had it been kept on, batch 1 would be missing.
    assert begun(log) == [0, 1, 1]
    assert [list(samples.point) for samples in store.load_batches(sweep.id)] == [[0], [1]]
    assert store.get_sweep(sweep.id).state is SweepState.DONE
    store.close()


def test_cancelling_keeps_the_curve_of_what_was_measured(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 5)
    runner = create_runner(store, FakeMeasurer(log))
    runner.run_batch(sweep.id)
    runner.run_batch(sweep.id)
    store.request_cancel(sweep.id)

    assert runner.run_batch(sweep.id)

    ended = store.get_sweep(sweep.id)
    assert ended.state is SweepState.CANCELLED and ended.curve_id is not None
    assert store.get_curve_header(ended.curve_id).num_measured == 2
    assert begun(log) == [0, 1]


@pytest.mark.parametrize("mode", ["race", "survey", "grid", "kernels"])
def test_cancelling_a_sweep_that_warms_up_cancels_it(store: Store, log: Path, mode: Mode) -> None:
    """By the planners that there are: their first batch tells of no point yet."""
    workload, grid = LINEAR.describe(), Grid.window((9, 9), (5, 5))
    if mode == "kernels":
        workload, grid = kernel_workload((9, 9), batch=16, dtype="float32"), ALL_KERNELS
    store.register_host(HOST, platform(), protocol=PROTOCOL, dtypes=["float32"])
    sweep, _ = store.create_sweep(SweepSpec(workload=workload, mode=mode, grid=grid), host=HOST)
    runner = create_runner(store, FakeMeasurer(log, batch_s=1e-3), create_planner)
    assert not runner.run_batch(sweep.id)
    store.request_cancel(sweep.id)
    assert runner.run_batch(sweep.id)
    ended = store.get_sweep(sweep.id)
    assert (ended.state, ended.error) == (SweepState.CANCELLED, "")


def test_cancelling_before_the_first_batch_leaves_no_curve(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 5)
    store.start_sweep(sweep.id)
    store.request_cancel(sweep.id)

    assert create_runner(store, FakeMeasurer(log)).run_batch(sweep.id)

    ended = store.get_sweep(sweep.id)
    assert (ended.state, ended.curve_id) == (SweepState.CANCELLED, None)


def test_a_failed_point_does_not_end_the_sweep(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 3)
    runner = create_runner(store, FakeMeasurer(log, failing=[0]))
    while not runner.run_batch(sweep.id):
        pass

    ended = store.get_sweep(sweep.id)
    assert ended.state is SweepState.DONE and ended.curve_id is not None
    curve = store.load_curve(ended.curve_id)
    assert dict(curve.failures) == {0: "too large"} and curve.num_measured == 2


def test_a_sweep_of_failed_points_only_fails_with_the_reason(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 2)
    runner = create_runner(store, FakeMeasurer(log, failing=[0, 1]))
    while not runner.run_batch(sweep.id):
        pass

    ended = store.get_sweep(sweep.id)
    assert ended.state is SweepState.FAILED and ended.curve_id is None
    assert "too large" in ended.error


class BrokenMeasurer(FakeMeasurer):
    error: Exception = MeasurementFailedError("the GPU is lost", hint="restart the host")

    def measure(self, workload: Workload, grid: Grid, batch: Batch) -> Samples:
        raise self.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BrokenMeasurer.error, "the GPU is lost (restart the host)"),
        (LhpError("no hint"), "no hint"),
        (ZeroDivisionError("a fault"), "internal error: ZeroDivisionError('a fault')"),
    ],
)
def test_an_error_ends_the_sweep_with_its_reason(
    store: Store, log: Path, error: Exception, reason: str
) -> None:
    sweep = create_sweep(store, 2)
    measurer = BrokenMeasurer(log)
    measurer.error = error
    runner = create_runner(store, measurer)

    assert runner.run_batch(sweep.id)  # True: nobody is to try for ever

    ended = store.get_sweep(sweep.id)
    assert (ended.state, ended.error) == (SweepState.FAILED, reason)


class LosingMeasurer(FakeMeasurer):
    """Has lost its device when batch 1 is first asked for, until `is_back` says otherwise."""

    is_back: Callable[[], bool]

    def measure(self, workload: Workload, grid: Grid, batch: Batch) -> Samples:
        if batch.round[0] == 1 and not self.is_back():
            raise DeviceLostError("no CUDA device here", hint="check the driver")
        return super().measure(workload, grid, batch)


def test_a_lost_device_pauses_the_sweep_with_the_reason_until_it_is_back(
    store: Store, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = create_sweep(store, 3)
    measurer = LosingMeasurer(log)
    looks = iter([False, False, False, True, False, True])
    measurer.is_back = lambda: next(looks)
    runner = SweepRunner(
        store=store, measurer=measurer, create_planner=FakePlanner, first_pause_s=0.001
    )
    assert not runner.run_batch(sweep.id)

    for _ in range(3):
        assert not runner.run_batch(sweep.id)
        paused = store.get_sweep(sweep.id)
        assert paused.state is SweepState.RUNNING
        assert paused.error == "no CUDA device here (check the driver)"
        assert begun(log) == [0]
    assert not runner.run_batch(sweep.id)

    assert store.get_sweep(sweep.id).error == ""
    assert begun(log) == [0, 1]
    # Twice as long each time; lost again, later on, it begins anew.
    other = create_sweep(store, 4)
    while not runner.run_batch(other.id):
        pass
    pauses = [r.getMessage().rpartition(" in ")[2] for r in caplog.records if r.levelname[0] == "W"]
    assert pauses == ["0.001 s", "0.002 s", "0.004 s", "0.001 s"]
    while not runner.run_batch(sweep.id):
        pass
    ended = store.get_sweep(sweep.id)
    assert ended.state is SweepState.DONE and ended.curve_id is not None
    assert store.get_curve_header(ended.curve_id).num_measured == 3
    assert begun(log) == [0, 1, 0, 1, 2, 3, 2]


@pytest.mark.parametrize("way", ["cancel", "stop"])
def test_a_paused_sweep_can_be_cancelled_and_its_worker_stopped(
    store: Store, log: Path, way: str
) -> None:
    sweep = create_sweep(store, 3)
    measurer = LosingMeasurer(log)
    measurer.is_back = lambda: False
    runner = SweepRunner(
        store=store, measurer=measurer, create_planner=FakePlanner, first_pause_s=3600
    )
    ended: list[object] = []

    def work() -> None:
        try:
            while not runner.run_batch(sweep.id):
                pass
            ended.append(store.get_sweep(sweep.id).state)
        except StopRequest:
            ended.append(StopRequest)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: store.get_sweep(sweep.id).error != "")
    if way == "cancel":
        store.request_cancel(sweep.id)
    else:
        runner.stop()
    thread.join(30)

    left = store.get_sweep(sweep.id)
    if way == "cancel":
        assert ended == [SweepState.CANCELLED]
        assert left.error == "" and left.curve_id is not None
    else:
        assert ended == [StopRequest]
        assert left.state is SweepState.RUNNING and "no CUDA device" in left.error


def test_samples_of_two_platforms_are_never_mixed(store: Store, log: Path) -> None:
    begun_before, queued = create_sweep(store, 3), create_sweep(store, 2)
    create_runner(store, FakeMeasurer(log)).run_batch(begun_before.id)
    store.start_sweep(queued.id, measured_as="something else")  # started, but nothing measured

    other = create_runner(store, FakeMeasurer(log, model="another GPU"))
    assert other.run_batch(begun_before.id)
    while not other.run_batch(queued.id):
        pass

    ended = store.get_sweep(begun_before.id)
    assert ended.state is SweepState.FAILED and "platform" in ended.error
    assert store.get_sweep(queued.id).state is SweepState.DONE
    assert begun(log) == [0, 0, 1]


def test_a_change_of_platform_ends_the_worker_and_leaves_the_sweep(store: Store, log: Path) -> None:
    class MovedMeasurer(FakeMeasurer):
        def measure(self, workload: Workload, grid: Grid, batch: Batch) -> Samples:
            if batch.round[0] == 1:
                raise PlatformMismatchError("the platform changed", hint="start again")
            return super().measure(workload, grid, batch)

    sweep = create_sweep(store, 2)
    runner = create_runner(store, MovedMeasurer(log))
    assert not runner.run_batch(sweep.id)
    assert not runner.platform_changed.is_set()

    with pytest.raises(StopRequest) as request:
        runner.run_batch(sweep.id)

    assert request.value.code == PLATFORM_CHANGED
    assert runner.platform_changed.is_set()
    assert store.get_sweep(sweep.id).state is SweepState.RUNNING
    # Nothing is measured from here on, whatever is asked for.
    other = create_sweep(store, 3)
    with pytest.raises(StopRequest):
        runner.run_batch(other.id)
    assert begun(log) == [0]


@pytest.mark.parametrize(
    ("point", "number", "calls"),
    # The fake plan begins with one visit to point 0, in round 0, of one call.
    [([2], [0], 1), ([0], [1], 1), ([0, 0], [0, 0], 1), ([], [], 1), ([0], [0], 2)],
)
def test_samples_that_do_not_fit_the_plan_fail_the_sweep(
    store: Store, log: Path, point: list[int], number: list[int], calls: int
) -> None:
    sweep = create_sweep(store, 3)
    foreign = Samples(
        point=np.array(point, dtype=np.int32),
        round=np.array(number, dtype=np.int32),
        time_s=np.zeros(len(point), dtype=np.float32),
        latency_s=np.ones(len(point)),
        calls=calls,
        unstable=np.zeros(len(point), dtype=np.bool_),
    )
    progress = Progress(fraction=0, stage="", num_samples=1, seconds=0)
    store.start_sweep(sweep.id)
    store.commit_batch(sweep.id, 0, foreign, progress)

    assert create_runner(store, FakeMeasurer(log)).run_batch(sweep.id)
    assert "don't fit the plan" in store.get_sweep(sweep.id).error


def test_stopping_breaks_off_a_long_batch_and_leaves_the_sweep_open(
    store: Store, log: Path
) -> None:
    sweep = create_sweep(store, 2)
    begins = threading.Event()

    class LongMeasurer(FakeMeasurer):
        def measure(self, workload: Workload, grid: Grid, batch: Batch) -> Samples:
            begins.set()
            return super().measure(workload, grid, batch)

    runner = create_runner(store, LongMeasurer(log, batch_s=60))
    raised: list[BaseException] = []

    def work() -> None:
        try:
            runner.run_batch(sweep.id)
        except StopRequest as request:
            raised.append(request)

    thread = threading.Thread(target=work)
    thread.start()
    assert begins.wait(30)
    runner.stop()
    thread.join(30)

    assert len(raised) == 1 and not isinstance(raised[0], Exception)
    assert store.get_sweep(sweep.id).state is SweepState.RUNNING
    assert store.load_batches(sweep.id) == []
    with pytest.raises(StopRequest):
        runner.run_batch(sweep.id)


@pytest.fixture
def _data_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


@pytest.mark.usefixtures("_data_dir")
def test_the_lock_admits_one_worker_a_host() -> None:
    with hold_lock("a/b c"):
        with (
            pytest.raises(WorkerAlreadyRunningError, match=rf"process {os.getpid()}\b") as refusal,
            hold_lock("a/b c"),
        ):
            pass
        assert refusal.value.hint
        with hold_lock("another"):
            pass
    with hold_lock("a/b c"):  # free again
        pass


def test_the_measurer_flushes_the_cache_as_the_settings_say() -> None:
    # Shown by the refusal: a CPU's isn't flushed.
    with pytest.raises(MeasurementFailedError, match="flushed on a GPU only"):
        create_measurer(Settings(device="cpu", cache="flushed"))
