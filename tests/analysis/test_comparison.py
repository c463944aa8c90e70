"""Medians, intervals and verdicts against values derived by hand and against coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from profiler_service.analysis.comparison import (
    Comparison,
    column_medians,
    compare,
    grouped_medians,
    interval_rank,
    judge,
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


def test_a_verdict_needs_the_whole_interval_on_one_side() -> None:
    """Intervals of -2 to -1 %, 1 to 2 %, and -1 to 2 %, in log; one that touches 0 says nothing."""
    for low, high, verdict in (
        (-0.02, -0.01, "faster"),
        (0.01, 0.02, "slower"),
        (-0.01, 0.02, "ambiguous"),
        (-0.02, 0.0, "ambiguous"),
        (0.0, 0.02, "ambiguous"),
    ):
        found = judge((low + high) / 2, low, high, num_pairs=7)
        assert (found.verdict, found.num_pairs) == (verdict, 7)
        assert found.ratio == pytest.approx(math.exp((low + high) / 2))
        assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)))


def test_a_verdict_needs_both_ends() -> None:
    for low, high, ends in (
        (-math.inf, math.inf, (0.0, math.inf)),
        (-math.inf, -0.1, (0.0, math.exp(-0.1))),
        (0.1, math.inf, (math.exp(0.1), math.inf)),
    ):
        found = judge(0.0, low, high, num_pairs=2)
        assert (found.verdict, found.is_bounded) == ("ambiguous", False)
        assert (found.low, found.high) == pytest.approx(ends)
    assert judge(0.0, -0.1, 0.1, num_pairs=2).is_bounded


def test_the_other_point_has_the_turned_comparison() -> None:
    # 0.8 with 0.5 to 0.9 is, seen from the other point, 1.25 with 1.11 to 2.
    faster = Comparison(verdict="faster", ratio=0.8, low=0.5, high=0.9, num_pairs=9)
    slower = faster.turned()
    assert (slower.verdict, slower.num_pairs) == ("slower", 9)
    assert (slower.ratio, slower.low, slower.high) == pytest.approx((1.25, 1 / 0.9, 2.0))
    back = slower.turned()
    assert back.verdict == "faster"
    assert (back.ratio, back.low, back.high) == pytest.approx((0.8, 0.5, 0.9))


def test_an_open_interval_stays_open_when_turned() -> None:
    opened = Comparison(verdict="ambiguous", ratio=0.5, low=0.0, high=math.inf, num_pairs=1)
    turned = opened.turned()
    assert (turned.verdict, turned.ratio) == ("ambiguous", 2.0)
    assert (turned.low, turned.high) == (0.0, math.inf)
    half_open = Comparison(verdict="ambiguous", ratio=0.5, low=0.0, high=0.8, num_pairs=1)
    assert (half_open.turned().low, half_open.turned().high) == (1.25, math.inf)


def test_turned_log_ratios_have_the_turned_comparison() -> None:
    logs = np.log([0.90, 0.91, 0.92, 0.93, 0.94, 0.99])
    one, other = compare(logs), compare(-logs).turned()
    assert one.verdict == other.verdict == "faster"
    assert (one.ratio, one.low, one.high) == pytest.approx((other.ratio, other.low, other.high))
