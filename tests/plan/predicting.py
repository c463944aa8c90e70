"""What a host's model may say of a window: right, false, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from profiler_service.grid import Grid
from profiler_service.plan.learned import Learned, PredictedPair
from tests.synthetic import F64


def predict(
    dims: Sequence[int], *, log_ratio: float = -0.05, distance: float = 0.1
) -> PredictedPair:
    return PredictedPair(
        dims=tuple(dims), log_ratio=log_ratio, deviation=0.01, half_width=0.02, distance=distance
    )


def learn(grid: Grid, truth: F64, *, sign: float = 1.0) -> Learned:
    """The effects of each axis' positions on `truth` [points], those beyond growth times `sign`.

    The predicted pair is what they say is the fastest.
    """
    log = np.log(truth).reshape(grid.shape)
    effects = []
    for number, axis in enumerate(grid.axes):
        others = tuple(each for each in range(log.ndim) if each != number)
        effect = log.mean(axis=others)
        growth = np.log(np.array(axis.dims, dtype=np.float64))
        trend = np.polynomial.Polynomial.fit(growth, effect, 1)(growth)
        effects.append(trend - trend.mean() + sign * (effect - trend))
    total = effects[0]
    for effect in effects[1:]:
        total = np.add.outer(total, effect)
    fastest = int(total.argmin())
    return Learned(
        effects=tuple(tuple(effect.tolist()) for effect in effects),
        pair=predict(grid.dims(fastest), log_ratio=float(total.min() - total.flat[0])),
    )


def learn_nothing(grid: Grid, dims: Sequence[int]) -> Learned:
    """No effects at all, and yet a prediction for `dims`."""
    return Learned(effects=tuple((0.0,) * count for count in grid.shape), pair=predict(dims))
