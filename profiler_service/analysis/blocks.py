"""A large grid of two axes in few cells: blocks of neighbouring points, each with its median.

numpy only. Knows neither how curves are stored nor how they are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.curve import F64, LatencyCurve

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Blocks:
    """A grid of two axes, divided into blocks of `shape` points; those at the ends have fewer."""

    shape: tuple[int, int]
    first: tuple[I64, I64]
    """The first dimension of each block, for both axes: int64 [rows], int64 [columns]."""
    last: tuple[I64, I64]
    latency_s: F64
    """float64 [rows, columns]: latency of the median of each block's measured points, seconds. Of
    an even number, the faster one of both. NaN if none of them was measured."""


def median_blocks(curve: LatencyCurve, most: int) -> Blocks:
    """The curve, which has two axes, in at most `most` blocks, all of one shape.

    A block has about as many points on both axes. The median is that of a point that was measured,
    so a block shows neither its fastest nor its slowest point. Source: ours.
    """
    counts = curve.grid.shape
    sides = choose_sides(counts[0], counts[1], most)
    whole = np.full([_round_up(n, side) for n, side in zip(counts, sides, strict=True)], np.nan)
    whole[: counts[0], : counts[1]] = curve.latency_s.reshape(counts)
    rows, columns = (n // side for n, side in zip(whole.shape, sides, strict=True))
    cells = whole.reshape(rows, sides[0], columns, sides[1]).swapaxes(1, 2)
    in_order = np.sort(cells.reshape(rows, columns, -1), axis=-1)  # NaN comes last
    num_known = np.count_nonzero(np.isfinite(in_order), axis=-1)
    middle = np.maximum(num_known - 1, 0) // 2
    median_s = np.take_along_axis(in_order, middle[..., None], axis=-1)[..., 0]
    starts = [np.arange(0, n, side) for n, side in zip(counts, sides, strict=True)]
    ends = [
        np.minimum(start + side, n) - 1
        for start, side, n in zip(starts, sides, counts, strict=True)
    ]
    dims = [np.array(axis.dims, dtype=np.int64) for axis in curve.grid.axes]
    return Blocks(
        shape=sides,
        first=(dims[0][starts[0]], dims[1][starts[1]]),
        last=(dims[0][ends[0]], dims[1][ends[1]]),
        latency_s=median_s,
    )


def choose_sides(rows: int, columns: int, most: int) -> tuple[int, int]:
    """Points of a block on each axis: as equal as can be, so that there are at most `most`."""
    tall = wide = 1
    while -(-rows // tall) * -(-columns // wide) > most:
        if (tall <= wide and tall < rows) or wide == columns:
            tall += 1
        else:
            wide += 1
    return tall, wide


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
