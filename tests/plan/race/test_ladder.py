"""Ladders: the nearest and the largest point that is no slower, found and confirmed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.lhp import Prefer, find_costs
from profiler_service.analysis.samples import Samples
from profiler_service.errors import MeasurementFailedError
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import Mode
from profiler_service.plan.race.ladder import LadderPlanner
from profiler_service.plan.race.stages import End
from profiler_service.plan.replay import replay
from profiler_service.plan.spec import RaceTerms, SweepSpec, window_growth
from tests.plan.asking import curve_from
from tests.synthetic import F64, SyntheticDevice, smooth, stairs

OF_AXES: dict[int, dict[str, object]] = {
    1: {"vary": "out_features", "in_features": 64},
    2: {},
    3: {"vary": "batch,out_features,in_features"},
}
"""Number of axes → what varies."""
LADDERS: tuple[Mode, ...] = ("nearest", "largest")


def spec_of(
    dims: tuple[int, ...],
    mode: Mode,
    *,
    seed: int = 0,
    slack: float = 0.0,
    settle_s: float = 3.0,
    budget_s: float | None = None,
) -> SweepSpec:
    return SweepSpec(
        workload=LINEAR.describe(OF_AXES[len(dims)]),
        mode=mode,
        grid=Grid.window(dims, window_growth(dims)),
        seed=seed,
        budget_s=budget_s,
        terms=RaceTerms(slack=slack, settle_s=settle_s),
    )


def quiet(truth: F64, *, seed: int = 0) -> SyntheticDevice:
    return SyntheticDevice(truth, noise=0.01, drift=0.02, seed=seed)


def climb(spec: SweepSpec, device: SyntheticDevice) -> LadderPlanner:
    planner = create_planner(spec)
    device.run(planner)
    assert isinstance(planner, LadderPlanner)
    return planner


def answer_of(planner: LadderPlanner) -> int:
    return int(curve_from(planner).answers.target[0])


def best_of(spec: SweepSpec, truth: F64, prefer: Prefer, share: float) -> int:
    """The preferred point that takes less than `share` of the first one's time; else the first."""
    holds = np.flatnonzero(truth < share * truth[0])
    costs = find_costs(prefer, spec.grid.first, spec.grid.all_dims()[holds])
    return int(holds[costs.argmin()]) if len(holds) else 0


def matmul_stairs(grid: Grid) -> F64:
    return stairs(grid, 16)


@pytest.mark.parametrize("mode", LADDERS)
@pytest.mark.parametrize("dims", [(1197, 317), (701, 333), (90, 70, 50)])
def test_the_preferred_point_that_holds_is_found(mode: Mode, dims: tuple[int, ...]) -> None:
    """Multiples of 16 are 6 % faster an axis; nothing else is within 2 % of the queried point."""
    found = 0
    for seed in range(6):
        spec = spec_of(dims, mode, seed=seed)
        # Steps of 6 %, without the growth between them: the queried point is slow on every axis.
        all_dims = spec.grid.all_dims()
        grown = find_costs("nearest", spec.grid.first, all_dims)
        slow = (all_dims % 16 != 0).sum(axis=1)
        truth = 2e-4 * 1.06**slow * (1 + 0.5 * grown)
        wanted = best_of(spec, truth, mode, 0.99)  # type: ignore[arg-type]
        assert wanted, "something must be there to find"
        planner = climb(spec, quiet(truth, seed=seed))
        target = answer_of(planner)
        assert truth[target] < truth[0]
        cost = find_costs(mode, spec.grid.first, all_dims)  # type: ignore[arg-type]
        found += target != 0 and cost[target] <= cost[wanted]
    assert found >= 5


def test_one_axis_is_a_window_too() -> None:
    spec = spec_of((701,), "nearest")
    # 704 is the first multiple of 16 above 701, 784 the last one up to 701 + 87. By 784, latency
    # has grown by 784² / 701², which is more than 6 %: the last one below 6 % is 720.
    truth = stairs(spec.grid, 16, 0.08)
    for mode, wanted in (("nearest", 704), ("largest", 720)):
        planner = climb(replace(spec, mode=mode), quiet(truth))  # type: ignore[arg-type]
        assert spec.grid.dims(answer_of(planner)) == (wanted,)


def test_a_window_of_one_point_is_its_own_answer() -> None:
    spec = SweepSpec(
        workload=LINEAR.describe(), mode="nearest", grid=Grid.window((701, 333), (0, 0))
    )
    planner = climb(spec, SyntheticDevice(np.full(1, 1e-4)))
    assert answer_of(planner) == 0
    assert curve_from(planner).evidence.settled is True


def most_false(seeds: int, share: float = 0.025) -> int:
    """The number of false answers that a share of 2.5 % exceeds once in a thousand times."""
    left, number = 1.0, -1
    while left > 0.001:
        number += 1
        left -= math.comb(seeds, number) * share**number * (1 - share) ** (seeds - number)
    return number


def test_noise_alone_moves_no_answer() -> None:
    """A smooth curve under 3 % heavy-tailed noise and drift: every larger point is slower.

    Each answer is false with probability 2.5 % at most, by the error that all trials share.
    """
    false = 0
    for seed in range(100):
        dims = tuple(np.random.default_rng(seed).integers(64, 260, 1 + seed // 50).tolist())
        spec = spec_of(dims, LADDERS[seed % 2], seed=seed, budget_s=0.15)
        false += answer_of(climb(spec, SyntheticDevice(smooth(spec.grid), seed=seed + 1000))) != 0
    assert false <= most_false(100)
    assert false <= 2, "points that are clearly slower are taken for faster far less often"


def test_at_the_limit_itself_claims_are_as_rare_as_promised() -> None:
    """Every larger point is slower by 1 % exactly, which is the slack: each claim is false.

    The host is so quiet that the trials are long enough for claims.
    """
    false = 0
    for seed in range(100):
        spec = spec_of((100,), LADDERS[seed % 2], seed=seed, slack=0.01, budget_s=0.3)
        truth = np.full(spec.grid.size, 1.01e-4)
        truth[0] = 1e-4
        false += answer_of(climb(spec, quiet(truth, seed=seed))) != 0
    assert false <= most_false(100)


def test_slack_lets_an_equal_point_count_as_no_slower() -> None:
    """All points take equally long: the next one is at most 1 % slower, and none is faster."""
    for mode, wanted in (("nearest", {(701, 333), (702, 333)}), ("largest", {(788, 374)})):
        for slack in (0.0, 0.02):
            spec = spec_of((701, 333), mode, slack=slack, budget_s=0.8)  # type: ignore[arg-type]
            device = SyntheticDevice(np.full(spec.grid.size, 1e-4), noise=0.005, drift=0.01)
            planner = climb(spec, device)
            target = spec.grid.dims(answer_of(planner))
            if slack:
                assert target in wanted - {(701, 333)}
                assert planner.ends["confirm"] is End.SETTLED
                pair = next(p for p in curve_from(planner).confirmed if p.rival == target)
                assert pair.high < 1.02
            else:
                assert target == (701, 333)


def test_only_points_above_the_queried_one_count() -> None:
    spec = spec_of((701, 333), "nearest", slack=0.5)
    planner = climb(spec, SyntheticDevice(smooth(spec.grid)))
    # With so much slack everything is no slower. The queried point itself is no answer.
    assert spec.grid.dims(answer_of(planner)) == (702, 333)


@pytest.mark.parametrize("mode", LADDERS)
def test_calls_of_a_second_end_in_the_time_of_any_race(mode: Mode) -> None:
    """A race of long calls has 14 s: a look of 12 rounds, 24 visits of two calls, doesn't fit in.

    So nothing is tried. Calibration has shown that, with 4 visits.
    """
    spec = spec_of((701, 333), mode)
    device = SyntheticDevice(1.0 + smooth(spec.grid))
    planner = climb(spec, device)
    assert device.clock_s < 4 * 2 * 1.1
    curve = curve_from(planner)
    assert curve.answers.target[0] == 0
    assert (curve.evidence.settled, curve.evidence.cut_short) == (False, True)
    assert planner.ends["confirm"] is End.OUT_OF_TIME


@pytest.mark.parametrize("call_s", [1e-4, 3e-3, 3e-2, 0.3])
def test_no_ladder_takes_longer_than_it_may(call_s: float) -> None:
    for budget_s in (2.0, None):
        spec = spec_of((401, 401), "largest", settle_s=1.0, budget_s=budget_s)
        truth = call_s * smooth(spec.grid) / smooth(spec.grid)[0]
        device = SyntheticDevice(truth)
        planner = climb(spec, device)
        allowed_s = curve_from(planner).evidence.budget_s
        assert allowed_s is not None
        assert allowed_s <= (2.0 if budget_s else 1.1 * max(2.0, min(400 * call_s, 20.0)))
        # Calibration comes first, with 24 visits at most. The last batch of half a second may have
        # points that take up to 1.3 times as long as the time of visits so far.
        assert device.clock_s < allowed_s + 0.2 + min(24, 0.1 / call_s + 4) * 2 * call_s


def test_with_a_budget_for_nothing_it_says_so() -> None:
    spec = spec_of((401, 401), "nearest", budget_s=1e-4)
    planner = climb(spec, SyntheticDevice(stairs(spec.grid, 16)))
    curve = curve_from(planner)
    assert curve.answers.target[0] == 0
    assert (curve.evidence.cut_short, curve.evidence.settled) == (True, False)


def test_a_point_that_fails_when_it_is_tried_is_skipped() -> None:
    # The nearest multiple of 16 fails in its trial only: the next one is (720, 333) or (704, 336).
    spec = spec_of((701, 333), "nearest")
    truth = stairs(spec.grid, 16, 0.06)
    nearest = spec.grid.find_index((704, 333))
    assert nearest is not None
    device = quiet(truth)
    planner = create_planner(spec)
    assert isinstance(planner, LadderPlanner)
    while (batch := planner.next_batch()) is not None:
        if nearest in batch.point and "trying" in planner.progress().stage:
            device.failing = frozenset({nearest})
        planner.record(device.measure(batch))
    curve = curve_from(planner)
    assert nearest in curve.failures
    target = answer_of(planner)
    assert target not in (0, nearest) and truth[target] < truth[0]
    assert all(pair.rival != (704, 333) for pair in curve.confirmed)


@pytest.mark.parametrize("mode", LADDERS)
def test_where_everything_larger_fails_the_answer_is_the_point_itself(mode: Mode) -> None:
    spec = spec_of((100, 100), mode)
    failing = frozenset(range(1, spec.grid.size))
    curve = curve_from(climb(spec, SyntheticDevice(smooth(spec.grid), failing=failing)))
    assert curve.answers.target[0] == 0
    assert curve.failures


def test_a_failing_queried_point_has_no_answer() -> None:
    spec = spec_of((400, 400), "nearest")
    planner = climb(spec, SyntheticDevice(smooth(spec.grid), failing=frozenset({0})))
    with pytest.raises(MeasurementFailedError, match="synthetic failure"):
        curve_from(planner)


def recorded(spec: SweepSpec, truth: Callable[[Grid], F64]) -> tuple[LadderPlanner, list[Samples]]:
    planner, device = create_planner(spec), SyntheticDevice(truth(spec.grid))
    batches = []
    while (batch := planner.next_batch()) is not None:
        batches.append(device.measure(batch))
        planner.record(batches[-1])
    assert isinstance(planner, LadderPlanner)
    return planner, batches


def test_kept_batches_restore_a_ladder() -> None:
    spec = spec_of((401, 401), "largest", slack=0.01)
    planner, batches = recorded(spec, matmul_stairs)
    again = create_planner(spec)
    replay(again, batches)
    assert again.next_batch() is None
    assert isinstance(again, LadderPlanner)
    assert again.stages == planner.stages
    assert curve_from(again).evidence == curve_from(planner).evidence
    assert answer_of(again) == answer_of(planner)


def test_every_trial_is_a_stage_with_its_ratio() -> None:
    spec = spec_of((1197, 317), "nearest")
    planner = climb(spec, quiet(stairs(spec.grid, 16, 0.06)))
    trials = [stage for stage in planner.stages if stage.name == "confirm"]
    curve = curve_from(planner)
    assert len(trials) == len(curve.confirmed)
    assert trials[-1].kept or trials[-1].dropped
    for stage, pair in zip(trials, curve.confirmed, strict=True):
        assert f"ratio {pair.ratio:.4f} [{pair.low:.4f}, {pair.high:.4f}]" in stage.why
        assert [spec.grid.dims(n) for n in (*stage.kept, *stage.dropped)] == [pair.rival]
    assert curve.evidence.confirmations == sum(pair.num_pairs for pair in curve.confirmed)


def test_what_is_left_unseen_is_stated() -> None:
    spec = spec_of((1197, 317), "nearest")
    planner = climb(spec, quiet(stairs(spec.grid, 16, 0.06)))
    evidence = curve_from(planner).evidence
    assert evidence.settled is True
    assert evidence.unseen_risk is not None and evidence.unseen_risk <= 0.1
    assert evidence.slack == 0
    # Without the time to look at all, it isn't settled, and the risk is larger.
    rushed = climb(
        spec_of((1197, 317), "nearest", budget_s=0.1), SyntheticDevice(stairs(spec.grid, 16))
    )
    assert curve_from(rushed).evidence.settled is False
