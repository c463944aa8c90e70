"""Long batches are broken off for short questions, and nothing of them is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from profiler_service.analysis.samples import Samples
from profiler_service.grid import Grid
from profiler_service.plan.base import Batch, Part
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.plan.turns import Demand, Turns, TurnSettings
from profiler_service.processes.sweep_runner import SweepRunner
from profiler_service.storage.store import Store, Sweep
from profiler_service.workload import Workload
from tests.processes.fake_worker import HOST, FakeMeasurer, FakePlanner, create_sweep, spec

LONG = Demand(expected_s=600.0, is_awaited=False)
SHORT = Demand(expected_s=2.0, is_awaited=True)


class OneBatchPlanner(FakePlanner):
    """Grid sweeps have one batch, which visits every point; others have one for each point."""

    def next_batch(self) -> Batch | None:
        if self._spec.mode != "grid":
            return super().next_batch()
        if self._batches:
            return None
        points = np.arange(self._spec.grid.size, dtype=np.int32)
        return Batch(point=points, round=np.zeros_like(points))


class VisitingMeasurer(FakeMeasurer):
    """Makes one visit after the other, and asks after each whether to yield."""

    def __init__(self, log: Path, after: dict[int, Callable[[], object]]) -> None:
        """`after` does something once so many visits have been made."""
        super().__init__(log)
        self.visited: list[tuple[str, int]] = []
        self._after = after

    def measure_part(
        self, workload: Workload, grid: Grid, batch: Batch, *, must_yield: Callable[[int], bool]
    ) -> Part:
        name = "question" if grid.size == 2 else "long"
        for done, point in enumerate(batch.point.tolist(), 1):
            self.visited.append((name, point))
            self._after.pop(len(self.visited), lambda: None)()
            if must_yield(done) and done < len(batch.point):
                break
        samples = self.measure(workload, grid, batch.select(np.arange(done)))
        rest = batch.select(np.arange(done, len(batch.point)))
        return Part(samples=samples, rest=rest if len(rest.point) else None)


def runner_of(store: Store, measurer: FakeMeasurer) -> SweepRunner:
    return SweepRunner(
        store=store,
        measurer=measurer,
        create_planner=OneBatchPlanner,
        turns=Turns(TurnSettings(unbroken_s=0.0)),
    )


def ask_question(store: Store) -> Sweep:
    return store.create_sweep(spec(2, "race"), host=HOST, demand=SHORT)[0]


def run_to_the_end(runner: SweepRunner, sweep: Sweep) -> None:
    while not runner.run_batch(sweep.id):
        pass


def test_a_question_is_answered_in_the_midst_of_a_batch(store: Store, log: Path) -> None:
    long = create_sweep(store, 5, LONG)
    kept_before: list[list[Samples]] = []
    measurer = VisitingMeasurer(
        log,
        {
            2: lambda: ask_question(store),
            4: lambda: kept_before.append(store.load_batches(long.id)),
        },
    )
    run_to_the_end(runner_of(store, measurer), long)

    # The visits made before are made once, in the planned order.
    assert measurer.visited == [
        *(("long", 0), ("long", 1)),
        *(("question", 0), ("question", 1)),
        *(("long", 2), ("long", 3), ("long", 4)),
    ]
    # The batch is kept as a whole, so that a replay sees what the planner saw.
    assert kept_before == [[]]
    assert [list(batch.point) for batch in store.load_batches(long.id)] == [[0, 1, 2, 3, 4]]
    ended = store.get_sweep(long.id)
    assert ended.state is SweepState.DONE and ended.curve_id is not None
    np.testing.assert_allclose(
        store.load_curve(ended.curve_id).latency_s, [1e-3, 2e-3, 3e-3, 4e-3, 5e-3]
    )


def test_a_batch_may_be_broken_off_again_and_again(store: Store, log: Path) -> None:
    long = create_sweep(store, 4, LONG)
    measurer = VisitingMeasurer(log, {n: lambda: ask_question(store) for n in (1, 4, 7)})
    run_to_the_end(runner_of(store, measurer), long)
    names = [name[0] for name, _ in measurer.visited]
    assert "".join(names) == "lqqlqqlqql"
    assert [list(batch.point) for batch in store.load_batches(long.id)] == [[0, 1, 2, 3]]


def test_what_nobody_waits_for_breaks_no_question_off(store: Store, log: Path) -> None:
    long = create_sweep(store, 4, Demand(expected_s=600.0, is_awaited=True))

    def compare() -> None:
        store.create_sweep(
            spec(2, "race"), host=HOST, demand=Demand(expected_s=1.0, is_awaited=False)
        )

    measurer = VisitingMeasurer(log, {1: compare})
    run_to_the_end(runner_of(store, measurer), long)
    assert [name for name, _ in measurer.visited] == ["long"] * 4


def test_a_killed_worker_loses_only_the_batch_that_was_broken_off(store: Store, log: Path) -> None:
    long = create_sweep(store, 4, LONG)
    first = VisitingMeasurer(log, {2: lambda: ask_question(store)})
    assert not runner_of(store, first).run_batch(long.id)
    assert first.visited == [("long", 0), ("long", 1)]

    second = VisitingMeasurer(log, {})
    run_to_the_end(runner_of(store, second), long)
    assert second.visited == [
        *(("question", 0), ("question", 1)),
        *(("long", 0), ("long", 1), ("long", 2), ("long", 3)),
    ]
    assert [list(batch.point) for batch in store.load_batches(long.id)] == [[0, 1, 2, 3]]


def test_a_long_batch_is_cancelled_before_its_end(store: Store, log: Path) -> None:
    long = create_sweep(store, 1000, LONG)
    measurer = VisitingMeasurer(log, {3: lambda: store.request_cancel(long.id)})
    run_to_the_end(runner_of(store, measurer), long)
    assert measurer.visited == [("long", 0), ("long", 1), ("long", 2)]
    assert store.get_sweep(long.id).state is SweepState.CANCELLED


def test_a_sweep_of_long_visits_gets_on_beside_short_ones(store: Store, log: Path) -> None:
    """Its turn is due all the time: then it makes one visit, whoever waits."""
    long = create_sweep(store, 3, LONG)
    ask_question(store)
    measurer = VisitingMeasurer(log, {})
    runner = SweepRunner(
        store=store,
        measurer=measurer,
        create_planner=OneBatchPlanner,
        turns=Turns(TurnSettings(unbroken_s=0.0, patience_s=0.0)),
    )
    assert not runner.run_batch(long.id)
    assert measurer.visited == [("long", 0)]
    run_to_the_end(runner, long)
    assert store.get_sweep(long.id).state is SweepState.DONE


def test_planners_see_whole_batches(store: Store, log: Path) -> None:
    recorded: list[int] = []

    class WatchedPlanner(OneBatchPlanner):
        def record(self, samples: Samples) -> None:
            recorded.append(len(samples))
            super().record(samples)

    def create(spec: SweepSpec) -> WatchedPlanner:
        return WatchedPlanner(spec)

    long = create_sweep(store, 6, LONG)
    measurer = VisitingMeasurer(log, {n: lambda: ask_question(store) for n in (2, 5)})
    runner = SweepRunner(
        store=store,
        measurer=measurer,
        create_planner=create,
        turns=Turns(TurnSettings(unbroken_s=0.0)),
    )
    run_to_the_end(runner, long)
    # Two questions of two batches of one visit, and the long sweep's one batch.
    assert sorted(recorded) == [1, 1, 1, 1, 6]
