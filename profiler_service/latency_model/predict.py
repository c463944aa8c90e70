"""What a fit says of a window: its landscape, and the point to choose instead of the first one.

numpy only. Legend: [points] of a grid, row-major. Derivation: docs/explanation/latency-model.md,
"Predictions".
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.lhp import Prefer, find_costs
from profiler_service.grid import Grid
from profiler_service.latency_model.calibration import Calibration, Standing
from profiler_service.latency_model.fit import Fit
from profiler_service.latency_model.settings import MODEL, CalibrationSettings, LearningSettings
from profiler_service.plan.learned import Effects, Learned, PredictedPair

_TRIED = 256
"""So many points, the preferred ones, are looked at together."""
_ROUNDED = 6
"""Decimals of a log ratio: equal on every processor."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Landscape:
    """The predicted log latencies of a window, less the first point's."""

    grid: Grid
    log_ratio: F64
    """[points]"""
    excluded: npt.NDArray[np.bool_]
    """[points] What can't be the answer: no candidates, and what the kind refuses."""
    distance: float
    """How far the first point is from what was learned, in octaves."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What is predicted of one pair: the first point of a window, and another one of it."""

    pair: PredictedPair
    standing: Standing
    probability: float | None
    """That the other point is no slower; None if too few predictions were held against
    measurements."""

    @property
    def is_believed(self) -> bool:
        """Whether to move to the point, as far as anybody knows without measuring."""
        return (
            self.standing is Standing.CALIBRATED
            and self.probability is not None
            and self.probability >= MODEL.calibration.least_probability
        )


def predict_landscape(fit: Fit, grid: Grid, *, refused: Collection[int] = ()) -> Landscape:
    """The whole window; `refused` are the numbers of points that the kind doesn't allow."""
    axes = [np.array(axis.dims, dtype=np.int64) for axis in grid.axes]
    excluded = np.zeros(grid.size, dtype=np.bool_)
    excluded[grid.find_others()] = True
    excluded[list(refused)] = True
    excluded[0] = False
    return Landscape(
        grid=grid,
        log_ratio=fit.predict(axes).ravel().round(_ROUNDED),
        excluded=excluded,
        distance=fit.find_distance(grid.first),
    )


def choose_pair(
    fit: Fit,
    landscape: Landscape,
    calibration: Calibration,
    *,
    prefer: Prefer = "fastest",
    slack: float = 0.0,
    settings: CalibrationSettings = MODEL.calibration,
) -> Prediction:
    """The point to choose instead of the first one, by the model alone.

    `fastest` is the one with the smallest prediction. `nearest` and `largest` are the preferred one
    of those that are no slower with `settings.least_probability`. The first point itself if there
    is none.
    """
    if prefer == "fastest":
        allowed = np.where(landscape.excluded, np.inf, landscape.log_ratio)
        return _describe(fit, landscape, calibration, int(allowed.argmin()), slack=slack)
    if calibration.find_standing(landscape.distance) is Standing.UNCALIBRATED:
        return _describe(fit, landscape, calibration, 0, slack=slack)  # no point is probable
    costs = find_costs(prefer, landscape.grid.first, landscape.grid.all_dims()).round(9)
    order = np.lexsort((landscape.log_ratio, costs))
    order = order[~landscape.excluded[order] & (order != 0)]
    # What promises nothing can't be probable.
    order = order[landscape.log_ratio[order] <= math.log1p(slack)]
    for start in range(0, len(order), _TRIED):
        points = order[start : start + _TRIED]
        deviation = find_deviations(fit, landscape, points)
        for point, each in zip(points.tolist(), deviation.tolist(), strict=True):
            probability = calibration.find_probability(
                float(landscape.log_ratio[point]), each, landscape.distance, slack=slack
            )
            if probability is not None and probability >= settings.least_probability:
                return _describe(fit, landscape, calibration, point, slack=slack)
    return _describe(fit, landscape, calibration, 0, slack=slack)


def start_race(
    fit: Fit,
    landscape: Landscape,
    calibration: Calibration,
    settings: LearningSettings = MODEL.learning,
) -> Learned:
    """What a race over this window gets from the model.

    Only the pair, for its score, if the model knows too little, or was wrong too often.
    """
    is_known = (
        fit.num_sweeps >= settings.start_sweeps
        and landscape.distance <= settings.start_distance
        and not calibration.is_withdrawn
    )
    return Learned(
        effects=_find_effects(landscape) if is_known else None,
        pair=choose_pair(fit, landscape, calibration).pair,
    )


def _find_effects(landscape: Landscape) -> Effects:
    """The log latency that each position of each axis adds, around 0."""
    log = landscape.log_ratio.reshape(landscape.grid.shape)
    axes = range(log.ndim)
    effects = [log.mean(axis=tuple(other for other in axes if other != axis)) for axis in axes]
    return tuple(tuple((each - each.mean()).round(5).tolist()) for each in effects)


def _describe(
    fit: Fit, landscape: Landscape, calibration: Calibration, point: int, *, slack: float
) -> Prediction:
    """The prediction of the pair of the first point and this one."""
    log_ratio, distance = float(landscape.log_ratio[point]), landscape.distance
    deviation = float(find_deviations(fit, landscape, np.array([point]))[0])
    return Prediction(
        pair=PredictedPair(
            dims=landscape.grid.dims(point),
            log_ratio=log_ratio,
            deviation=round(deviation, _ROUNDED),
            half_width=calibration.find_half_width(deviation, distance) if point else 0.0,
            distance=distance,
        ),
        standing=calibration.find_standing(distance),
        probability=(
            calibration.find_probability(log_ratio, deviation, distance, slack=slack)
            if point
            else 1.0
        ),
    )


def find_deviations(fit: Fit, landscape: Landscape, points: npt.NDArray[np.integer]) -> F64:
    """The standard deviation [points] of what is predicted of the points.

    What the visits leave open, what single points have of their own, and a share of the predicted
    ratio itself.
    """
    settings = MODEL.calibration
    own = fit.deviate(landscape.grid.first, landscape.grid.dims_of(points).astype(np.int64))
    share = settings.share_deviation * landscape.log_ratio[points]
    deviation: F64 = np.sqrt(own**2 + settings.least_deviation**2 + share**2)
    return deviation
