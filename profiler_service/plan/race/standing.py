"""How the points of a contest stand: what the model expects, corrected by their own visits.

numpy only. Knows neither budgets nor how points are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64, grouped_medians, smooth_drift
from profiler_service.analysis.samples import Samples
from profiler_service.plan.base import Points
from profiler_service.plan.race.seen import join
from profiler_service.plan.race.structure import StructureFit

_PASSES = 3
_BLOCK = 8
"""Residuals whose median is the drift around them. States of a host (clocks, neighbours) last for
milliseconds, so drift must follow them quickly."""
_ERROR = 1.4
"""A level's error over that of a mean: 1.25 for a median, and the error of the drift under it, of
which each block has 1.25 / √8."""
_ANY_LEVEL = 1.0
"""Variance of the difference between the levels of the model and of the contest: any."""
_FREEDOM = 3.0
"""Effects of single points have the heavy tails of Student's t with so many degrees of freedom."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Standing:
    """The log latencies of some points; all arrays [points]."""

    points: Points
    level: F64
    """Posterior mean, given the model and the points' own visits."""
    covariance: F64
    """[points, points] Its errors."""
    visits: npt.NDArray[np.int64]
    noise: float
    """Relative scale of one visit's noise."""

    def find_lead(self, leader: int) -> tuple[F64, F64]:
        """How much longer the point `leader` takes than each of the points, and the error of that.

        Both are in log: positive if the other point is faster.
        """
        at = self.points.tolist().index(leader)
        variance = np.diag(self.covariance)
        error = np.sqrt(np.maximum(variance + variance[at] - 2 * self.covariance[at], 0.0))
        return (self.level[at] - self.level).round(6), error.round(6)


def find_standing(batches: Sequence[Samples], points: Points, fit: StructureFit) -> Standing:
    """How the points stand, from samples of rounds and the model's `fit` to earlier samples.

    A point's latency is the model's, plus an effect of its own with heavy tails. Its visits show
    both, after drift that all points share is removed. With few visits the model decides, with many
    the visits do, and if they contradict it clearly, they do at once (Source: ours; the weights of
    Student's t are those of Lange, Little and Taylor, 1989).
    """
    level, visits, noise = _find_own_levels(batches, points)
    expected, model = fit.believe(points)
    # Points without visits have no level of their own.
    own_variance = np.where(visits > 0, (_ERROR * noise) ** 2 / np.maximum(visits, 1), 1e6)
    surprise = np.where(visits > 0, level - expected, 0.0)
    known = visits > 0
    surprise -= np.median(surprise[known]) if known.any() else 0.0
    effect_variance = np.full(len(points), fit.interaction**2)
    for _ in range(_PASSES):
        prior = model + np.diag(effect_variance) + _ANY_LEVEL
        gain = np.linalg.solve(prior + np.diag(own_variance), prior).T
        updated = gain @ surprise
        effect = effect_variance * np.linalg.solve(prior + np.diag(own_variance), surprise)
        effect_variance = (_FREEDOM * fit.interaction**2 + effect**2) / (_FREEDOM + 1)
        effect_variance = np.maximum(effect_variance, fit.interaction**2)
    return Standing(
        points=points,
        level=(expected + updated).round(6),
        covariance=prior - gain @ prior,
        visits=visits,
        noise=noise,
    )


def _find_own_levels(
    batches: Sequence[Samples], points: Points
) -> tuple[F64, npt.NDArray[np.int64], float]:
    """The level of each point by its own visits (0 without any), their number, and the noise.

    Every sample is the level of its point, plus slow drift that all points share, plus noise. Both
    are found in turn, by medians.
    """
    point, log, time = join(batches)
    drift: F64 = np.zeros(len(log))
    residual: F64 = np.zeros(len(log))
    groups, level, count = grouped_medians(point, log)
    for _ in range(_PASSES):
        residual = log - level[np.searchsorted(groups, point)]
        drift = smooth_drift(time, residual, block=_BLOCK)
        groups, level, count = grouped_medians(point, log - drift)
    left = log - drift - level[np.searchsorted(groups, point)]
    at = np.minimum(np.searchsorted(groups, points), len(groups) - 1)
    is_seen = groups[at] == points
    return (
        np.where(is_seen, level[at], 0.0),
        np.where(is_seen, count[at], 0),
        1.48 * float(np.median(np.abs(left))),
    )
