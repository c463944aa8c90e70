"""Medians, intervals and verdicts against values derived by hand and against coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from profiler_service.analysis.comparison import (
    _walsh_average,
    column_medians,
    compare,
    compare_alike,
    grouped_medians,
    interval_rank,
    signed_rank,
    smooth_drift,
)


@pytest.mark.parametrize(
    ("n", "rank"),
    [
        # P(Bin(5, 1/2) < 1) = 1/32 > 0.025: not even the extremes suffice.
        (0, 0),
        (1, 0),
        (5, 0),
        # P(Bin(6, 1/2) < 1) = 1/64 <= 0.025; P(< 2) = 7/64 is too much.
        (6, 1),
        (8, 1),
        # P(Bin(9, 1/2) < 2) = 10/512 = 0.0195.
        (9, 2),
        # Tables of the sign test: n = 20 gives 6, n = 100 gives 40.
        (20, 6),
        (100, 40),
    ],
)
def test_interval_rank(n: int, rank: int) -> None:
    assert interval_rank(n) == rank


def test_interval_rank_survives_large_samples() -> None:
    # Normal approximation: n/2 - 1.96 sqrt(n)/2 = 50,000 - 309.9.
    assert interval_rank(100_000) == pytest.approx(49_690, abs=2)


def test_verdicts() -> None:
    # Six pairs: the interval is the smallest to the largest.
    faster = compare(np.log([0.90, 0.91, 0.92, 0.93, 0.94, 0.99]))
    assert (faster.verdict, faster.num_pairs) == ("faster", 6)
    assert (faster.low, faster.high) == pytest.approx((0.90, 0.99))
    assert faster.ratio == pytest.approx(math.sqrt(0.92 * 0.93))
    assert compare(np.log([1.01, 1.02, 1.03, 1.04, 1.05, 1.06])).verdict == "slower"
    assert compare(np.log([0.90, 0.91, 0.92, 0.93, 0.94, 1.01])).verdict == "ambiguous"


def test_too_few_pairs_decide_nothing() -> None:
    few = compare(np.log([0.5] * 5))
    assert (few.verdict, few.low, few.high) == ("ambiguous", 0.0, math.inf)
    with pytest.raises(ValueError, match="no pairs"):
        compare(np.zeros(0))


def test_equal_latencies_are_ambiguous() -> None:
    assert compare(np.zeros(1000)).verdict == "ambiguous"


@pytest.mark.parametrize("shape", ["normal", "heavy", "skewed"])
def test_intervals_cover_the_median_whatever_the_noise(shape: str) -> None:
    rng = np.random.default_rng(7)
    draws = {
        "normal": rng.normal(size=(25, 4000)),
        "heavy": rng.standard_cauchy(size=(25, 4000)),
        "skewed": rng.exponential(size=(25, 4000)) - math.log(2),
    }[shape]
    medians = column_medians(draws)
    coverage = np.mean((medians.low <= 0) & (medians.high >= 0))
    # Exact coverage at n = 25 (rank 8) is 1 - 2 P(Bin < 8) = 0.957; 4,000 columns give ± 0.01.
    assert 0.947 <= coverage <= 0.967


def test_column_medians_with_absent_samples() -> None:
    nan = float("nan")
    values = np.array([[1.0, nan, nan], [3.0, nan, 5.0], [2.0, nan, 7.0]])
    medians = column_medians(values)
    assert medians.count.tolist() == [3, 0, 2]
    np.testing.assert_array_equal(medians.center, [2.0, nan, 6.0])
    assert np.isnan(medians.low).all() and np.isnan(medians.high).all()
    six = column_medians(np.arange(6.0)[:, np.newaxis])
    assert (six.low[0], six.center[0], six.high[0]) == (0.0, 2.5, 5.0)
    nothing = column_medians(np.zeros((0, 2)))
    assert np.isnan(nothing.center).all() and nothing.count.tolist() == [0, 0]


def test_grouped_medians() -> None:
    group, median, count = grouped_medians(np.array([2, 0, 2, 2, 0]), np.array([9.0, 1, 1, 5, 3]))
    assert group.tolist() == [0, 2]
    assert median.tolist() == [2.0, 5.0]
    assert count.tolist() == [2, 3]
    group, median, count = grouped_medians(np.zeros(0, dtype=int), np.zeros(0))
    assert not len(group) and not len(median) and not len(count)


def test_smooth_drift_follows_a_ramp_and_ignores_outliers() -> None:
    time = np.linspace(0, 1, 640)
    residual = 0.1 * time
    residual[::7] += 3.0
    drift = smooth_drift(time, residual)
    inner = slice(16, -16)
    assert np.abs(drift - 0.1 * time)[inner].max() < 0.002
    assert smooth_drift(np.zeros(0), np.zeros(0), at=np.array([1.0])).tolist() == [0.0]


def test_only_the_ranks_of_counts_that_occur_are_found() -> None:
    """A rank takes as many steps as there are samples: 10,000 ranks would take a minute."""
    values = np.zeros((10_007, 3))
    values[:7, 1] = np.nan
    before = interval_rank.cache_info().misses
    assert column_medians(values).count.tolist() == [10_007, 10_000, 10_007]
    assert interval_rank.cache_info().misses <= before + 2


@pytest.mark.parametrize(
    ("n", "rank"),
    [
        # P(T = 0) = 1/32 > 0.025: not even the extremes suffice.
        (0, 0),
        (5, 0),
        # P(T <= 0) = 1/64; P(T <= 1) = 2/64 is too much.
        (6, 1),
        # Tables of Wilcoxon's signed ranks, two-sided 5 %: T <= 8, 25, 52, 137 and 434 reject; one
        # more is the rank.
        (10, 9),
        (15, 26),
        (20, 53),
        (30, 138),
        (50, 435),
    ],
)
def test_signed_rank(n: int, rank: int) -> None:
    assert signed_rank(n) == rank


def test_signed_rank_goes_on_smoothly_where_it_is_approximated() -> None:
    # 61 · 62 / 4 - 1.96 √(61 · 62 · 123 / 24) = 945.5 - 1.96 · 139.2 = 672.6; of 60, exactly 649.
    assert signed_rank(61) == 672
    assert signed_rank(60) == pytest.approx(915 - 1.96 * math.sqrt(60 * 61 * 121 / 24), abs=1.5)
    # Ever surer intervals take ever more extreme averages, down to none.
    ranks = [signed_rank(12, 1 - error) for error in (0.5, 0.05, 0.005, 1e-3, 2e-4)]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[-1] == 0, "P(T = 0) = 2**-12 is more than 1e-4"


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_walsh_averages_are_those_of_all_pairs(n: int) -> None:
    rng = np.random.default_rng(n)
    ordered = np.sort(np.r_[rng.standard_t(3, n - n // 3), np.repeat(0.25, n // 3)])
    row, column = np.triu_indices(n)
    every = np.sort((ordered[row] + ordered[column]) / 2)
    found = [_walsh_average(ordered, rank + 1) for rank in range(len(every))]
    np.testing.assert_allclose(found, every, rtol=0, atol=2e-9)


def test_alike_points_are_compared_by_walsh_averages() -> None:
    # Six pairs: the smallest and largest of the averages are the smallest and largest pair. The
    # middle one of 21 averages of -6 ... -1 is -3.5.
    logs = np.array([-0.06, -0.01, -0.05, -0.02, -0.04, -0.03])
    faster = compare_alike(logs)
    assert (faster.verdict, faster.num_pairs) == ("faster", 6)
    assert np.log([faster.low, faster.ratio, faster.high]) == pytest.approx([-0.06, -0.035, -0.01])
    assert compare_alike(-logs).verdict == "slower"
    assert compare_alike(logs + 0.02).verdict == "ambiguous"
    few = compare_alike(logs[:5])
    assert (few.verdict, few.low, few.high) == ("ambiguous", 0.0, math.inf)
    with pytest.raises(ValueError, match="no pairs"):
        compare_alike(np.zeros(0))


def test_what_all_pairs_share_adds_in_squares() -> None:
    logs = np.array([-0.06, -0.01, -0.05, -0.02, -0.04, -0.03])
    # The sides are 2.5 % wide, and 6.0 % is shared: 6.5 % together.
    shared = compare_alike(logs, between=0.06)
    assert np.log([shared.low, shared.high]) == pytest.approx([-0.035 - 0.065, -0.035 + 0.065])
    assert (shared.verdict, shared.num_pairs) == ("ambiguous", 6)


@pytest.mark.parametrize("n", [8, 30, 100])
@pytest.mark.parametrize("noise", ["normal", "heavy"])
def test_alike_points_have_the_confidence_that_is_claimed(n: int, noise: str) -> None:
    """1,000 sets of pairs of equal points: at most 5 % of intervals miss.

    With 5 % exactly, 50 ± 6.9 miss: 3 deviations more are 71. With 8 pairs, the 4th average has
    P(T < 4) = 5 of 256 = 1.95 % a side.
    """
    rng = np.random.default_rng(n)
    draws = {"normal": rng.normal(size=(2, 1000, n)), "heavy": rng.standard_t(2, (2, 1000, n))}
    first, second = draws[noise] * 0.01
    missed = narrower = 0
    for pairs in first - second:
        found, by_signs = compare_alike(pairs), compare(pairs)
        missed += not found.low <= 1 <= found.high
        narrower += found.high / found.low < by_signs.high / by_signs.low
    assert missed <= 71
    assert missed >= (39 - 18 if n == 8 else 50 - 21), "nor is it wider than it need be"
    if noise == "normal":
        # Their widths are as √(3/π) to √(2/π) or 1 to 0.82, so almost always.
        assert narrower > 600
