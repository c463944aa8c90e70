"""Which dims hold on several platforms at once."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from profiler_service.analysis.comparison import Verdict
from profiler_service.analysis.facts import PairEstimate
from profiler_service.answering.shared_choice import SharedRule

A, B, C, D = (8, 8), (16, 16), (8, 16), (16, 8)


def rule(**changes: object) -> SharedRule:
    given = {"dims": (5, 6), "prefer": "fastest", "slack": 0.005, "num_platforms": 2} | changes
    return SharedRule(**given)  # type: ignore[arg-type]


def estimate(rival: tuple[int, int], ratio: float, half: float = 0.001) -> PairEstimate:
    """That ratio with a 95 % interval of `half` to both sides, in the logarithm."""
    low, high = ratio * math.exp(-half), ratio * math.exp(half)
    verdict: Verdict = "faster" if high < 1 else "slower" if low > 1 else "ambiguous"
    return PairEstimate(rival=rival, verdict=verdict, ratio=ratio, low=low, high=high)


def platform(*known: PairEstimate) -> dict[tuple[int, ...], PairEstimate]:
    return {each.rival: each for each in known}


def test_the_dims_with_the_best_worst_case_are_chosen() -> None:
    # A gains 20 % and 1 %, B gains 5 % on both: B's worst case is better.
    first = platform(estimate(A, 0.80), estimate(B, 0.95))
    second = platform(estimate(A, 0.99), estimate(B, 0.95))
    assert rule().choose([A, B], [first, second]) == B


def test_dims_that_are_slower_anywhere_are_never_chosen() -> None:
    first = platform(estimate(A, 0.5), estimate(B, 0.99))
    second = platform(estimate(A, 1.02), estimate(B, 0.99))
    assert rule().choose([A, B], [first, second]) == B
    assert rule().choose([A], [first, second]) is None


def test_no_slower_within_the_slack_is_enough_if_they_are_faster_somewhere() -> None:
    # 1 ± 0.1 %; with the choice among 4, 1 ± 0.13 %: below 1.005, and not below 1.001.
    first, second = platform(estimate(A, 0.95)), platform(estimate(A, 1.0))
    assert rule().choose([A], [first, second]) == A
    assert rule(slack=0.001).choose([A], [first, second]) is None
    assert rule().choose([A], [second, second]) is None


def test_what_is_not_known_everywhere_is_not_chosen() -> None:
    assert rule().choose([A], [platform(estimate(A, 0.9)), {}]) is None


def test_further_dims_are_tried_in_the_order_of_hope_and_not_without_end() -> None:
    first = platform(estimate(A, 0.9), estimate(B, 0.97), estimate(C, 0.95), estimate(D, 0.96))
    second = platform(estimate(A, 1.05), estimate(C, 1.05), estimate(D, 1.002))
    # C is surely slower on the second platform. D is known there, B isn't.
    assert rule().suggest([A], [first, second]) == [D, B]
    # Four may be tried on two platforms.
    assert rule().suggest([A, (9, 9), (9, 8)], [first, second]) == [D]
    assert rule().suggest([A, (9, 9), (9, 8), (8, 9)], [first, second]) == []


def test_the_choice_among_several_dims_is_wrong_in_at_most_one_of_forty_cases() -> None:
    """Four dims are faster on one platform, and on the other slower by just the slack.

    Each single 97.5 % bound fails in 2.5 % of all cases, so that one of four would be wrongly taken
    in 1 - 0.975⁴ = 9.6 %. Bounds that allow for the choice: at most 4 x 2.5 % / 4 = 2.5 %.
    """
    rng = np.random.default_rng(3)
    sd, num_trials = 0.003, 4000
    half = NormalDist().inv_cdf(0.975) * sd
    wrong = naive = 0
    candidates = [A, B, C, D]
    for errors in sd * rng.standard_normal((num_trials, 4)):
        first = platform(*(estimate(each, 0.9) for each in candidates))
        second = platform(
            *(
                estimate(each, 1.005 * math.exp(error), half)
                for each, error in zip(candidates, errors, strict=True)
            )
        )
        wrong += rule().choose(candidates, [first, second]) is not None
        naive += any(each.high < 1.005 for each in second.values())
    assert naive / num_trials == pytest.approx(0.096, abs=0.015)
    # 2.5 % and three standard errors: 3 · √(0.025 · 0.975 / 4000) = 0.74 %.
    assert 0.01 < wrong / num_trials < 0.0324
