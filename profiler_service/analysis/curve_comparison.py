"""Compares whole curves point by point: ratios with intervals, and what they say together.

numpy only. Curves come from sweeps of their own, so no two of their samples were taken in one
round: the intervals are those of independent estimates. Derivation:
docs/explanation/hysteresis.md, "Comparing two curves".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import Comparison, interval_rank, judge
from profiler_service.analysis.curve import F64, I8, LatencyCurve, PointStatus
from profiler_service.analysis.repeatability import REPEATABILITY
from profiler_service.grid import Grid

NORMAL_95: Final = 1.96
"""Standard deviations of a normal distribution on each side of its mean that hold 95 %."""
SPREAD: Final = (0.1, 0.9)
"""Quantiles of the ratios of all points between which most points lie."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignedCurve:
    """A curve at given points; arrays of length n. NaN and UNMEASURED: it has no such point."""

    latency_s: F64
    low_s: F64
    high_s: F64
    status: I8

    @property
    def is_measured(self) -> npt.NDArray[np.bool_]:
        """Which points it has."""
        measured: npt.NDArray[np.bool_] = ~np.isnan(self.latency_s)
        return measured


@dataclass(frozen=True, kw_only=True, eq=False)
class Ratios:
    """Latency of a curve divided by that of another one; arrays of length n."""

    ratio: F64
    """NaN at a point that only one of them has."""
    low: F64
    """Lower end of the 95 % interval on `ratio`; NaN if it isn't known."""
    high: F64

    @property
    def is_faster(self) -> npt.NDArray[np.bool_]:
        """Where the curve is confidently faster than the other one."""
        faster: npt.NDArray[np.bool_] = self.high < 1  # NaN compares false
        return faster

    @property
    def is_slower(self) -> npt.NDArray[np.bool_]:
        """Where it is confidently slower."""
        slower: npt.NDArray[np.bool_] = self.low > 1
        return slower


@dataclass(frozen=True, kw_only=True)
class RatioSummary:
    """What the ratios of all common points say together."""

    typical: Comparison
    """The median over the points, with an interval, and the verdict that follows."""
    spread: tuple[float, float]
    """Between these ratios lie eight of ten points."""
    num_faster: int
    num_slower: int
    num_undecided: int
    """Common points at which neither is certain."""


def align(curves: Sequence[LatencyCurve]) -> tuple[npt.NDArray[np.int32], list[AlignedCurve]]:
    """The dims [n, axes] that the first curve and some other one have, and each curve there.

    The curves have the same axes.
    """
    measured = np.flatnonzero(curves[0].num_samples)
    dims = curves[0].grid.all_dims()[measured]
    found = [_find_measured(curve, dims) for curve in curves]
    is_shared = (np.array(found[1:]) >= 0).any(axis=0)
    return dims[is_shared], [
        _take(curve, numbers[is_shared]) for curve, numbers in zip(curves, found, strict=True)
    ]


def _find_measured(curve: LatencyCurve, dims: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The number of each of the points `dims` [n, axes] in the curve; -1 if it wasn't measured."""
    numbers = find_indices(curve.grid, dims)
    return np.where((numbers >= 0) & (curve.num_samples[numbers] > 0), numbers, -1)


def find_indices(grid: Grid, dims: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """As `Grid.find_index` for many `dims` [n, axes]; -1 for one that isn't a point of the grid."""
    numbers = np.zeros(len(dims), dtype=np.int64)
    is_there = np.ones(len(dims), dtype=bool)
    for axis, column in zip(grid.axes, dims.T, strict=True):
        values = np.array(axis.dims)
        places = np.minimum(np.searchsorted(values, column), len(values) - 1)
        is_there &= values[places] == column
        numbers = numbers * axis.count + places
    return np.where(is_there, numbers, -1)


def _take(curve: LatencyCurve, numbers: npt.NDArray[np.int64]) -> AlignedCurve:
    is_there = numbers >= 0

    def at(values: F64) -> F64:
        return np.where(is_there, values[numbers], np.nan)

    return AlignedCurve(
        latency_s=at(curve.latency_s),
        low_s=at(curve.low_s),
        high_s=at(curve.high_s),
        status=np.where(is_there, curve.status[numbers], PointStatus.UNMEASURED).astype(np.int8),
    )


def divide(
    curve: AlignedCurve, reference: AlignedCurve, *, tau: float = REPEATABILITY.prior_tau
) -> Ratios:
    """The ratios of `curve` to `reference`, with intervals for independent estimates.

    The interval on a difference of two logarithms follows from the interval on each: what one lies
    below its estimate and the other above its own, added in squares. Source: Zou and Donner,
    Statistics in Medicine 27 (2008), "MOVER". Added in the same way is `tau`, which says how much
    processes differ: each curve was measured in processes of its own.
    """
    center = np.log(curve.latency_s / reference.latency_s)
    processes = NORMAL_95 * tau
    below = np.hypot(
        np.log(curve.latency_s / curve.low_s), np.log(reference.high_s / reference.latency_s)
    )
    above = np.hypot(
        np.log(curve.high_s / curve.latency_s), np.log(reference.latency_s / reference.low_s)
    )
    return Ratios(
        ratio=np.exp(center),
        low=np.exp(center - np.hypot(below, processes)),
        high=np.exp(center + np.hypot(above, processes)),
    )


def summarize(ratios: Ratios, *, tau: float = REPEATABILITY.prior_tau) -> RatioSummary | None:
    """What the ratios say together; None if no point has one.

    The typical ratio is the median over the points. Its interval is that of the sign test, for
    which the points are a sample of sizes, and includes `tau`, which doesn't shrink with more
    points. Too few points for it have the hull of their own intervals.
    """
    is_known = ~np.isnan(ratios.ratio)
    logs = np.sort(np.log(ratios.ratio[is_known]))
    num_points = len(logs)
    if not num_points:
        return None
    center = float(np.median(logs))
    rank = interval_rank(num_points)
    if rank:
        processes = NORMAL_95 * tau
        low = center - math.hypot(center - logs[rank - 1], processes)
        high = center + math.hypot(logs[num_points - rank] - center, processes)
    elif np.isnan(ratios.low[is_known]).any():
        low, high = -math.inf, math.inf
    else:
        low = math.log(ratios.low[is_known].min())
        high = math.log(ratios.high[is_known].max())
    least, most = np.exp(np.quantile(logs, SPREAD))
    num_faster = int(np.count_nonzero(ratios.is_faster))
    num_slower = int(np.count_nonzero(ratios.is_slower))
    return RatioSummary(
        typical=judge(center, low, high, num_pairs=num_points),
        spread=(float(least), float(most)),
        num_faster=num_faster,
        num_slower=num_slower,
        num_undecided=num_points - num_faster - num_slower,
    )


def count_lhps(curve: AlignedCurve, reference: AlignedCurve) -> tuple[int, int]:
    """At the points that both have: how many are LHPs of both, and how many of at least one."""
    is_common = curve.is_measured & reference.is_measured
    of_curve, of_reference = (
        (each.status == PointStatus.LHP) & is_common for each in (curve, reference)
    )
    return (
        int(np.count_nonzero(of_curve & of_reference)),
        int(np.count_nonzero(of_curve | of_reference)),
    )
