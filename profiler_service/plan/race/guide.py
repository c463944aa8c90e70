"""Guides: what a stored curve of an operator says about a window of a network.

The products of a network have the network's dims, or multiples of them. So a cheap curve of such a
product, or of the same network over fewer steps, shows which positions of an axis are fast. By how
much is known only up to a factor. numpy only; knows no store. How a race uses a guide: `structure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.curve import LatencyCurve
from profiler_service.grid import Grid, GridAxis
from profiler_service.workload import VARY, Workload

Factors = Sequence[int]
"""For each axis: how many units in an operator's curve correspond to one unit of the network."""

OPERATORS: Final[Mapping[str, Mapping[str, Factors]]] = {
    "lstm": {"linear": (4, 1)},
    "gru": {"linear": (3, 1)},
    "hlstm": {"linear": (4, 1)},
    "hlstm_lm": {"linear": (4, 1), "hlstm": (1, 1)},
}
"""Network → operator → factors. The weights of all gates form one matrix, one gate below the other.
So the product with the states (in an LSTM: with the input, too) has 4 times as many rows as one
gate."""
_SHARED_PARAMS: Final = ("batch", "dtype", "backend", "sparsity", "direction")
_PASSES: Final = 4


def find_factors(network: Workload, other: Workload) -> Factors | None:
    """The factors from `network`'s axes to those of a curve of `other`; None if it doesn't fit.

    A curve of the same kind with other parameters (such as fewer steps) is a guide, too. Batch,
    dtype, backend, sparsity and direction must be equal if both have them. Only the kinds' own axes
    have factors.
    """
    if network.kind not in OPERATORS or network.key == other.key:
        return None
    mine, theirs = dict(network.params), dict(other.params)
    if VARY in mine or VARY in theirs:
        return None
    shared = [name for name in _SHARED_PARAMS if name in mine and name in theirs]
    if any(mine[name] != theirs[name] for name in shared):
        return None
    if network.kind == other.kind:
        return (1,) * len(network.axes)
    return OPERATORS[network.kind].get(other.kind)


def covers(grid: Grid, factors: Factors, window: Grid) -> bool:
    """Whether a curve over `grid` has every position of the window."""
    return all(
        bool(np.isin(factor * _dims(asked), _dims(has)).all())
        for has, factor, asked in zip(grid.axes, factors, window.axes, strict=True)
    )


def guide_of(
    curve: LatencyCurve, factors: Factors, window: Grid
) -> tuple[tuple[float, ...], ...] | None:
    """The log latency that each position of the window adds according to the curve, around 0.

    Medians over the window's other axes, taken alternately (median polish). The curve must cover
    the window. None if it has no measured point at some position.
    """
    numbers = [
        np.searchsorted(_dims(has), factor * _dims(asked))
        for has, factor, asked in zip(curve.grid.axes, factors, window.axes, strict=True)
    ]
    residual: F64 = np.log(curve.latency_s.reshape(curve.grid.shape)[np.ix_(*numbers)])
    axes = range(residual.ndim)
    others = [tuple(other for other in axes if other != axis) for axis in axes]
    if any(np.isnan(residual).all(axis=other).any() for other in others):
        return None
    effects = [np.zeros(size) for size in residual.shape]
    for _ in range(_PASSES):
        for effect, other in zip(effects, others, strict=True):
            step = np.nanmedian(residual, axis=other, keepdims=True)
            effect += step.ravel()
            residual = residual - step
    return tuple(tuple((each - each.mean()).round(5).tolist()) for each in effects)


def _dims(axis: GridAxis) -> npt.NDArray[np.int64]:
    return np.array(axis.dims, dtype=np.int64)
