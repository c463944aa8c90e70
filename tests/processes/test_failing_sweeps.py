"""Sweeps with failures, on both databases, without the job engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from profiler_service.analysis.samples import Samples
from profiler_service.errors import LhpError, MeasurementFailedError, PlatformMismatchError
from profiler_service.grid import Grid
from profiler_service.plan.base import Batch
from profiler_service.plan.spec import Progress, SweepState
from profiler_service.processes.exit_codes import PLATFORM_CHANGED
from profiler_service.processes.sweep_runner import StopRequest
from profiler_service.storage.store import Store
from profiler_service.workload import Workload
from tests.processes.fake_worker import FakeMeasurer, begun, create_runner, create_sweep


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
