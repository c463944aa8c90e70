"""Medians, intervals and verdicts against values derived by hand and against coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from profiler_service.analysis.comparison import (
    column_medians,
    compare,
    grouped_medians,
    interval_rank,
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
