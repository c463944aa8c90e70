"""The runner, batch by batch, on both databases, without the job engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from profiler_service.analysis.samples import Samples
from profiler_service.errors import StoreUnavailableError
from profiler_service.plan.spec import Progress, SweepState
from profiler_service.plan.turns import Demand
from profiler_service.storage.store import Store
from tests.processes.fake_worker import HOST, FakeMeasurer, begun, create_runner, create_sweep, spec


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


def test_the_sweep_that_ends_soonest_is_measured_whichever_is_to_run(
    store: Store, log: Path
) -> None:
    def demand(expected_s: float) -> Demand:
        return Demand(expected_s=expected_s, is_awaited=False)

    long = create_sweep(store, 3, demand(60.0))
    runner = create_runner(store, FakeMeasurer(log))
    assert not runner.run_batch(long.id)
    short = create_sweep(store, 2, demand(5.0))
    # The first batch of the long one took no time at all, which says that its others won't either.
    # A sweep that a question waits for comes before both.
    asked = store.create_sweep(
        spec(4, "race"), host=HOST, demand=Demand(expected_s=90.0, is_awaited=True)
    )[0]

    ends = []
    while not runner.run_batch(short.id):
        ends.append([store.get_sweep(each.id).state.is_final for each in (long, short, asked)])

    # Four batches of the race and its end, two more of the long one and its end.
    assert begun(log) == [0, *range(4), 1, 2, *range(2)]
    assert [False, False, True] in ends and [True, False, True] in ends
    assert [False, True, True] not in ends
    assert runner.run_batch(long.id) and runner.run_batch(asked.id)


def test_a_question_that_joins_a_sweep_in_the_background_brings_it_forward(
    store: Store, log: Path
) -> None:
    first, second = create_sweep(store, 2), create_sweep(store, 3)
    again, is_new = store.create_sweep(
        spec(3), host=HOST, demand=Demand(expected_s=60.0, is_awaited=True)
    )
    assert (again.id, is_new) == (second.id, False)
    runner = create_runner(store, FakeMeasurer(log))
    while not store.get_sweep(second.id).state.is_final:
        assert not runner.run_batch(first.id)
    assert begun(log) == [0, 1, 2]


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
