"""What a stored curve of an operator says of a window of a network: a guide for races.

A network's products have the network's dims, or multiples of them, so a cheap curve of such a
product (or of the same network over fewer steps) shows which positions of an axis are fast, up
to a factor nobody knows. numpy only; knows no store. How a race uses it: `structure`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from profiler_service.comparison import F64
from profiler_service.curve import LatencyCurve
from profiler_service.grid import Grid
from profiler_service.workload import Workload

AxisMap = Sequence[tuple[int, int]]
"""For each axis of a network: which axis of the operator's curve it is, times which factor."""

OPERATOR_AXES: Final[Mapping[str, Mapping[str, AxisMap]]] = {
    "lstm": {"linear": ((0, 4), (1, 1))},
    "gru": {"linear": ((0, 3), (1, 1))},
    "hlstm": {"linear": ((0, 4), (1, 1))},
    "hlstm_lm": {"linear": ((0, 4), (1, 1)), "hlstm": ((0, 1), (1, 1))},
}
"""Network → operator → where its axes are found. The gates' weights lie one below the other:
their product with the states, or an LSTM's with its input, has 4 times as many rows as a gate."""
_SHARED_PARAMS: Final = ("batch", "dtype", "backend", "direction")
_PASSES: Final = 4


def find_axis_map(network: Workload, other: Workload) -> AxisMap | None:
    """Where the axes of `network` are found in a curve of `other`; None where they aren't.

    The same kind with other parameters (fewer steps, say) guides, too. What both have of batch,
    dtype, backend and direction must agree.
    """
    if network.kind not in OPERATOR_AXES or network.key == other.key:
        return None
    mine, theirs = dict(network.params), dict(other.params)
    if any(
        mine[name] != theirs[name] for name in _SHARED_PARAMS if name in mine and name in theirs
    ):
        return None
    if network.kind == other.kind:
        return tuple((axis, 1) for axis in range(len(network.axes)))
    return OPERATOR_AXES[network.kind].get(other.kind)


def covers(grid: Grid, axis_map: AxisMap, window: Grid) -> bool:
    """Whether a curve over `grid` has every position of the window."""
    return all(
        np.isin(_wanted(window, place, factor), _dims(grid, axis)).all()
        for place, (axis, factor) in enumerate(axis_map)
    )


def guide_of(
    curve: LatencyCurve, axis_map: AxisMap, window: Grid
) -> tuple[tuple[float, ...], ...] | None:
    """The log latency that each position of the window's axes adds, by the curve's points.

    Medians over the curve's other axes, taken alternately (median polish). None where a position
    has no point.
    """
    with np.errstate(invalid="ignore"):
        residual: F64 = np.log(curve.latency_s).reshape(curve.grid.shape)
    effects = [np.zeros(size) for size in curve.grid.shape]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # positions without any point
        for _ in range(_PASSES):
            for axis, effect in enumerate(effects):
                others = tuple(other for other in range(residual.ndim) if other != axis)
                step = np.nanmedian(residual, axis=others) if others else residual.copy()
                effect += step
                residual = residual - np.expand_dims(step, others)
    found = []
    for place, (axis, factor) in enumerate(axis_map):
        numbers = np.searchsorted(_dims(curve.grid, axis), _wanted(window, place, factor))
        values = effects[axis][numbers]
        if not np.isfinite(values).all():
            return None
        found.append(tuple((values - values.mean()).round(5).tolist()))
    return tuple(found)


def _dims(grid: Grid, axis: int) -> npt.NDArray[np.int64]:
    one = grid.axes[axis]
    return one.start + one.step * np.arange(one.count)


def _wanted(window: Grid, place: int, factor: int) -> npt.NDArray[np.int64]:
    return factor * _dims(window, place)
