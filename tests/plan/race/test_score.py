"""What was predicted is measured after the race, and has no part in its answer."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.samples import Samples
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.base import Batch
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import Mode
from profiler_service.plan.race.ladder import LadderPlanner
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.replay import replay
from profiler_service.plan.spec import SweepSpec
from tests.plan.asking import curve_from
from tests.plan.predicting import learn_nothing
from tests.synthetic import F64, SyntheticDevice, stairs

GRID = Grid.window((197, 131), (32, 32))
SLOW = (229, 163)
"""The last point, which no race judges."""
SCORING = "measuring what was predicted"
RACES: tuple[Mode, ...] = ("race", "nearest", "largest")


def truth_of(scale: float = 1.0) -> F64:
    """Multiples of 16 are faster. The last point takes 1.5 times as long as the first one."""
    truth = scale * stairs(GRID, 16, 0.06)
    truth[-1] = 1.5 * truth[0]
    return truth


def spec_of(
    dims: tuple[int, ...] | None, mode: Mode = "race", *, budget_s: float | None = None
) -> SweepSpec:
    """A sweep for which these dims are predicted; nothing is if there are none."""
    learned = None if dims is None else learn_nothing(GRID, dims)
    return SweepSpec(
        workload=LINEAR.describe(),
        mode=mode,
        grid=GRID,
        seed=1,
        learned=learned,
        budget_s=budget_s,
    )


@dataclasses.dataclass
class Run:
    """A race, with its batches before and in the score."""

    planner: RacePlanner | LadderPlanner
    batches: list[Samples]
    scoring: list[Batch]
    before: LatencyCurve | None
    """The curve when the race had its answer; None if there was no score."""


def run(
    spec: SweepSpec, truth: F64 | None = None, *, failing_in_score: frozenset[int] = frozenset()
) -> Run:
    planner = create_planner(spec)
    assert isinstance(planner, RacePlanner | LadderPlanner)
    device = SyntheticDevice(truth_of() if truth is None else truth, noise=0.01, seed=3)
    batches: list[Samples] = []
    scoring: list[Batch] = []
    before = None
    while (batch := planner.next_batch()) is not None:
        if planner.progress().stage == SCORING:
            if not scoring:
                before = curve_from(planner)
            scoring.append(batch)
            device.failing = failing_in_score
        batches.append(device.measure(batch))
        planner.record(batches[-1])
    return Run(planner=planner, batches=batches, scoring=scoring, before=before)


@pytest.mark.parametrize("mode", RACES)
def test_a_pair_that_no_final_has_judged_is_measured_in_a_few_rounds(mode: Mode) -> None:
    """24 rounds of two points, in four arenas of the two processes that judge."""
    found = run(spec_of(SLOW, mode))
    assert len(found.scoring) == 4
    for batch in found.scoring:
        assert len(batch.point) == 12
        assert set(batch.point.tolist()) == {0, GRID.size - 1}
        # In each round, each point once.
        assert [len(set(pair)) for pair in batch.point.reshape(6, 2).tolist()] == [2] * 6
    assert {batch.child % 4 for batch in found.scoring} == {1, 3}
    rounds = np.concatenate([batch.round for batch in found.scoring])
    assert len(np.unique(rounds)) == 24
    assert rounds.min() > max(batch.round.max() for batch in found.batches[:-4])
    score = found.planner.find_score()
    assert score is not None and score.num_pairs == 24
    # 1 % heavy-tailed noise of 24 pairs, and what may differ between two processes.
    assert score.ratio == pytest.approx(1.5, rel=0.02)
    assert score.low < 1.5 < score.high
    assert score.verdict == "slower"


@pytest.mark.parametrize("mode", RACES)
def test_the_score_changes_nothing_in_the_answer(mode: Mode) -> None:
    found = run(spec_of(SLOW, mode))
    before, after = found.before, curve_from(found.planner)
    assert before is not None
    for field in ("latency_s", "low_s", "high_s", "num_samples", "status"):
        np.testing.assert_array_equal(getattr(before, field), getattr(after, field), field)
    for field in ("target", "ratio", "ratio_low", "ratio_high", "rival"):
        old, new = getattr(before.answers, field), getattr(after.answers, field)
        np.testing.assert_array_equal(old, new, field)
    assert (before.confirmed, before.failures) == (after.confirmed, after.failures)
    # It costs time, which is told.
    cost = {"seconds", "batches", "samples", "calls"}
    old, new = before.evidence.to_json(), after.evidence.to_json()
    assert {name for name in new if new[name] != old[name]} == cost
    assert new["batches"] == old["batches"] + 4
    assert new["samples"] == old["samples"] + 48


def test_the_race_itself_is_the_same_whatever_pair_is_predicted() -> None:
    one, other = run(spec_of(SLOW)), run(spec_of((200, 140)))
    assert one.scoring and other.scoring
    for old, new in zip(one.batches[:-4], other.batches[:-4], strict=True):
        np.testing.assert_array_equal(old.point, new.point)
        np.testing.assert_array_equal(old.latency_s, new.latency_s)


@pytest.mark.parametrize("mode", RACES)
def test_a_pair_that_was_judged_isnt_measured_again(mode: Mode) -> None:
    """The race is the same whatever pair is predicted. So another one says who is judged."""
    rivals = [pair.rival for pair in curve_from(run(spec_of(SLOW, mode)).planner).confirmed]
    found = run(spec_of(rivals[0], mode))
    assert not found.scoring
    pair = curve_from(found.planner).confirmed[0]
    score = found.planner.find_score()
    assert score is not None
    assert pair.rival == rivals[0]
    assert (score.ratio, score.low, score.high) == (pair.ratio, pair.low, pair.high)
    assert (score.verdict, score.num_pairs) == (pair.verdict, pair.num_pairs)


@pytest.mark.parametrize("mode", RACES)
def test_without_a_prediction_there_is_no_score(mode: Mode) -> None:
    for dims in (None, GRID.first):
        found = run(spec_of(dims, mode))
        assert not found.scoring
        assert found.planner.find_score() is None


@pytest.mark.parametrize("mode", RACES)
def test_a_point_that_failed_isnt_scored(mode: Mode) -> None:
    """The third batch begins to look at random points. One of them is predicted, and fails."""
    looked = run(spec_of(SLOW, mode)).batches[2].point
    point = int(looked[looked > 0][0])
    planner = create_planner(spec_of(GRID.dims(point), mode))
    assert isinstance(planner, RacePlanner | LadderPlanner)
    device = SyntheticDevice(truth_of(), noise=0.01, seed=3, failing=frozenset({point}))
    while (batch := planner.next_batch()) is not None:
        assert planner.progress().stage != SCORING
        planner.record(device.measure(batch))
    assert point in curve_from(planner).failures
    assert planner.find_score() is None


def test_no_candidate_is_scored() -> None:
    """Of the pair's grid, the two points beside them are never measured."""
    grid = Grid.pair((197, 131), (208, 144))
    beside = grid.dims(1)
    spec = SweepSpec(
        workload=LINEAR.describe(), mode="race", grid=grid, learned=learn_nothing(grid, beside)
    )
    planner = create_planner(spec)
    assert isinstance(planner, RacePlanner | LadderPlanner)
    device = SyntheticDevice(np.array([1e-3, 2e-3, 2e-3, 0.9e-3]), noise=0.01)
    while (batch := planner.next_batch()) is not None:
        assert 1 not in batch.point
        planner.record(device.measure(batch))
    assert planner.find_score() is None


@pytest.mark.parametrize("mode", RACES)
@pytest.mark.parametrize("point", [0, GRID.size - 1], ids=["queried", "predicted"])
def test_what_fails_in_the_score_leaves_the_answer_as_it_was(mode: Mode, point: int) -> None:
    found = run(spec_of(SLOW, mode), failing_in_score=frozenset({point}))
    assert len(found.scoring) == 1, "the score ends at once"
    before, after = found.before, curve_from(found.planner)
    assert before is not None
    assert after.answers.target[0] == before.answers.target[0] != 0
    assert after.failures == {}
    assert after.evidence.settled == before.evidence.settled
    assert found.planner.find_score() is None
    assert found.planner.progress().fraction == 1.0


@pytest.mark.parametrize("mode", RACES)
def test_kept_batches_restore_the_score(mode: Mode) -> None:
    found = run(spec_of(SLOW, mode))
    again = create_planner(spec_of(SLOW, mode))
    assert isinstance(again, RacePlanner | LadderPlanner)
    replay(again, found.batches)
    assert again.next_batch() is None
    assert again.find_score() == found.planner.find_score() is not None
    # Half of the score: it goes on with the third arena.
    half = create_planner(spec_of(SLOW, mode))
    assert isinstance(half, RacePlanner | LadderPlanner)
    replay(half, found.batches[:-2])
    third = half.next_batch()
    assert third is not None
    assert third.point.tolist() == found.scoring[2].point.tolist()
    score = half.find_score()
    assert score is not None and score.num_pairs == 12


def test_asking_for_the_score_changes_nothing() -> None:
    quiet = run(spec_of(SLOW))
    planner = create_planner(spec_of(SLOW))
    assert isinstance(planner, RacePlanner | LadderPlanner)
    for samples in quiet.batches:
        planner.find_score()
        batch = planner.next_batch()
        assert batch is not None and batch.point.tolist() == samples.point.tolist()
        planner.record(samples)
    assert planner.find_score() == planner.find_score() == quiet.planner.find_score()


def scored_s(found: Run) -> float:
    return sum(batch.seconds for batch in found.batches[len(found.batches) - len(found.scoring) :])


def race_s(found: Run) -> float:
    return sum(batch.seconds for batch in found.batches) - scored_s(found)


@pytest.mark.parametrize("call_s", [2e-5, 1e-3, 1e-2, 3e-2])
def test_nobody_waits_long_for_the_score(call_s: float) -> None:
    """0.1 s or 5 % of the race. A visit has two calls; the last point's take 1.5 times as long."""
    truth = truth_of(call_s / truth_of()[0])
    found = run(spec_of(SLOW), truth)
    assert scored_s(found) <= 1.3 * max(0.1, 0.05 * race_s(found))
    if call_s <= 1e-3:  # 24 rounds of two visits are 0.12 s of calls of 1 ms
        assert found.planner.find_score() is not None


def test_with_calls_too_long_for_a_round_in_each_arena_nothing_is_scored() -> None:
    """Calls of a second: a visit is 2 s, a race of 14 s has 0.7 s for the score."""
    found = run(spec_of(SLOW), truth_of(1.0 / truth_of()[0]))
    assert not found.scoring
    assert found.planner.find_score() is None


@pytest.mark.parametrize("mode", RACES)
def test_the_score_keeps_to_the_callers_budget(mode: Mode) -> None:
    """Calls of 1 ms. The score would take 0.1 s after 0.5 s."""
    truth = truth_of(1e-3 / truth_of()[0])
    for budget_s in (0.5, 0.52, 1.0, 2.0):
        found = run(spec_of(SLOW, mode, budget_s=budget_s), truth)
        # At most the last batch is over: of the score, an arena of 0.04 s.
        if found.scoring:
            assert race_s(found) + scored_s(found) <= budget_s + 0.04
    assert not run(spec_of(SLOW, mode, budget_s=1e-3), truth).scoring


def test_fewer_rounds_are_scored_by_other_settings() -> None:
    settings = replace(RACE, score=replace(RACE.score, rounds=9, arenas=2))
    for planner in (
        RacePlanner(spec_of(SLOW), settings),
        LadderPlanner(spec_of(SLOW, "nearest"), settings),
    ):
        SyntheticDevice(truth_of(), noise=0.01).run(planner)
        score = planner.find_score()
        # Four rounds in each arena.
        assert score is not None and score.num_pairs == 8
