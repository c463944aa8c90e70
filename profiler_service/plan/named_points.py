"""Chooses the points of a grid whose kernels are named once a sweep has its answer. Pure.

Few of them must show at which dimensions the kernel changes. Along each axis, these are a run of
neighbours from the queried point on, in turn with the multiples of the largest powers of two and
the dimensions after them: tiles of kernels end there.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from profiler_service.grid import Grid, GridAxis
from profiler_service.workload import Dims

MAX_NAMED_POINTS: Final = 64
"""So many points of a curve are named at most."""
RUN: Final = 17
"""So many neighbours are named on each axis. Every second one is a multiple of 2, every
fourth a multiple of 4, and one or two are multiples of 16: so each of these can be told from the
others."""


def choose_named_points(
    grid: Grid, asked: Dims, answer: Dims, *, limit: int = MAX_NAMED_POINTS
) -> list[Dims]:
    """Points to name, the most important first: `asked`, `answer`, and those beside the answer.

    The latter differ from `answer` on one axis only. All are on the grid, and none comes twice.
    """
    chosen = dict.fromkeys([asked, answer])
    for axis in range(len(answer)):
        chosen[_beside(answer, axis, asked[axis])] = None
    axes = [number for number, axis in enumerate(grid.axes) if axis.count > 1]
    lines = [
        [_beside(answer, axis, dim) for dim in _order(grid.axes[axis], asked[axis])]
        for axis in axes
    ]
    # One of each axis in turn, so that all are seen alike if time runs out.
    for place in range(max(map(len, lines), default=0)):
        for line in lines:
            if place < len(line) and len(chosen) < limit:
                chosen[line[place]] = None
    return list(chosen)[:limit]


def _beside(point: Dims, axis: int, dim: int) -> Dims:
    return (*point[:axis], dim, *point[axis + 1 :])


def _order(axis: GridAxis, begin: int) -> Sequence[int]:
    """The dimensions of the axis, those first that tell most; the run starts at `begin`.

    Calls may take so long that only the first few are named.
    """
    run = [dim for dim in axis.dims if dim >= begin][:RUN]
    # `sorted` keeps the order of equals: ascending.
    ranked = sorted(
        axis.dims,
        key=lambda dim: -max(_largest_power_of_two(dim), _largest_power_of_two(dim - 1)),
    )
    pairs = itertools.zip_longest(run, ranked)
    return list(dict.fromkeys(dim for pair in pairs for dim in pair if dim is not None))


def _largest_power_of_two(number: int) -> int:
    """The largest power of two that divides it."""
    return number & -number
