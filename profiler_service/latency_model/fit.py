"""The posterior of the effects, given the statistics, and what it says of points.

numpy only. Legend: [p] features, [points] design points. Derivation:
docs/explanation/latency-model.md, "The fit".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64
from profiler_service.latency_model.basis import Basis, Ints
from profiler_service.latency_model.settings import MODEL, LearningSettings
from profiler_service.latency_model.statistics import Statistics, Windows

Spreads = tuple[float, ...]
"""The standard deviation of the effects of each group of features."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """What is believed of the effects."""

    basis: Basis
    statistics: Statistics
    spreads: Spreads
    """What the effects deviate from `expected` by."""
    expected: F64
    """[p] The effects without any visit."""
    num_sweeps: float
    """Number of sweeps that it rests on. What is half trusted counts half."""
    windows: Windows
    """Where they were."""

    @functools.cached_property
    def precision(self) -> F64:
        """[p, p] The inverse of the effects' covariance."""
        return self.statistics.matrix + np.diag(self._own_precision)

    @functools.cached_property
    def right(self) -> F64:
        """[p] The precision times the mean."""
        return self.statistics.right + self._own_precision * self.expected

    @property
    def _own_precision(self) -> F64:
        weight: F64 = self.basis.spread(self.spreads) ** -2
        return weight

    @functools.cached_property
    def covariance(self) -> F64:
        """[p, p] Of the effects."""
        inverse: F64 = np.asarray(np.linalg.inv(self.precision), dtype=np.float64)
        return inverse

    @functools.cached_property
    def mean(self) -> F64:
        """[p] The effects."""
        mean: F64 = np.asarray(np.linalg.solve(self.precision, self.right), dtype=np.float64)
        return mean

    def predict(self, axes: Sequence[Ints]) -> F64:
        """The log latency of every point of a grid, less the first point's, in its shape."""
        predicted = self.basis.predict(self.mean, axes)
        relative: F64 = predicted - predicted.ravel()[0]
        return relative

    def deviate(self, asked: Sequence[int], points: Ints) -> F64:
        """The standard deviation [points] of the log ratio of each of the points to `asked`.

        Only of what their features cause.
        """
        rows = self.basis.rows(np.vstack([np.array([asked]), points]))
        rows = rows[1:] - rows[0]
        variance = np.einsum("ij,ij->i", rows @ self.covariance, rows)
        deviation: F64 = np.sqrt(np.maximum(variance, 0.0))
        return deviation

    def find_distance(self, point: Sequence[int]) -> float:
        """How far the point is from the nearest window that was learned from, in octaves.

        0 inside of one; infinite if there is none.
        """
        return find_distance(self.windows, point)

    def find_spreads(self, settings: LearningSettings = MODEL.learning) -> Spreads:
        """The spreads that make what was measured more likely (one step of EM).

        Steps repeated converge to the maximum of the marginal likelihood. The spreads of the prior
        keep a group alive of which few visits say anything.
        """
        square = (self.mean - self.expected) ** 2 + np.diag(self.covariance)
        found = []
        for group in self.basis.groups:
            size = group.stop - group.start
            total = float(square[group.start : group.stop].sum())
            total += settings.shrink * (group.spread**2)
            found.append(math.sqrt(total / (size + settings.shrink)))
        return tuple(found)


def fit(
    basis: Basis,
    statistics: Statistics,
    *,
    spreads: Spreads | None = None,
    relatives: Fit | None = None,
    settings: LearningSettings = MODEL.learning,
) -> Fit:
    """The fit to the statistics, with the spreads learned so far, if any, around the prior.

    `relatives` were fitted to what is similar: the same kind with other fixed parameters, or the
    platform before an upgrade. They are half trusted: effects are expected to be theirs, and to
    deviate from them half as much as they deviate from the prior there. `spreads` don't count then.
    """
    if relatives is None:
        return Fit(
            basis=basis,
            statistics=statistics,
            spreads=spreads or tuple(group.spread for group in basis.groups),
            expected=basis.mean,
            num_sweeps=statistics.num_sweeps,
            windows=statistics.windows,
        )
    return Fit(
        basis=basis,
        statistics=statistics,
        spreads=tuple(settings.trust * spread for spread in relatives.spreads),
        expected=relatives.mean,
        num_sweeps=statistics.num_sweeps + settings.trust * relatives.num_sweeps,
        windows=np.concatenate([relatives.windows, statistics.windows]),
    )


def find_distance(windows: Windows, point: Sequence[int]) -> float:
    """How far the point is from the nearest window, along the axis where it is farthest."""
    if not len(windows):
        return math.inf
    at: npt.NDArray[np.float64] = np.log2(np.asarray(point, dtype=np.float64))
    ends = np.log2(windows.astype(np.float64))
    beyond = np.maximum(np.maximum(ends[:, :, 0] - at, at - ends[:, :, 1]), 0.0)
    return round(float(beyond.max(axis=1).min()), 3)
