"""Learns from the first visits of a sweep: what they add to the statistics.

numpy only. Derivation: docs/explanation/latency-model.md, "The statistics".
"""

from __future__ import annotations

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
    effects, noise = before.mean, 0.0
    matrix, right = np.zeros((0, 0)), np.zeros(0)
    for _ in range(_MAX_PASSES):
        residual: F64 = value - rows @ effects
        found = near.find_noise(residual)
        if found is None or abs(found.deviation - noise) <= _CONVERGED * noise:
            break
        noise = max(found.deviation, _LEAST_NOISE)
        weight = near.weigh(residual, max(found.width, _LEAST_NOISE))
        # Each pair belongs to two visits, and a visit tells 1 / noise².
        weight *= len(value) / (2 * float(weight.sum()) * noise**2)
        matrix, right = _sum_up(rows, value, near, weight)
        precision, pull = before.precision + matrix, before.right + right
        effects = np.asarray(np.linalg.solve(precision, pull), dtype=np.float64)
    if not len(right):
        return Statistics.empty(basis.size, basis.num_axes)
    return Statistics(
        matrix=matrix,
        right=right,
        num_visits=float(len(visits)),
        num_sweeps=1.0,
        windows=np.stack([visits.points.min(axis=0), visits.points.max(axis=0)], axis=1)[None],
    )


def _sum_up(rows: F64, value: F64, near: Neighbours, weight: F64) -> tuple[F64, F64]:
    """The pairs' weighted squares [p, p] and products [p]."""
    laplacian: F64 = np.zeros((len(value), len(value)))
    laplacian[near.first, near.second] = laplacian[near.second, near.first] = -weight
    np.fill_diagonal(laplacian, -laplacian.sum(axis=1))
    pulled = laplacian @ rows
    return rows.T @ pulled, pulled.T @ value
