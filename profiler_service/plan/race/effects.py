"""Effects of which a point's log latency is the sum, and what is known of them.

numpy only. Legend: [effects], [points], [samples], [groups] of effects. Each point has one effect
of each group: its row's, for example.
"""

from __future__ import annotations

import abc
import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.neighbours import Neighbours


@dataclass(frozen=True, kw_only=True, eq=False)
class EffectsFit(abc.ABC):
    """A normal distribution of all effects, and the usual size of what they don't explain."""

    interaction: float
    """The usual effect of a single point, beyond the effects of its groups."""
    precision: F64
    """[effects, effects] Inverse covariance of the effects."""

    @abc.abstractmethod
    def predict(self) -> F64:
        """The fit's log latency at every point, in the grid's shape."""

    @abc.abstractmethod
    def find_columns(self, points: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
        """Which effects each of the points has, [points, groups]."""

    def believe(self, points: npt.NDArray[np.integer]) -> tuple[F64, F64]:
        """Log latency of each of the points, and the covariance of the errors, [n] and [n, n].

        The effects of single points, which the model doesn't know, are not in it.
        """
        columns = np.zeros((len(self.precision), len(points)))
        for each in self.find_columns(points).T:
            columns[each, np.arange(len(points))] = 1.0
        covariance = columns.T @ np.linalg.solve(self.precision, columns)
        return self.predict().ravel()[points], covariance

    def draw_smallest(
        self,
        rng: np.random.Generator,
        count: int,
        points: npt.NDArray[np.integer],
        beside: npt.NDArray[np.integer],
    ) -> F64:
        """The smallest log latency of any of `points` [points] in each of `count` draws.

        A draw has its own effects, and an effect of each single point. The mean of the points
        `beside` is the same in all draws: only differences are known.
        """
        deviation = self._draw_deviations(rng, count)
        drawn = self.interaction * rng.standard_normal((len(points), count))
        drawn += self.predict().ravel()[points][:, np.newaxis]
        for mine, known in zip(
            self.find_columns(points).T, self.find_columns(beside).T, strict=True
        ):
            drawn += deviation[mine] - deviation[known].mean(axis=0)
        smallest: F64 = drawn.min(axis=0).round(6)
        return smallest

    def _draw_deviations(self, rng: np.random.Generator, count: int) -> F64:
        normal = rng.standard_normal((len(self.precision), count))
        drawn: F64 = np.linalg.solve(np.linalg.cholesky(self.precision).T, normal)
        return drawn


def sum_pairs(
    columns: npt.NDArray[np.intp],
    offsets: npt.NDArray[np.integer],
    near: Neighbours,
    weight: F64,
    value: F64,
) -> tuple[F64, F64]:
    """What the samples say of the effects: X' L X and X' L `value`, with the pairs' Laplacian L.

    `columns` [samples, groups] are the effects of each sample, X has a one for each of them. The
    group g has the effects from offsets[g] up to offsets[g + 1]. `weight` is that of each pair.
    """
    matrix = np.zeros((int(offsets[-1]),) * 2)
    right = np.zeros(len(matrix))
    weighted = weight * near.differ(value)
    groups = list(zip(columns.T, itertools.pairwise(offsets.tolist()), strict=True))
    for column, (start, end) in groups:
        size = end - start
        first, second = column[near.first] - start, column[near.second] - start
        right[start:end] = np.bincount(first, weighted, size)
        right[start:end] -= np.bincount(second, weighted, size)
    both = np.concatenate([near.first, near.second])
    other = np.concatenate([near.second, near.first])
    twice = np.concatenate([weight, weight])
    for (row, (a, b)), (column, (c, d)) in itertools.combinations_with_replacement(groups, 2):
        shape, size = (b - a, d - c), (b - a) * (d - c)
        start = (row[both] - a) * shape[1] - c
        cells = np.zeros(size)
        cells += np.bincount(start + column[both], twice, size)
        cells -= np.bincount(start + column[other], twice, size)
        block = cells.reshape(shape)
        matrix[a:b, c:d] += block
        if a != c:
            matrix[c:d, a:b] += block.T
    return matrix, right
