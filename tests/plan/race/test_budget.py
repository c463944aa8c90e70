"""The budget: what it follows from, and that it is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.lhp import find_answer
from profiler_service.grid import Grid
from profiler_service.kinds import MATMUL
from profiler_service.plan.create import create_planner
from profiler_service.plan.race.budget import Budget
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.stages import End
from profiler_service.plan.spec import RaceTerms, SweepSpec, window_growth
from tests.plan.asking import curve_from, spec_above
from tests.synthetic import SyntheticDevice, stairs


def budget_of(
    call_s: float = 1e-3,
    noise: float = 0.025,
    *,
    visit_s: float = 2e-3,
    settle_s: float = 3.0,
    asked_s: float | None = None,
) -> Budget:
    return Budget(
        RACE.budget,
        call_s=call_s,
        visit_s=visit_s,
        settle_s=settle_s,
        noise=noise,
        asked_s=asked_s,
    )


@pytest.mark.parametrize(
    ("call_s", "settle_s", "seconds"),
    [
        (1e-5, 3.0, 4.0),  # 1 s to search and 3 s to settle
        (1e-5, 0.5, 1.5),
        (0.005, 3.0, 4.0),  # 400 calls are 2 s
        (0.02, 3.0, 8.0),  # 400 calls are longer than both
        (1.0, 3.0, 14.0),  # 400 calls are 400 s, but no race takes so long ...
        (1.0, 60.0, 61.0),  # ... unless its caller asks for it
    ],
)
def test_seconds_follow_from_calls_and_the_time_to_settle(
    call_s: float, settle_s: float, seconds: float
) -> None:
    assert budget_of(call_s, settle_s=settle_s).seconds == pytest.approx(seconds)


def test_what_the_caller_gives_is_not_exceeded_and_need_not_be_used() -> None:
    assert budget_of(asked_s=0.5).seconds == 0.5
    assert budget_of(asked_s=9.0).seconds == 4.0


def test_visits_fit_in_until_the_share_is_spent() -> None:
    budget = budget_of()
    # Half of 4 s is 2 s: 1,000 visits of 2 ms.
    assert budget.visits_until(0.5, 0.0) == 1000
    # 1.5 s are spent: 0.5 s are left, or nothing.
    assert budget.visits_until(0.5, 1.5) == 250
    assert budget.visits_until(0.5, 2.5) == 0
    budget.learn(noise=0.025, visit_s=4e-3)
    assert budget.visits_until(0.5, 1.5) == 125


def test_a_survey_is_not_the_races_own_time() -> None:
    budget = budget_of(asked_s=3.0)
    budget.exclude(1.6)
    # What the caller gave is for both.
    assert budget.seconds == pytest.approx(1.4)
    # 2.0 s are spent, of which 0.4 in the race: 0.3 of half of 1.4 s are left.
    assert budget.visits_until(0.5, 2.0) == 150
    # A survey that the caller set no limit to takes nothing from the race.
    free = budget_of()
    free.exclude(100.0)
    assert free.seconds == 4.0
    assert free.visits_until(1.0, 100.0) == 2000


def test_a_survey_ends_at_its_share_of_what_the_caller_gave() -> None:
    budget = budget_of(asked_s=2.0)
    # 0.35 of 2 s
    assert budget.find_survey_end(0.7) is None
    assert budget.find_survey_end(0.71) is End.OUT_OF_TIME
    assert budget_of().find_survey_end(1e6) is None


@pytest.mark.parametrize(
    ("noise", "visit_s", "visits"),
    [
        (0.025, 2e-3, 14),
        (0.0375, 2e-3, 32),  # 2.25 times the variance: 31.5
        (0.05, 2e-3, 56),  # four times the variance
        (0.2, 2e-3, 56),  # but no more than four times as many visits
        (0.0125, 1e-3, 14),  # a quarter of the variance, but no fewer where visits are short
        (0.0125, 4e-3, 7),  # 2 ms are half of a visit
        (0.0125, 20e-3, 4),  # 14 / 4 = 3.5
    ],
)
def test_visits_follow_the_variance_within_bounds(
    noise: float, visit_s: float, visits: int
) -> None:
    assert budget_of(noise=noise, visit_s=visit_s).scale(14) == visits


def test_noise_learnt_later_scales_what_follows() -> None:
    budget = budget_of()
    budget.learn(noise=0.05, visit_s=2e-3)
    assert (budget.noise, budget.scale(10)) == (0.05, 40)


@pytest.mark.parametrize(
    ("call_s", "terms", "budget_s"),
    [
        (1e-3, RaceTerms(), 4.0),
        (1e-3, RaceTerms(settle_s=0.2), 1.2),
        (0.3, RaceTerms(), 14.0),
    ],
)
def test_a_race_takes_no_longer_than_its_terms_say(
    call_s: float, terms: RaceTerms, budget_s: float
) -> None:
    """Points that are alike in pairs of 1 % keep it busy; what is under way may be finished."""
    grid = Grid.window((100,), (32,))
    spec = SweepSpec(workload=MATMUL.describe(), mode="race", grid=grid, terms=terms)
    truth = call_s * np.where(np.arange(33) % 2, 1.0, 1.01)
    device = SyntheticDevice(truth, noise=0.05, spikes=0, drift=0)
    planner = RacePlanner(spec)
    device.run(planner)
    assert curve_from(planner).evidence.budget_s == pytest.approx(budget_s)
    assert device.clock_s < budget_s + 0.5 + 2 * call_s


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
