"""Sweeps that are cancelled, stopped or paused, on both databases, without the job engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from profiler_service.analysis.samples import Samples
from profiler_service.errors import DeviceLostError
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.kinds.kernels import ALL_KERNELS, kernel_workload
from profiler_service.plan.base import Batch
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.processes.keeper_line import Told
from profiler_service.processes.sweep_runner import StopRequest, SweepRunner
from profiler_service.storage.store import Store
from profiler_service.workload import Workload
from tests.processes.fake_worker import (
    HOST,
    PROTOCOL,
    FakeMeasurer,
    FakePlanner,
    begun,
    create_runner,
    create_sweep,
    platform,
    wait_until,
)


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
    # The first one had only one batch left, so it was ended before the other began.
    ended = store.get_sweep(sweep.id)
    assert ended.state is SweepState.DONE and ended.curve_id is not None
    assert store.get_curve_header(ended.curve_id).num_measured == 3
    assert begun(log) == [0, 1, 2, 0, 1, 2, 3]


@pytest.mark.parametrize("how", ["is back", "is cancelled"])
def test_a_worker_says_that_it_is_paused_and_why_until_it_measures_or_nothing_is_left(
    store: Store, log: Path, how: str
) -> None:
    sweep = create_sweep(store, 3)
    measurer = LosingMeasurer(log)
    looks = iter([False, False, True, True, True])
    measurer.is_back = lambda: next(looks)
    said: list[Told] = []

    def tell(told: Told) -> None:
        said.append(told)

    runner = SweepRunner(
        store=store,
        measurer=measurer,
        create_planner=FakePlanner,
        first_pause_s=0.001,
        tell=tell,
    )
    for _ in range(3):  # the second and the third one are in vain
        assert not runner.run_batch(sweep.id)
    paused = Told(state="paused", reason="no CUDA device here (check the driver)")
    assert said == [paused] * 2

    if how == "is cancelled":
        store.request_cancel(sweep.id)
    runner.run_batch(sweep.id)
    assert said == [paused, paused, Told(state="measuring")]

    while not runner.run_batch(sweep.id):
        pass
    assert said[3:] == []


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
