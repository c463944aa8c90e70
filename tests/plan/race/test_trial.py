"""A trial: when a point is no slower, and when it is given up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from profiler_service.analysis.samples import Samples
from profiler_service.plan.race.repeatability import Repeatability
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.stages import End
from profiler_service.plan.race.trial import Trial, find_bar, find_error

LADDER = RACE.ladder
ALIKE = Repeatability(children=0.0, arenas=0.0)
RIVAL = 7


def start(
    *, slack: float = 0.0, attempt: int = 1, between: Repeatability = ALIKE, affordable: int = 24
) -> Trial:
    return Trial(
        LADDER,
        RACE.settle,
        asked=0,
        rival=RIVAL,
        attempt=attempt,
        slack=slack,
        repeatability=between,
        affordable=affordable,
    )


def rounds(ratios: list[float], *, first: int = 0, child: int = 0) -> Samples:
    """Rounds, from `first`: the queried point takes 1 ms, and the rival so many times as long."""
    n = len(ratios)
    return Samples(
        point=np.tile([0, RIVAL], n),
        round=np.repeat(np.arange(first, first + n), 2),
        time_s=np.arange(2.0 * n, dtype=np.float32),
        latency_s=1e-3 * np.stack([np.ones(n), np.array(ratios)], axis=1).ravel(),
        calls=1,
        unstable=np.zeros(2 * n, dtype=bool),
        seconds=1e-3 * n,
        child=child,
    )


def test_all_attempts_share_the_error_of_one_answer() -> None:
    # 2.5 % · 1/(1 · 2) for the first point; the interval leaves out as much again below.
    assert find_error(LADDER, 1) == pytest.approx(0.025)
    assert find_error(LADDER, 3) == pytest.approx(0.05 / 12)
    assert 0.0249 < sum(find_error(LADDER, i) / 2 for i in range(1, 2000)) < 0.025


def test_the_looks_of_a_trial_share_its_error() -> None:
    # 12 and 24 rounds. 12 rounds that all agree are √12 = 3.46 deviations off at most: enough for
    # half of 5 %, the first point's (2.24), and too few for half of 5 % / 66, the 11th's (3.55).
    assert start().add(rounds([0.9] * 12), 12) is End.NO_SLOWER
    assert start(attempt=11).add(rounds([0.9] * 12), 12) is None
    trial = start()
    assert trial.rounds_to_look == 12
    assert trial.add(rounds([1.0, 1.1, 0.9] * 4), 12) is None
    assert trial.rounds_to_look == 12
    assert trial.add(rounds([1.0, 1.1, 0.9] * 4, first=12), 12) is End.UNDECIDED


def test_each_look_is_divided_into_several_arenas() -> None:
    trial = start(affordable=100)
    assert trial.rounds_per_arena == 3
    trial.add(rounds([1.0, 1.1, 0.9] * 4), 12)
    assert trial.rounds_per_arena == 3  # 12 more
    trial.add(rounds([1.0, 1.1, 0.9] * 4, first=12), 12)
    assert trial.rounds_per_arena == 6  # 24 more


def test_without_slack_a_point_must_be_faster() -> None:
    trial = start()
    assert trial.add(rounds([0.99] * 6), 6) is None
    assert trial.add(rounds([0.99] * 6, first=6), 6) is End.NO_SLOWER
    assert trial.holds
    equal = start()
    assert equal.add(rounds([1.0] * 12), 12) is not End.NO_SLOWER
    assert not equal.holds


@pytest.mark.parametrize(("ratio", "holds"), [(1.0099, True), (1.0101, False)])
def test_with_slack_the_interval_must_end_below_it(ratio: float, holds: bool) -> None:
    trial = start(slack=0.01)
    # So near the limit it promises less than 0.5 %: if it doesn't hold, it is given up at once.
    assert trial.add(rounds([ratio] * 12), 12) is (End.NO_SLOWER if holds else End.TOO_SLOW)
    assert trial.holds == holds
    assert trial.comparison is not None
    assert trial.comparison.verdict == "slower", "the verdict is about faster and slower"


def test_what_differs_between_processes_widens_the_interval() -> None:
    # Half of it is 1.96 · √(0.4 %² + 0.4 %²) = 1.1 % for one process and one arena.
    between = Repeatability(children=0.004, arenas=0.004)
    assert start(between=between).add(rounds([0.985] * 12), 12) is End.NO_SLOWER
    assert start(between=between).add(rounds([0.992] * 12), 12) is None
    assert start().add(rounds([0.992] * 12), 12) is End.NO_SLOWER


def test_later_attempts_need_more() -> None:
    # 12 rounds: the first attempt's first look has half of 5 %. The 20th's has half of 5 % / 210,
    # which takes 3.84 deviations: its interval has no end, because √12 is 3.46.
    ratios = [0.9] * 12
    assert start().add(rounds(ratios), 12) is End.NO_SLOWER
    assert start(attempt=20).add(rounds(ratios), 12) is None


def test_a_slow_point_is_given_up_at_the_first_look() -> None:
    trial = start(affordable=1000)
    assert trial.add(rounds([1.05, 1.06, 1.04] * 4), 12) is End.TOO_SLOW
    assert not trial.holds


def test_rounds_without_samples_show_nothing() -> None:
    trial = start()
    nothing = rounds([])
    assert trial.add(nothing, 12) is End.NOTHING_SEEN
    assert not trial.holds


def test_a_trial_is_worth_it_below_the_limit_by_a_worthwhile_share() -> None:
    assert find_bar(LADDER, 0.0) == pytest.approx(math.log(0.995))
    assert find_bar(LADDER, 0.02) == pytest.approx(math.log(1.02 * 0.995))
