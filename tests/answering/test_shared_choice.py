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
    given = {
        "dims": (5, 6),
        "prefer": "fastest",
        "slack": 0.005,
        "num_platforms": 2,
        "num_rivals": 4,
        **changes,
    }
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
    # 1 ± 0.1 %; with two looks at 4 points, 1 ± 0.14 %: below 1.005, and not below 1.001.
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


def test_faster_somewhere_allows_for_the_number_of_platforms() -> None:
    # Two looks at one point on two platforms: 2.4977 standard deviations, and not 1.9600. So an
    # interval of ± 0.1 % becomes one of ± 0.127 %.
    shared, equal = rule(num_rivals=1), platform(estimate(A, 1.0))
    surely, barely = (platform(estimate(A, math.exp(log))) for log in (-0.0014, -0.0012))
    assert barely[A].verdict == "faster"
    assert shared.choose([A], [surely, equal]) == A
    assert shared.choose([A], [barely, equal]) is None
    # It is raced, unless another platform is surely faster.
    assert not shared.is_decided(barely[A], needs_gain=True)
    assert shared.is_decided(barely[A], needs_gain=False)
    assert shared.is_decided(surely[A], needs_gain=True)
    assert shared.is_decided(equal[A], needs_gain=True)


def test_the_nearest_and_the_largest_need_no_platform_where_they_are_faster() -> None:
    equal = platform(estimate(A, 1.0), estimate(B, 1.001))
    nearest = rule(prefer="nearest", slack=0.02)
    assert nearest.choose([A], [equal, equal]) == A
    assert nearest.suggest([A], [equal, equal]) == [B]
    assert rule(slack=0.02).choose([A], [equal, equal]) is None
    assert rule(slack=0.02).suggest([A], [equal, equal]) == []
    # Without slack, they must be surely faster on each.
    assert rule(prefer="nearest", slack=0).choose([A], [platform(estimate(A, 0.9)), equal]) is None


def test_the_least_gain_may_be_that_of_a_platform_with_a_wide_interval() -> None:
    # 1.05 ± 0.48 %, and 1.06 ± 6 %: perhaps a loss. Two looks at one point have 2.2414 standard
    # deviations, and on either of two platforms 2.4977, where single intervals have 1.9600.
    narrow, wide = platform(estimate(A, 1 / 1.05, 0.0048)), platform(estimate(A, 1 / 1.06, 0.06))
    low, high = rule(num_rivals=1).find_least_gain(A, [narrow, wide])
    assert low == pytest.approx(1.06 * math.exp(-0.06 * 2.2414 / 1.96), rel=1e-4)
    assert high == pytest.approx(1.05 * math.exp(0.0048 * 2.4977 / 1.96), rel=1e-4)


MOST_WRONG = 0.025 + 3 * math.sqrt(0.025 * 0.975 / 4000)
"""2.5 % and three standard errors of 4000 trials: 3.24 %."""


def test_the_choice_among_several_dims_is_wrong_in_at_most_one_of_forty_cases() -> None:
    """Four dims are faster on one platform, and on the other slower by just the slack.

    There, facts judge them, and then facts together with a race of as many samples. A single 97.5 %
    bound fails in one of the two in 4.2 % of all cases, so that one of four would be wrongly taken
    in 1 - 0.958⁴ = 15.8 %. Bounds that allow for both: at most 4 x 2 x 2.5 % / 8 = 2.5 %.
    """
    rng = np.random.default_rng(3)
    sd, num_trials = 0.003, 4000
    half = NormalDist().inv_cdf(0.975) * sd
    wrong = naive = 0
    candidates = [A, B, C, D]
    first = platform(*(estimate(each, 0.9) for each in candidates))
    for facts, raced in sd * rng.standard_normal((num_trials, 2, 4)):
        looks = [
            platform(
                *(
                    estimate(each, 1.005 * math.exp(error), width)
                    for each, error in zip(candidates, errors, strict=True)
                )
            )
            for errors, width in ((facts, half), ((facts + raced) / 2, half / math.sqrt(2)))
        ]
        wrong += any(rule().choose(candidates, [first, second]) is not None for second in looks)
        naive += any(each.high < 1.005 for second in looks for each in second.values())
    assert naive / num_trials == pytest.approx(0.158, abs=0.02)
    assert 0.01 < wrong / num_trials < MOST_WRONG


def test_the_luckiest_of_many_dims_is_wrong_in_at_most_one_of_forty_cases() -> None:
    """Twelve dims are faster on one platform, and on the other slower by just the slack.

    The other one's facts say which of them are tried, and then judge them. Bounds that allow for
    the four that are tried would be wrong in 1 - (1 - 2.5 % / 4)¹² = 7.2 %.
    """
    rng = np.random.default_rng(5)
    sd, num_trials = 0.003, 4000
    half = NormalDist().inv_cdf(0.975) * sd
    wrong = naive = 0
    rivals = [(8 + number, 8) for number in range(12)]
    shared = rule(num_rivals=12)
    first = platform(*(estimate(each, 0.9) for each in rivals))
    for errors in sd * rng.standard_normal((num_trials, 12)):
        second = platform(
            *(
                estimate(each, 1.005 * math.exp(error), half)
                for each, error in zip(rivals, errors, strict=True)
            )
        )
        tried = [*rivals[:1], *shared.suggest(rivals[:1], [first, second])]
        assert len(tried) == 4
        wrong += shared.choose(tried, [first, second]) is not None
        naive += any(second[each].widened(4).high < 1.005 for each in tried)
    assert naive / num_trials == pytest.approx(0.072, abs=0.013)
    assert 0 < wrong / num_trials < MOST_WRONG
