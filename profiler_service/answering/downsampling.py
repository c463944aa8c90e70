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
    places = [np.unique(column, return_inverse=True) for column in dims.T]
    counts = [len(unique) for unique, _ in places]
    block = np.zeros(len(dims), dtype=np.int64)
    left = most // 2
    by_length = sorted(range(len(counts)), key=lambda axis: counts[axis])
    for turn, axis in enumerate(by_length):
        longer = math.prod(counts[each] for each in by_length[turn:])
        share = (left / longer) ** (1 / (len(counts) - turn))
        num_blocks = max(1, min(counts[axis], int(counts[axis] * share)))
        block = block * num_blocks + places[axis][1] * num_blocks // counts[axis]
        left //= num_blocks
    order = np.lexsort((values, block))
    first = np.flatnonzero(np.diff(block[order], prepend=-1))
    last = np.append(first[1:], len(order)) - 1
    picked: Numbers = order[np.union1d(first, last)]
    return picked
