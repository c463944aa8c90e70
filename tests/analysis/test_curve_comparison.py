"""Ratios of whole curves: independent intervals, and what all points say together."""

from __future__ import annotations

import math

import numpy as np
import pytest

from profiler_service.analysis.comparison import column_medians
from profiler_service.analysis.curve import F64, PointStatus
from profiler_service.analysis.curve_comparison import (
    AlignedCurve,
    Ratios,
    align,
    count_lhps,
    divide,
    find_indices,
    summarize,
)
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from tests.api.curves import build_curve, stairs

NAN = math.nan


def aligned(
    latency_s: list[float], low_s: list[float], high_s: list[float], lhps: list[int] | None = None
) -> AlignedCurve:
    status = np.full(len(latency_s), PointStatus.DOMINATED, dtype=np.int8)
    status[lhps or []] = PointStatus.LHP
    status[np.isnan(latency_s)] = PointStatus.UNMEASURED
    return AlignedCurve(
        latency_s=np.array(latency_s), low_s=np.array(low_s), high_s=np.array(high_s), status=status
    )


def ratios_of(ratio: F64, *, width: float = 0.001) -> Ratios:
    return Ratios(ratio=ratio, low=ratio * (1 - width), high=ratio * (1 + width))


def test_the_interval_on_a_ratio_adds_both_in_squares() -> None:
    # 2 s, 1.9 to 2.2, over 1 s, 0.95 to 1.1. The logarithms lie below their estimates by
    # ln(2 / 1.9) = 0.0513, and above by ln(1.1) = 0.0953. Of the difference, the lower half is
    # the root of 0.0513² + 0.0953², 0.10824, and so is the upper one: ln(2.2 / 2), ln(1 / 0.95).
    curve, reference = aligned([2.0], [1.9], [2.2]), aligned([1.0], [0.95], [1.1])
    found = divide(curve, reference, tau=0.0)
    assert found.ratio[0] == pytest.approx(2.0)
    assert found.low[0] == pytest.approx(2 * math.exp(-0.1082357), rel=1e-6)
    assert found.high[0] == pytest.approx(2 * math.exp(0.1082357), rel=1e-6)
    assert found.is_slower[0] and not found.is_faster[0]
    turned = divide(reference, curve, tau=0.0)
    assert turned.low[0] == pytest.approx(1 / found.high[0])
    assert turned.is_faster[0]


def test_processes_that_differ_widen_it() -> None:
    # Without noise, 1.96 standard deviations of 1 % remain.
    exact = aligned([1.0], [1.0], [1.0])
    found = divide(exact, exact, tau=0.01)
    assert (found.low[0], found.high[0]) == (
        pytest.approx(0.9806, abs=1e-4),
        pytest.approx(1.0198, abs=1e-4),
    )
    assert not found.is_faster[0] and not found.is_slower[0]


def test_what_is_not_known_stays_unknown() -> None:
    curve = aligned([1.0, NAN, 1.0], [0.9, NAN, NAN], [1.1, NAN, NAN])
    found = divide(curve, aligned([2.0] * 3, [1.9] * 3, [2.1] * 3))
    np.testing.assert_array_equal(np.isnan(found.ratio), [False, True, False])
    np.testing.assert_array_equal(np.isnan(found.low), [False, True, True])
    np.testing.assert_array_equal(found.is_faster, [True, False, False])


def test_the_interval_covers_the_ratio_and_is_narrower_than_both_together() -> None:
    generator = np.random.default_rng(5)
    columns = 4000

    def measure(level: float, spread: float) -> AlignedCurve:
        samples = math.log(level) + spread * generator.standard_t(3, size=(20, columns))
        medians = column_medians(samples)
        return AlignedCurve(
            latency_s=np.exp(medians.center),
            low_s=np.exp(medians.low),
            high_s=np.exp(medians.high),
            status=np.full(columns, PointStatus.DOMINATED, dtype=np.int8),
        )

    curve, reference = measure(1.3, 0.02), measure(1.0, 0.01)
    found = divide(curve, reference, tau=0.0)
    covered = np.mean((found.low <= 1.3) & (found.high >= 1.3))
    # The sign test's own interval covers at least 95 %, with 20 samples 95.9 %.
    assert 0.95 <= covered <= 0.985
    both = np.log(curve.high_s / reference.low_s) - np.log(curve.low_s / reference.high_s)
    assert np.median(np.log(found.high / found.low) / both) < 0.8


def test_the_typical_ratio_is_the_median_with_the_interval_of_the_sign_test() -> None:
    # Of 10 points, the interval on the median goes from the second smallest to the second largest.
    found = summarize(ratios_of(np.linspace(0.5, 0.59, 10)), tau=0.0)
    assert found is not None
    assert found.typical.ratio == pytest.approx(math.sqrt(0.54 * 0.55))
    assert [found.typical.low, found.typical.high] == pytest.approx([0.51, 0.58])
    assert (found.typical.verdict, found.typical.num_pairs) == ("faster", 10)
    assert (found.num_faster, found.num_slower, found.num_undecided) == (10, 0, 0)
    # In logarithms, the 10 % and 90 % quantiles lie nine tenths of a step from the ends.
    assert found.spread[0] == pytest.approx(0.509, abs=1e-4)
    assert found.spread[1] == pytest.approx(0.581, abs=1e-4)


def test_many_points_dont_make_processes_alike() -> None:
    ratio = np.full(10_000, 1.001)  # each is confidently slower, by less than processes differ
    found = summarize(ratios_of(ratio, width=0.0001), tau=0.0025)
    assert found is not None
    assert found.num_slower == 10_000
    assert found.typical.verdict == "ambiguous"
    assert found.typical.high == pytest.approx(1.001 * math.exp(1.96 * 0.0025))


def test_few_points_have_the_hull_of_their_intervals() -> None:
    few = Ratios(
        ratio=np.array([0.5, 0.7, NAN]),
        low=np.array([0.45, 0.6, NAN]),
        high=np.array([0.55, 1.1, NAN]),
    )
    found = summarize(few)
    assert found is not None
    assert [found.typical.low, found.typical.high] == pytest.approx([0.45, 1.1])
    assert (found.typical.verdict, found.typical.num_pairs) == ("ambiguous", 2)
    assert (found.num_faster, found.num_undecided) == (1, 1)
    unknown = Ratios(ratio=few.ratio, low=np.array([0.45, NAN, NAN]), high=few.high)
    found = summarize(unknown)
    assert found is not None and (found.typical.low, found.typical.high) == (0, math.inf)
    nothing = np.array([NAN])
    assert summarize(Ratios(ratio=nothing, low=nothing, high=nothing)) is None


def test_curves_are_compared_where_the_first_and_another_one_were_measured() -> None:
    def curve(grid: Grid, *failing: int) -> object:
        failed = [(each,) for each in failing]
        return build_curve(grid, stairs(4), workload=MATMUL.describe(), failing=failed)

    first = curve(Grid(axes=(GridAxis(first=1, count=10),)), 6)
    even = curve(Grid(axes=(GridAxis(first=4, count=9, step=2),)), 8)
    three = curve(Grid(axes=(GridAxis(first=3, count=1),)))
    dims, (one, two, last) = align([first, even, three])  # type: ignore[list-item]
    # 4 to 10 are even: without 6, which the first lacks, and 8, which the other lacks. And 3.
    assert dims.tolist() == [[3], [4], [10]]
    assert two.is_measured.tolist() == [False, True, True]
    assert last.is_measured.tolist() == [True, False, False]
    assert one.latency_s.tolist() == pytest.approx([2.003e-3, 1.004e-3, 2.010e-3])
    assert two.latency_s[1:].tolist() == pytest.approx([1.004e-3, 2.010e-3])


def test_points_are_found_as_a_grid_finds_them() -> None:
    grid = Grid(
        axes=(GridAxis(first=317, count=4, step=64, second=320), GridAxis(first=5, count=3, step=5))
    )
    dims = np.array([[a, b] for a in (316, 317, 319, 320, 384, 448, 512) for b in range(4, 17)])
    expected = [grid.find_index(each) for each in dims.tolist()]
    found = find_indices(grid, dims.astype(np.int32)).tolist()
    assert found == [-1 if each is None else each for each in expected]


def test_lhps_are_counted_where_both_were_measured() -> None:
    curve = aligned([1.0, 2, 3, 4, NAN], [1] * 5, [1] * 5, lhps=[0, 1, 4])
    reference = aligned([1.0, 2, NAN, 4, 5], [1] * 5, [1] * 5, lhps=[1, 2, 3])
    # Of 0, 1 and 3, the first three of which one of both lacks none: 1 is an LHP of both.
    assert count_lhps(curve, reference) == (1, 3)
