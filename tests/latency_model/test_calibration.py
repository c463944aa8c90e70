"""How far predictions are believed, from earlier ones that were held against measurements."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest

from profiler_service.latency_model.calibration import Calibration, Score, Standing
from profiler_service.latency_model.settings import MODEL, CalibrationSettings

SETTINGS = MODEL.calibration


def score(error: float, *, distance: float = 0.0, half_width: float | None = 1.0) -> Score:
    """A prediction of 0 ± 0.01 that was wrong by so many deviations."""
    return Score(
        predicted=0.0,
        deviation=0.01,
        half_width=half_width,
        distance=distance,
        measured=0.01 * error,
    )


def published(misses: Iterable[int]) -> list[Score]:
    """Scores of predictions with an interval of ± 0.01, which 1 misses and 0 holds."""
    return [score(2.0 if miss else 0.5, half_width=0.01) for miss in misses]


def test_an_error_is_how_much_slower_it_was_in_deviations() -> None:
    slower = Score(predicted=-0.05, deviation=0.01, half_width=None, distance=0, measured=-0.02)
    assert slower.error == pytest.approx(3.0)
    faster = Score(predicted=-0.05, deviation=0.02, half_width=None, distance=0, measured=-0.06)
    assert faster.error == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("measured", "half_width", "is_miss"),
    [
        (0.25, 0.25, False),  # the ends belong to the interval
        (-0.25, 0.25, False),
        (0.2501, 0.25, True),
        (-0.2501, 0.25, True),
        (9.0, None, False),  # no interval was given
    ],
)
def test_a_miss_is_outside_of_the_interval_that_was_given(
    measured: float, half_width: float | None, is_miss: bool
) -> None:
    each = Score(
        predicted=0.0, deviation=0.1, half_width=half_width, distance=0.0, measured=measured
    )
    assert each.is_miss == is_miss


# Intervals and probabilities.


def test_with_too_few_scores_nothing_is_said() -> None:
    for count, standing in ((0, Standing.UNCALIBRATED), (29, Standing.UNCALIBRATED)):
        few = Calibration([score(0.1)] * count)
        assert few.find_standing(0.0) is standing
        assert few.find_half_width(0.01, 0.0) is None
        assert few.find_probability(-1.0, 0.01, 0.0) is None
    enough = Calibration([score(0.1)] * 30)
    assert enough.find_standing(0.0) is Standing.CALIBRATED
    assert enough.find_half_width(0.01, 0.0) is not None
    assert enough.find_probability(-1.0, 0.01, 0.0) is not None


@pytest.mark.parametrize(
    ("count", "rank"),
    [
        (30, 30),  # ⌈31 · 0.95⌉ = ⌈29.45⌉
        (39, 38),  # ⌈40 · 0.95⌉ = 38
        (40, 39),  # ⌈41 · 0.95⌉ = ⌈38.95⌉
        (99, 95),
        (199, 190),
    ],
)
def test_an_interval_is_as_wide_as_would_have_held_enough(count: int, rank: int) -> None:
    """Errors 1, -2, 3, -4, … in deviations: the rank-th smallest in absolute value is the rank."""
    errors = [number if number % 2 else -number for number in range(1, count + 1)]
    np.random.default_rng(0).shuffle(errors)
    known = Calibration([score(error) for error in errors])
    assert known.find_half_width(0.01, 0.0) == pytest.approx(0.01 * rank)
    assert known.find_half_width(0.02, 0.0) == pytest.approx(0.02 * rank)


def test_with_very_few_scores_the_largest_error_has_to_do() -> None:
    """⌈11 · 0.95⌉ = 11 of 10."""
    settings = CalibrationSettings(least_scores=10)
    known = Calibration([score(error) for error in range(1, 11)], settings)
    assert known.find_half_width(0.01, 0.0) == pytest.approx(0.1)


def test_a_probability_counts_the_errors_that_leave_it_no_slower() -> None:
    """30 errors: -14.5, …, 14.5. Promised -5 %, ± 1 %: those of at most 5 leave it no slower.

    Errors up to 4.5: 20 of 30, of one more than all.
    """
    known = Calibration([score(number - 14.5) for number in range(30)])
    assert known.find_probability(-0.05, 0.01, 0.0) == pytest.approx(20 / 31)
    assert known.find_probability(0.0, 0.01, 0.0) == pytest.approx(15 / 31)
    # With 1 % of slack, log 1.01 = 0.00995 more is allowed: errors up to 5.5, then 6.5.
    assert known.find_probability(-0.05, 0.01, 0.0, slack=0.01) == pytest.approx(21 / 31)
    assert known.find_probability(-0.056, 0.01, 0.0, slack=0.01) == pytest.approx(22 / 31)
    # Never sure, either way.
    assert known.find_probability(-9.0, 0.01, 0.0) == pytest.approx(30 / 31)
    assert known.find_probability(9.0, 0.01, 0.0) == 0.0


def test_predictions_that_were_too_good_are_believed_less() -> None:
    """All earlier ones were two deviations slower than predicted: so will be the next."""
    known = Calibration([score(2.0)] * 30)
    assert known.find_probability(-0.019, 0.01, 0.0) == 0.0
    assert known.find_probability(-0.021, 0.01, 0.0) == pytest.approx(30 / 31)


@pytest.mark.parametrize(("count", "expected"), [(30, 30 / 31), (60, 58 / 61), (200, 191 / 201)])
def test_intervals_hold_as_often_as_they_say_whatever_the_errors_are(
    count: int, expected: float
) -> None:
    """The newest of n + 1 exchangeable errors is among the r smallest with probability r / (n + 1).

    Here they have heavy tails, a bias, and a scale that the model's deviations don't know. The
    share of 2,000 trials has the standard deviation √(0.95 · 0.05 / 2000) = 0.5 %. Four of them: a
    right rule fails once in 16,000.
    """
    rng = np.random.default_rng(count)
    inside = 0
    for _ in range(2000):
        *errors, newest = (0.7 + 3.0 * rng.standard_t(3, count + 1)).tolist()
        known = Calibration([score(error) for error in errors])
        half_width = known.find_half_width(0.01, 0.0)
        assert half_width is not None
        inside += abs(0.01 * newest) <= half_width
    assert abs(inside / 2000 - expected) < 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_a_scale_that_is_half_as_wide_would_be_found() -> None:
    """The same test's other side: halved intervals hold far less. (|t3| beyond 3.18 / 2: 21 %.)"""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(500):
        *errors, newest = rng.standard_t(3, 201).tolist()
        half_width = Calibration([score(error) for error in errors]).find_half_width(0.01, 0.0)
        assert half_width is not None
        inside += abs(0.01 * newest) <= half_width / 2
    assert inside / 500 < 0.95 - 4 * math.sqrt(0.95 * 0.05 / 500)


def test_points_that_are_probably_no_slower_are_no_slower_so_often() -> None:
    """Of what is moved to with a probability of 90 % at least, 90 % are no slower.

    Predictions from -6 % to 0 with errors of 2 %, though the model says 1 %. The share of some
    hundred moves has a standard deviation of √(0.9 · 0.1 / n).
    """
    rng = np.random.default_rng(2)
    moved, right = 0, 0
    for _ in range(1500):
        known = Calibration([score(error) for error in (2 * rng.standard_t(4, 60)).tolist()])
        predicted = rng.uniform(-0.06, 0.0)
        probability = known.find_probability(predicted, 0.01, 0.0)
        assert probability is not None
        if probability >= SETTINGS.least_probability:
            moved += 1
            right += predicted + 0.01 * 2 * rng.standard_t(4) <= 0
    assert moved > 300
    assert right / moved > 0.9 - 4 * math.sqrt(0.9 * 0.1 / moved)


def test_prequential_scores_miss_as_often_as_they_may() -> None:
    """A host's life: each prediction is made from the scores before it, and scored.

    Of 1,000 published ones, 5 % miss, ± 0.7 %; four of these and what thirty scores leave.
    """
    rng = np.random.default_rng(3)
    scores: list[Score] = []
    for error in (2.5 * rng.standard_t(3, 1030)).tolist():
        half_width = Calibration(scores[-200:]).find_half_width(0.01, 0.0)
        scores.append(score(error, half_width=half_width))
    known = Calibration(scores, CalibrationSettings(scores=2000))
    assert known.num_published == 1000
    assert abs(known.num_misses / 1000 - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 1000)


def test_the_newest_scores_count() -> None:
    """250, of which the oldest 50 were bad: 200 good ones are left."""
    scores = [score(100.0, half_width=0.01)] * 50 + [score(1.0, half_width=0.01)] * 200
    known = Calibration(scores)
    assert known.num_scores == 250
    assert (known.num_published, known.num_misses) == (200, 0)
    assert known.find_half_width(0.01, 0.0) == pytest.approx(0.01)
    # One more old one: of 200 again.
    assert Calibration(scores[:-1]).find_half_width(0.01, 0.0) == pytest.approx(0.01)
    assert Calibration(scores[:220]).find_half_width(0.01, 0.0) == pytest.approx(1.0)


# Strata of distance.


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        (0.0, 3.0),  # within 1/4 octave: all scores
        (0.25, 3.0),
        (0.26, 7.0),  # to one octave: those beyond 1/4
        (1.0, 7.0),
        (1.01, 9.0),
        (math.inf, 9.0),
    ],
)
def test_far_predictions_use_errors_that_were_as_far(distance: float, expected: float) -> None:
    """400 near ones with errors of 3, 100 farther ones with 7, and 40 beyond an octave with 9.

    With a coverage of one half, the interval is the median of the errors that are used.
    """
    near = [score(3.0, distance=0.1)] * 400
    middle = [score(7.0, distance=0.5)] * 100
    far = [score(9.0, distance=2.0)] * 40
    settings = CalibrationSettings(scores=1000, coverage=0.5, strata=(0.25, 1.0))
    known = Calibration([*far, *middle, *near], settings)
    # Medians: of 540 errors 3, of 140 errors 7, of 40 errors 9.
    assert known.find_half_width(1.0, distance) == pytest.approx(expected)


def test_near_scores_calibrate_nothing_that_is_far() -> None:
    near = Calibration([score(0.1, distance=0.0)] * 200)
    assert near.find_standing(0.0) is Standing.CALIBRATED
    assert near.find_standing(0.5) is Standing.CALIBRATED
    assert near.find_standing(0.51) is Standing.UNCALIBRATED
    assert near.find_half_width(0.01, 0.51) is None
    assert near.find_probability(-1.0, 0.01, 2.0) is None


def test_far_scores_calibrate_what_is_near() -> None:
    """Nearer predictions are better, so the interval is wide enough."""
    far = Calibration([score(5.0, distance=math.inf)] * 30)
    assert far.find_half_width(0.01, 0.0) == pytest.approx(0.05)
    assert far.find_standing(0.0) is Standing.CALIBRATED


# Withdrawal.


@pytest.mark.parametrize(
    ("misses", "is_withdrawn"),
    [
        ([0] * 30, False),
        ([0] * 26 + [1] * 4, False),
        ([0] * 25 + [1] * 5, True),
        ([1] * 5, True),  # five of fewer than 30
        ([1, *[0] * 26, 1, 1, 1, 1], False),  # five in 31, but four in any 30
        ([1, *[0] * 25, 1, 1, 1, 1], True),
    ],
)
def test_five_misses_in_thirty_withdraw(misses: list[int], is_withdrawn: bool) -> None:
    assert Calibration(published(misses)).is_withdrawn == is_withdrawn


def test_misses_that_are_far_apart_withdraw_at_ten_in_a_hundred() -> None:
    """One in ten: three in any 30. The tenth is the 100th score."""
    misses = ([0] * 9 + [1]) * 10
    assert not Calibration(published(misses[:-1])).is_withdrawn
    assert Calibration(published(misses)).is_withdrawn
    # One in twelve: nine at most in any hundred, for ever.
    assert not Calibration(published(([0] * 11 + [1]) * 40)).is_withdrawn


def test_withdrawn_predictions_come_back_later_than_they_went() -> None:
    """Five misses in a row, and then none: two or fewer in the last 30 after 28 further scores.

    They are the 26th to the 30th. After h more, the last 30 begin with number h + 1, so 30 - h of
    the five are left from h = 25 on.
    """
    misses = [0] * 25 + [1] * 5
    assert Calibration(published(misses + [0] * 27)).is_withdrawn
    assert not Calibration(published(misses + [0] * 28)).is_withdrawn


def test_after_many_misses_they_come_back_at_seven_in_a_hundred() -> None:
    """Misses 10, 20, …, 100. After h scores more, 10 - ⌊h / 10⌋ are among the last hundred."""
    misses = ([0] * 9 + [1]) * 10
    assert Calibration(published(misses + [0] * 29)).is_withdrawn
    assert not Calibration(published(misses + [0] * 30)).is_withdrawn


def test_between_the_two_bounds_they_stay_as_they_are() -> None:
    """Four misses in each 30: not withdrawn if they weren't, and not back if they were."""
    steady = ([0] * 7 + [1]) * 3  # three in 24
    assert not Calibration(published(steady)).is_withdrawn
    assert Calibration(published([1] * 5 + steady * 2)).is_withdrawn


def test_scores_without_an_interval_neither_withdraw_nor_bring_back() -> None:
    unpublished = [score(50.0, half_width=None)] * 100
    assert not Calibration(unpublished).is_withdrawn
    withdrawn = published([1] * 5)
    assert Calibration([*withdrawn, *unpublished]).is_withdrawn
    known = Calibration([*unpublished, *withdrawn])
    assert (known.num_published, known.num_misses) == (5, 5)


def test_withdrawn_predictions_still_have_an_interval_so_that_they_can_come_back() -> None:
    known = Calibration(published([0] * 40 + [1] * 5))
    assert known.find_standing(0.0) is Standing.WITHDRAWN
    assert known.find_half_width(0.01, 0.0) is not None
    # Too few at this distance: uncalibrated says more than withdrawn.
    assert known.find_standing(2.0) is Standing.UNCALIBRATED


def binomial_tail(least: int, size: int, share: float) -> float:
    """The probability of at least so many misses among `size`, if each misses with `share`."""
    return sum(
        math.comb(size, k) * share**k * (1 - share) ** (size - k) for k in range(least, size + 1)
    )


def test_a_perfect_predictor_is_seldom_withdrawn() -> None:
    """Its intervals miss in 5 %: five or more in 30 have 1.6 %, ten or more in 100 2.8 %.

    One miss fewer would have 6 % each. A predictor that misses in 20 % is found nearly always.
    """
    miss = 1 - SETTINGS.coverage
    rates = [binomial_tail(most, size, miss) for most, size in SETTINGS.withdrawn_at]
    assert rates == pytest.approx([0.0156, 0.0282], abs=0.0001)
    stricter = [binomial_tail(most - 1, size, miss) for most, size in SETTINGS.withdrawn_at]
    assert min(stricter) > 0.06
    assert binomial_tail(5, 30, 0.2) > 0.7
    assert binomial_tail(10, 100, 0.2) > 0.99


def test_simulated_perfect_predictors_are_withdrawn_at_the_computed_rate() -> None:
    """After 30 published scores: exactly the rate of five in 30.

    Of 3,000, ± √(0.0156 · 0.984 / 3000) = 0.23 %, four times.
    """
    rng = np.random.default_rng(4)
    withdrawn = sum(
        Calibration(published((rng.random(30) < 0.05).astype(int).tolist())).is_withdrawn
        for _ in range(3000)
    )
    assert abs(withdrawn / 3000 - 0.0156) < 4 * 0.0023


def test_bounds_of_coming_back_are_below_those_of_going() -> None:
    for (most, size), (fewer, same) in zip(SETTINGS.withdrawn_at, SETTINGS.back_at, strict=True):
        assert size == same
        assert fewer < most - 1
