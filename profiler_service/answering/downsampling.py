"""Chooses fewer points of a curve for a picture. Knows neither HTTP nor the store.

What a curve says, stays: every LHP and every edge, the first and the last point. Of the others
remain those that show the shape. Every n-th point would be wrong: latency depends on multiples of
8, 16, 32, and such a choice shows one of its levels only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.curve import F64, LatencyCurve, PointStatus

LEAST_POINTS: Final = 10
"""Fewer points show no shape."""
ALWAYS_KEPT: Final = (PointStatus.LHP, PointStatus.EDGE)

Numbers = npt.NDArray[np.intp]


def choose_points(curve: LatencyCurve, max_points: int | None) -> Numbers:
    """Numbers of the measured points to show, ascending: all, or about `max_points`.

    They are more if there are more LHPs, edges and ends. They are fewer if some points show two
    things at once.
    """
    measured = np.flatnonzero(curve.num_samples)
    if max_points is None:
        return measured
    is_kept = np.isin(curve.status[measured], ALWAYS_KEPT)
    dims = curve.grid.all_dims()[measured]
    return measured[thin(dims, [curve.latency_s[measured]], is_kept, max_points)]


def choose_marked(curve: LatencyCurve, most: int) -> Numbers:
    """Numbers of the LHPs and edges, ascending: all, or `most` that show the shape of all."""
    marked = np.flatnonzero(np.isin(curve.status, ALWAYS_KEPT))
    if len(marked) <= most:
        return marked
    dims = curve.grid.dims_of(marked)
    pick = _pick_shape if dims.shape[1] == 1 else _pick_extremes
    return np.sort(marked[pick(dims, curve.latency_s[marked], most)])


def choose_drawn(curve: LatencyCurve, most: int) -> Numbers:
    """Numbers of at most `most` measured points for a figure or a table, ascending.

    They are all points, or chosen as `choose_points` does, except that the bound holds: of more
    LHPs and edges than half of it, those stay that show the shape of all of them. A point that may
    be dominated has the rival that may dominate it beside it.
    """
    measured = np.flatnonzero(curve.num_samples)
    if len(measured) <= most:
        return measured
    marked = choose_marked(curve, most // 2)
    is_marked = np.zeros(curve.grid.size, dtype=np.bool_)
    is_marked[marked] = True
    dims, latency_s = curve.grid.dims_of(measured), curve.latency_s[measured]
    rival = curve.answers.find_rivals()
    # Rivals are LHPs, as a rule, and shown already. Otherwise, there must be room for each.
    is_complete = np.isin(curve.status, ALWAYS_KEPT).sum() == len(marked)
    for bound in (most, (most + len(marked)) // 2)[not is_complete :]:
        shown = measured[thin(dims, [latency_s], is_marked[measured], bound)]
        may_lose = np.isin(curve.status[shown], (PointStatus.DOMINATED, PointStatus.UNDECIDED))
        rivals = rival[shown[may_lose]]
        both = np.union1d(shown, rivals[rivals >= 0])
        if len(both) <= most:
            break
    return both.astype(np.intp)


def thin(
    dims: npt.NDArray[np.int32],
    series: Sequence[F64],
    is_kept: npt.NDArray[np.bool_],
    max_points: int,
) -> Numbers:
    """Which of n points show the shape of each of `series` [n], ascending.

    `dims` [n, axes] are in ascending order. Those that `is_kept` [n] stay, and so do both ends. NaN
    is a point that a series doesn't have.
    """
    num_points = len(dims)
    if num_points <= max_points:
        return np.arange(num_points)
    chosen = is_kept.copy()
    chosen[[0, -1]] = True
    others = np.flatnonzero(~chosen)
    room = (max_points - int(np.count_nonzero(chosen))) // len(series)
    pick = _pick_shape if dims.shape[1] == 1 else _pick_extremes
    for values in series if room >= LEAST_POINTS else ():
        there = others[~np.isnan(values[others])]
        if len(there) > room:
            there = there[pick(dims[there], values[there], room)]
        chosen[there] = True
    return np.flatnonzero(chosen)


def _pick_shape(dims: npt.NDArray[np.int32], values: F64, most: int) -> Numbers:
    """Positions of the points of one axis that a line needs to look as it does.

    MinMaxLTTB: of the extremes of each part, those that make the largest triangles with their
    neighbours. Source: Van Der Donckt et al., "MinMaxLTTB", 2023.
    """
    # Only pictures of long curves need it.
    import tsdownsample

    downsampler: Any = tsdownsample.MinMaxLTTBDownsampler
    picked = downsampler().downsample(
        dims[:, 0].astype(np.float64), np.ascontiguousarray(values), n_out=most
    )
    return np.asarray(picked, dtype=np.intp)


def _pick_extremes(dims: npt.NDArray[np.int32], values: F64, most: int) -> Numbers:
    """Positions of the fastest and the slowest point of each block of a grid of several axes.

    All blocks have about as many dimensions on an axis; there are `most` / 2 of them at most.
    """
    places = [_rank(column) for column in dims.T]
    counts = [int(each.max()) + 1 for each in places]
    block = np.zeros(len(dims), dtype=np.int64)
    left = most // 2
    by_length = sorted(range(len(counts)), key=lambda axis: counts[axis])
    for turn, axis in enumerate(by_length):
        longer = math.prod(counts[each] for each in by_length[turn:])
        share = (left / longer) ** (1 / (len(counts) - turn))
        num_blocks = max(1, min(counts[axis], int(counts[axis] * share)))
        block = block * num_blocks + places[axis] * num_blocks // counts[axis]
        left //= num_blocks
    # Numbers of 16 bits are sorted by their digits, far faster than pairs are by comparing.
    order = np.argsort(block.astype(np.uint16) if block[-1] < 1 << 16 else block, kind="stable")
    first = np.flatnonzero(np.diff(block[order], prepend=-1))
    in_order = values[order]
    of_block = np.repeat(np.arange(len(first)), np.diff(first, append=len(order)))
    picked = [
        # Of equally fast points, one.
        ends[np.unique(of_block[ends], return_index=True)[1]]
        for extreme in (np.minimum, np.maximum)
        for ends in [np.flatnonzero(in_order == extreme.reduceat(in_order, first)[of_block])]
    ]
    return np.asarray(order[np.union1d(*picked)], dtype=np.intp)


def _rank(dims: npt.NDArray[np.int32]) -> Numbers:
    """How many different dimensions of these lie below each: int [points]."""
    least = int(dims.min())
    width = int(dims.max()) - least + 1
    if width > 4 * len(dims):  # few points, far apart
        return np.unique(dims, return_inverse=True)[1]
    is_there = np.zeros(width, dtype=np.bool_)
    is_there[dims - least] = True
    below: Numbers = np.cumsum(is_there) - 1
    return below[dims - least]
