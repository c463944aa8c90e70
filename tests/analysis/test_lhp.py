"""Dominance, LHPs, bins and the query, on latencies small enough to check by hand."""

from __future__ import annotations

import datetime as dt
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from profiler_service.analysis.curve import AnswerTable, LatencyCurve, PointStatus
from profiler_service.analysis.lhp import (
    HysteresisBin,
    Prefer,
    find_answer,
    find_lhps,
    hysteresis_bins,
    redundancy,
    smallest_above,
    suffix_argmin,
)
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, MATMUL
from tests.synthetic import PLATFORM, PROTOCOL


def test_one_axis_staircase() -> None:
    # Dims 1..8. Reading from the right, a point is an LHP when it is below all to its right:
    # 9 (last), 7 (dim 7)? 7 < 9 yes; 8 (dim 6) no; 5 (dim 5) yes; 6 no; 5 (dim 3) ties with
    # dim 5, which is larger and as fast: dominated; 3 (dim 2) yes; 4 no.
    latency = np.array([4.0, 3.0, 5.0, 6.0, 5.0, 8.0, 7.0, 9.0])
    assert find_lhps(latency).tolist() == [False, True, False, False, True, False, True, True]
    assert suffix_argmin(latency).tolist() == [1, 1, 4, 4, 4, 6, 6, 7]
    assert redundancy(latency) == 0.5


def test_bins_lie_between_neighbouring_lhps() -> None:
    bins = hysteresis_bins([10, 11, 12, 13, 14], [False, True, False, False, True])
    assert bins == [HysteresisBin(first=10, last=11), HysteresisBin(first=12, last=14)]


def test_points_after_the_last_lhp_are_in_no_bin() -> None:
    assert hysteresis_bins([10, 11, 12], [True, False, False]) == [HysteresisBin(first=10, last=10)]


def test_two_axes() -> None:
    # Point (1, 1) = 2 dominates (0, 0), (0, 1) and (1, 0); nothing lies above (0, 2) but
    # (1, 2) = 9, which is slower.
    latency = np.array([[5.0, 4.0, 3.0], [6.0, 2.0, 9.0]])
    assert find_lhps(latency).tolist() == [[False, False, True], [False, True, True]]
    assert suffix_argmin(latency).tolist() == [[4, 4, 2], [4, 4, 5]]


def test_neither_axis_alone_dominates() -> None:
    # (1, 0) and (0, 1) don't compare: both are LHPs though one is faster.
    latency = np.array([[9.0, 1.0], [2.0, 5.0]])
    assert find_lhps(latency).tolist() == [[False, True], [True, True]]


def test_unmeasured_points_neither_answer_nor_dominate() -> None:
    latency = np.array([3.0, np.nan, 2.0, np.nan])
    assert suffix_argmin(latency).tolist() == [2, 2, 2, -1]
    assert find_lhps(latency).tolist() == [False, False, True, False]
    assert redundancy(latency) == 0.5


latencies = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
    # Few distinct values, so that ties abound.
    elements=st.sampled_from([1.0, 2.0, 3.0, 4.0, float("nan")]),
)


@given(latencies)
def test_suffix_argmin_agrees_with_the_definition(latency: np.ndarray) -> None:
    """Against the definition itself, point by point, in any number of axes."""
    argmin = suffix_argmin(latency)
    lhps = find_lhps(latency)
    above = smallest_above(latency)
    points = list(itertools.product(*map(range, latency.shape)))
    for q in points:
        suffix = [d for d in points if all(a >= b for a, b in zip(d, q, strict=True))]
        alive = [d for d in suffix if not np.isnan(latency[d])]
        dominated = any(d != q and latency[d] <= latency[q] for d in alive)
        assert lhps[q] == (not np.isnan(latency[q]) and not dominated)
        others = [latency[d] for d in alive if d != q]
        assert above[q] == min(others, default=np.inf)
        if not alive:
            assert argmin[q] == -1
            continue
        best = np.unravel_index(argmin[q], latency.shape)
        assert latency[best] == min(latency[d] for d in alive)
        assert lhps[best], "the answer must itself be an LHP"


def curve_of(
    latency: list[float], *, target: list[int], status: list[PointStatus], spread: float = 0.01
) -> LatencyCurve:
    """A one-axis curve from 100 up, with intervals of ± `spread` and a table moved by hand."""
    value = np.array(latency)
    own = np.arange(len(value))
    ratio = np.where(np.array(target) >= 0, value[np.array(target)] / value, np.nan)
    moved = np.array(target) != own
    return LatencyCurve(
        workload=MATMUL.describe(),
        platform=PLATFORM,
        protocol=PROTOCOL,
        grid=Grid(axes=(GridAxis(first=100, count=len(value)),)),
        latency_s=value,
        low_s=value * (1 - spread),
        high_s=value * (1 + spread),
        num_samples=np.full(len(value), 7, dtype=np.int32),
        status=np.array(status, dtype=np.int8),
        answers=AnswerTable(
            target=np.array(target, dtype=np.int32),
            ratio=np.where(moved, ratio, np.nan),
            ratio_low=np.where(moved, ratio * 0.99, np.nan),
            ratio_high=np.where(moved, ratio * 1.01, np.nan),
        ),
        measured_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )


L, D, U = PointStatus.LHP, PointStatus.DOMINATED, PointStatus.UNDECIDED
#          dim   100  101  102  103  104  105
STAIRCASE = curve_of([8.0, 4.0, 9.0, 5.0, 9.0, 6.0], target=[1, 1, 3, 3, 5, 5], status=[D, L] * 3)


def test_fastest_reads_the_table() -> None:
    answer = find_answer(STAIRCASE, [100], prefer="fastest", growth=[32])
    assert answer is not None
    assert (answer.lhp, answer.grow_by, answer.verdict) == ((101,), (1,), "faster")
    assert answer.speedup == pytest.approx(2.0)  # 8 / 4
    # The ratio's interval [0.495, 0.505] turned round.
    assert answer.speedup_interval == pytest.approx((1 / 0.505, 1 / 0.495))
    assert answer.num_samples == 14
    assert not answer.is_lhp


def test_an_lhp_answers_with_itself() -> None:
    answer = find_answer(STAIRCASE, [101], prefer="fastest", growth=[32])
    assert answer is not None
    assert (answer.lhp, answer.is_lhp, answer.verdict) == ((101,), True, "slower")
    assert (answer.speedup, answer.speedup_interval) == (1.0, (1.0, 1.0))


def test_an_undecided_point_answers_with_itself_and_says_so() -> None:
    curve = curve_of([4.0, 4.0], target=[0, 1], status=[U, L])
    answer = find_answer(curve, [100], prefer="fastest", growth=[32])
    assert answer is not None
    assert (answer.lhp, answer.is_lhp, answer.verdict) == ((100,), False, "ambiguous")


def test_the_largest_lhp_no_slower() -> None:
    # From 100 (8.0): LHPs 101 (4.0), 103 (5.0) and 105 (6.0) are all faster; 105 is largest.
    answer = find_answer(STAIRCASE, [100], prefer="largest", growth=[32])
    assert answer is not None and answer.lhp == (105,)
    # Unpaired: the interval reaches from low/high to high/low, 5.94/8.08 to 6.06/7.92.
    assert answer.speedup_interval == pytest.approx((7.92 / 6.06, 8.08 / 5.94))


def test_growth_bounds_every_preference() -> None:
    for prefer, expected in (("fastest", 103), ("nearest", 103), ("largest", 105)):
        answer = find_answer(STAIRCASE, [102], prefer=prefer, growth=[3])  # type: ignore[arg-type]
        assert answer is not None and answer.lhp == (expected,)
    answer = find_answer(STAIRCASE, [102], prefer="largest", growth=[2])
    assert answer is not None and answer.lhp == (103,)
    answer = find_answer(STAIRCASE, [102], prefer="largest", growth=[0])
    assert answer is not None and answer.lhp == (102,)


def test_a_pair_without_a_lower_end_is_no_answer() -> None:
    """Such a pair, which earlier versions kept, says nothing of how much is gained."""
    curve = curve_of([8.0, 4.0], target=[1, 1], status=[D, L])
    preferences: tuple[Prefer, ...] = ("fastest", "nearest", "largest")
    for prefer in preferences:
        answer = find_answer(curve, [100], prefer=prefer, growth=[32])
        assert answer is not None and answer.lhp == (101,)
    curve.answers.ratio_low[0] = 0.0
    for prefer in preferences:
        assert find_answer(curve, [100], prefer=prefer, growth=[32]) is None
    answer = find_answer(curve, [101], prefer="fastest", growth=[32])
    assert answer is not None and answer.lhp == (101,)


def test_a_faster_point_beyond_the_growth_hides_nothing_within() -> None:
    # 105 (1.0) dominates everything, so 102 (3.0) is no LHP of the grid; but within two steps
    # of 100 it is the fastest, and the only LHP of that window that beats 100.
    curve = curve_of([8.0, 9.0, 3.0, 9.0, 9.0, 1.0], target=[5] * 6, status=[D] * 5 + [L])
    for prefer in ("nearest", "largest"):
        answer = find_answer(curve, [100], prefer=prefer, growth=[2])
        assert answer is not None and answer.lhp == (102,)
    # The table knows the fastest of the grid, not of the window: to be raced.
    assert find_answer(curve, [100], prefer="fastest", growth=[2]) is None
    answer = find_answer(curve, [102], prefer="nearest", growth=[2])
    assert answer is not None and (answer.lhp, answer.is_lhp) == ((102,), True)


def test_overlapping_intervals_never_move_an_answer_beyond_the_table() -> None:
    # 103 looks faster than 102 (5.0 < 5.1) but ± 10 % overlap: no rival is confirmed.
    curve = curve_of([8.0, 4.0, 5.1, 5.0], target=[1, 1, 2, 3], status=[D, L, U, L], spread=0.1)
    answer = find_answer(curve, [102], prefer="largest", growth=[32])
    assert answer is not None and answer.lhp == (102,)


def test_no_answer_for_points_without_one() -> None:
    curve = curve_of([4.0, 4.0], target=[-1, 1], status=[U, L])
    assert find_answer(curve, [100], prefer="fastest", growth=[32]) is None
    assert find_answer(curve, [99], prefer="fastest", growth=[32]) is None
    assert find_answer(curve, [100, 100], prefer="fastest", growth=[32, 32]) is None


def test_nearest_and_fastest_differ_in_two_axes() -> None:
    # Rows 100, 101; columns 100, 101, 102. From (100, 100) = 9: the fastest is (101, 102) = 3,
    # the LHP with least growth is (100, 101)? = 6, dominated by (101, 102) — so it must not be
    # an LHP; make (101, 102) slower than it: then (100, 101) = 4 is an LHP as well as (101, 101)
    # = 5 is not. LHPs: (100, 101) = 4 and, on the last row, (101, 100) = 3, which it can't see.
    value = np.array([9.0, 4.0, 9.0, 3.0, 9.0, 9.0])
    status = np.array([D, L, D, L, D, L], dtype=np.int8)
    target = np.array([3, 1, 2, 3, 4, 5], dtype=np.int32)
    nan = np.full(6, np.nan)
    ratio = nan.copy()
    ratio[0] = 3 / 9
    curve = LatencyCurve(
        workload=LINEAR.describe(),
        platform=PLATFORM,
        protocol=PROTOCOL,
        grid=Grid(axes=(GridAxis(first=100, count=2), GridAxis(first=100, count=3))),
        latency_s=value,
        low_s=value * 0.99,
        high_s=value * 1.01,
        num_samples=np.full(6, 7, dtype=np.int32),
        status=status,
        answers=AnswerTable(
            target=target, ratio=ratio, ratio_low=ratio * 0.99, ratio_high=ratio * 1.01
        ),
        measured_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )
    fastest = find_answer(curve, [100, 100], prefer="fastest", growth=[32, 32])
    nearest = find_answer(curve, [100, 100], prefer="nearest", growth=[32, 32])
    assert fastest is not None and fastest.lhp == (101, 100)
    # Both grow by one hundredth; among equals the faster one.
    assert nearest is not None and nearest.lhp == (101, 100)
    nearest = find_answer(curve, [100, 100], prefer="nearest", growth=[0, 32])
    assert nearest is not None and nearest.lhp == (100, 101)
