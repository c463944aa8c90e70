"""Learns from the first visits of a sweep: what they add to the statistics.

numpy only. Derivation: docs/explanation/latency-model.md, "The statistics".
"""

from __future__ import annotations

import math

import numpy as np

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.neighbours import Neighbours
from profiler_service.latency_model.first_visits import FirstVisits
from profiler_service.latency_model.fit import Fit
from profiler_service.latency_model.settings import MODEL, LearningSettings
from profiler_service.latency_model.statistics import Statistics

_MAX_PASSES = 6
_CONVERGED = 0.02
"""Passes end when the noise changes by less than this share."""
_LEAST_NOISE = 1e-3
"""A clock may be too coarse to show any."""
_LEAST_FREE = 0.1
"""The least share of the visits that says how large the noise is."""


def learn(
    visits: FirstVisits, before: Fit, settings: LearningSettings = MODEL.learning
) -> Statistics:
    """What the visits of one sweep say; of no visit if there are too few.

    Only differences of neighbours in time count, so neither the sweep's level nor the states of the
    host need a model. A difference that is far off what is expected counts little: expected, that
    is, by a fit to what was known `before` and to these visits.
    """
    basis = before.basis
    if len(visits) < settings.least_visits or not len(visits.near.first):
        return Statistics.empty(basis.size, basis.num_axes)
    rows, value, near = basis.rows(visits.points), visits.log_latency, visits.near
    # What is left after what was known before, and the directions in which it can be explained.
    left: F64 = value - rows @ before.mean
    directions = _find_directions(rows, before)
    residual, noise, free = left, 0.0, 1.0
    weight: F64 | None = None
    for _ in range(_MAX_PASSES):
        found = near.find_noise(residual)
        if found is None:
            break
        # What the visits themselves explain of their noise is missing in the residuals.
        seen = max(found.deviation / math.sqrt(free), _LEAST_NOISE)
        seen = _temper(seen, len(value), settings)
        if abs(seen - noise) <= _CONVERGED * noise:
            break
        noise = seen
        weight = near.weigh(residual, found.width / math.sqrt(free))
        # Each pair belongs to two visits, and a visit tells 1 / noise².
        weight *= len(value) / (2 * float(weight.sum()) * noise**2)
        matrix, right = _sum_up(directions, left, near, weight)
        covariance = np.linalg.inv(np.eye(len(right)) + matrix)
        residual = left - directions @ (covariance @ right)
        # The trace of the hat matrix: so many effects, these visits determine alone.
        settled = float(np.sum(covariance * matrix))
        free = max(1.0 - settled / len(value), _LEAST_FREE)
    if weight is None:
        return Statistics.empty(basis.size, basis.num_axes)
    matrix, right = _sum_up(rows, value, near, weight)
    return Statistics(
        matrix=matrix,
        right=right,
        num_visits=float(len(visits)),
        num_sweeps=1.0,
        windows=np.stack([visits.points.min(axis=0), visits.points.max(axis=0)], axis=1)[None],
    )


def _find_directions(rows: F64, before: Fit) -> F64:
    """The rows [visits, directions] in directions that are independent, each ± 1, by that fit.

    There are no more of them than visits, nor than features. So every pass costs what the visits
    are, and not what the features are: with the precision P = L L', rows X (L')⁻¹ have the
    covariance X P⁻¹ X', and so has what a rotation makes of them.
    """
    whitened: F64 = np.linalg.solve(np.linalg.cholesky(before.precision), rows.T)
    if len(rows) >= len(whitened):
        return whitened.T
    triangle: F64 = np.asarray(np.linalg.qr(whitened, mode="r"), dtype=np.float64)
    return triangle.T


def _temper(noise: float, visits: int, settings: LearningSettings) -> float:
    """The noise as far as so many visits tell it: few may be equal by chance."""
    share = visits / (visits + settings.noise_visits)
    return math.exp(share * math.log(noise) + (1 - share) * math.log(settings.noise))


def _sum_up(rows: F64, value: F64, near: Neighbours, weight: F64) -> tuple[F64, F64]:
    """The pairs' weighted squares [p, p] and products [p].

    With the features X and the graph's Laplacian L these are X'LX and X'Ly. L has few entries in a
    row, so it is never made.
    """
    pulled = np.zeros_like(rows)
    step = near.second - near.first
    for each in range(1, int(step.max()) + 1):
        # A visit is the first of one such pair at most, and the second of one.
        of_step = step == each
        first, second = near.first[of_step], near.second[of_step]
        pull = weight[of_step, np.newaxis] * (rows[first] - rows[second])
        pulled[first] += pull
        pulled[second] -= pull
    return rows.T @ pulled, pulled.T @ value
