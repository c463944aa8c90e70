"""The budget: what it follows from, and that it is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.lhp import find_answer
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.create import create_planner
from profiler_service.plan.race.budget import Bound, Budget, VisitCost
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.stages import End
from profiler_service.plan.spec import SweepSpec, window_growth
from tests.plan.asking import curve_from, spec_above
from tests.synthetic import SyntheticDevice, stairs


def budget_of(
    num_points: int, call_s: float, noise: float = 0.025, asked_s: float | None = None
) -> Budget:
    """The budget of a window whose points all take `call_s`, visited by one call."""
    return Budget(
        RACE.budget,
        VisitCost(call_s=call_s, overhead_s=0.0, calls=1),
        num_points=num_points,
        once_s=num_points * call_s,
        least_look_s=0.015,
        noise=noise,
        asked_s=asked_s,
    )


@pytest.mark.parametrize(
    ("num_points", "call_s", "noise", "seconds", "bound"),
    [
        # Each once: 4.096 s, of which 0.85 are 3.48 s; but 1.15 s at most.
        (4096, 1e-3, 0.025, 1.15, Bound.CHEAP),
        # Four times the variance asks for four times the visits: 1.5 times as long, 1.725 s, which
        # is less than 0.97 · 4.096 s.
        (4096, 1e-3, 0.05, 1.725, Bound.CHEAP),
        # Each once: 0.41 s, of which 0.85 are 0.35 s, 1.5 times as long 0.52 s, but 0.97 at most.
        (4096, 1e-4, 0.05, 0.97 * 0.4096, Bound.CHEAP),
        # 0.046 · 4,096 calls of 1 s.
        (4096, 1.0, 0.025, 188.416, Bound.DEAR),
        # 0.046 · 1,100 = 51 calls are fewer than 100.
        (1100, 1.0, 0.025, 100.0, Bound.LEAST_CALLS),
        # Each once: 0.041 s. A look of 15 ms is a quarter of 0.06 s.
        (4096, 1e-5, 0.005, 0.06, Bound.ONE_LOOK),
        # 10.24 times the variance: 10.24 · 0.85 · 0.041 = 0.357 s, more than anybody minds.
        (4096, 1e-5, 0.08, 0.35, Bound.UNNOTICED),
        # Small windows: 6,000 calls, 1.5 times as many under noise.
        (100, 1e-4, 0.025, 0.6, Bound.CHEAP),
        (100, 1e-4, 0.05, 0.9, Bound.CHEAP),
        (1000, 1e-4, 0.025, 0.6, Bound.CHEAP),
    ],
)
def test_seconds_follow_from_calls_points_and_noise(
    num_points: int, call_s: float, noise: float, seconds: float, bound: Bound
) -> None:
    budget = budget_of(num_points, call_s, noise)
    assert budget.seconds == pytest.approx(seconds, rel=1e-9)
    assert budget.bound is bound


def test_what_the_caller_gives_is_not_exceeded_and_need_not_be_used() -> None:
    assert budget_of(4096, 1e-3, asked_s=0.5).seconds == 0.5
    assert budget_of(4096, 1e-3, asked_s=0.5).bound is Bound.ASKED
    assert budget_of(4096, 1e-3, asked_s=9.0).seconds == 1.15
    assert budget_of(4096, 1e-3, asked_s=9.0).bound is Bound.CHEAP


def test_a_visit_takes_its_calls_its_warm_up_and_the_rest() -> None:
    cost = VisitCost(call_s=1e-3, overhead_s=5e-4, calls=3)
    assert cost.visit_s(0) == pytest.approx(3.5e-3)
    assert cost.visit_s(2) == pytest.approx(5.5e-3)


def test_visits_fit_in_until_the_share_is_spent() -> None:
    budget = budget_of(4096, 1e-3)  # 1.15 s
    # Half is 0.575 s: 575 visits of 1 ms, 287 with a warm-up call.
    assert budget.visits_until(0.5, 0.0, warmup_calls=0) == 575
    assert budget.visits_until(0.5, 0.0, warmup_calls=1) == 287
    # 0.4 s are spent: 0.175 s are left.
    assert budget.visits_until(0.5, 0.4, warmup_calls=1) == 87
    assert budget.visits_until(0.5, 0.6, warmup_calls=1) == 0


def test_a_stage_ends_when_its_next_visits_do_not_fit() -> None:
    budget = budget_of(4096, 1e-3)
    assert budget.find_end(87, 0.5, 0.4, warmup_calls=1) is None
    assert budget.find_end(88, 0.5, 0.4, warmup_calls=1) is End.OUT_OF_TIME


def test_a_survey_is_not_the_races_own_time() -> None:
    budget = budget_of(4096, 1e-3, asked_s=1.5)
    budget.exclude(0.8)
    # 1.0 s are spent, of which 0.2 in the race: 0.375 s of 0.575 are left.
    assert budget.visits_until(0.5, 1.0, warmup_calls=0) == 375
    # What the caller gave is for both.
    budget.learn_noise(0.025)
    assert budget.seconds == pytest.approx(0.7)
    assert budget.bound is Bound.ASKED


def test_a_survey_ends_at_half_of_what_the_caller_gave() -> None:
    budget = budget_of(4096, 1e-3, asked_s=2.0)
    assert budget.find_survey_end(1.0) is None
    assert budget.find_survey_end(1.01) is End.OUT_OF_TIME
    assert budget_of(4096, 1e-3).find_survey_end(1e6) is None


@pytest.mark.parametrize(
    ("noise", "least", "visits"),
    [
        (0.025, 1.0, 14),
        (0.05, 1.0, 21),  # four times the variance, 1.5 times at most
        (0.0125, 1.0, 14),  # a quarter of the variance, but no fewer if calls are short
        (0.0125, 0.5, 7),
        (0.0125, 0.1, 4),  # 14 / 4 = 3.5
    ],
)
def test_visits_follow_the_variance_within_bounds(noise: float, least: float, visits: int) -> None:
    assert budget_of(4096, 1e-3, noise).scale(14, least) == visits


def test_noise_learnt_later_sets_the_budget_anew() -> None:
    budget = budget_of(4096, 1e-3)
    budget.learn_noise(0.05)
    assert budget.noise == 0.05
    assert budget.seconds == pytest.approx(1.725)


@pytest.mark.parametrize(
    ("call_s", "noise", "budget_s"),
    [
        # 4,096 points; growth of 1/8 on each axis from 512 makes the mean call some 4 % longer
        # on each. Calling each once: 0.044 s, 0.44 s and 4.4 s.
        (1e-5, 0.005, 0.06),  # 0.85 * 0.044 s is too little for a look of 15 ms
        (1e-5, 0.08, 0.35),  # what nobody notices
        (1e-4, 0.005, 0.85 * 0.44),
        (1e-4, 0.08, 0.97 * 0.44),
        (1e-3, 0.005, 1.15),
        (1e-3, 0.08, 1.5 * 1.15),
    ],
)
def test_noise_buys_time_but_never_more_than_a_look_at_each_point_or_a_moment(
    call_s: float, noise: float, budget_s: float
) -> None:
    grid = Grid.window((512, 512), (63, 63))
    planner = RacePlanner(SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid))
    SyntheticDevice(np.full(4096, call_s), noise=noise, spikes=0, drift=0).run(planner)
    assert curve_from(planner).evidence.budget_s == pytest.approx(budget_s, rel=0.1)


@pytest.mark.parametrize("budget_s", [0.002, 0.02, 0.1, 0.5])
def test_a_budget_is_kept(budget_s: float) -> None:
    spec = replace(spec_above((640, 320), "race"), budget_s=budget_s)
    truth = stairs(spec.grid, 16)
    planner = create_planner(spec)
    device = SyntheticDevice(truth)
    device.run(planner)
    curve = curve_from(planner)
    # What is under way when the budget ends is finished: calibration, or one batch.
    assert device.clock_s < budget_s + 60 * truth[0]
    assert truth[curve.answers.target[0]] <= truth[0]


def test_a_survey_of_dear_calls_keeps_to_its_budget() -> None:
    spec = replace(spec_above((100, 100), "survey"), budget_s=2.0)
    planner = create_planner(spec)
    device = SyntheticDevice(np.full(spec.grid.size, 20e-3))
    device.run(planner)
    # Batches last half a second; one may be under way.
    assert device.clock_s < 2.0 + 1.0
    assert curve_from(planner).evidence.cut_short == 1


def test_a_budget_too_small_for_a_verdict_answers_with_the_point_itself() -> None:
    spec = replace(spec_above((640, 320), "race"), budget_s=0.001)
    planner = create_planner(spec)
    SyntheticDevice(stairs(spec.grid, 16)).run(planner)
    curve = curve_from(planner)
    answer = find_answer(curve, (640, 320), prefer="fastest", growth=window_growth((640, 320)))
    assert answer is not None and (answer.lhp, answer.verdict) == ((640, 320), "ambiguous")
    assert curve.evidence.cut_short == 1
    enough = create_planner(spec_above((640, 320), "race"))
    SyntheticDevice(stairs(spec.grid, 16)).run(enough)
    assert curve_from(enough).evidence.cut_short == 0
