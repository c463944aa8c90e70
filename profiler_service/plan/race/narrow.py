"""Narrowing: the fast positions of each axis, from a few visits of each.

numpy only. Knows neither budgets nor how points are measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from profiler_service.plan.base import Points
from profiler_service.plan.race.settings import NarrowSettings
from profiler_service.plan.race.stages import End


class Posterior(Protocol):
    """What narrowing needs of `structure.StructureFit`."""

    def draw_fastest(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.intp]:
        """Positions [count, axes] of the fastest point in each of `count` draws."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Draw:
    """Points drawn as those that may be the fastest."""

    points: Points
    field: tuple[int, ...]
    """Positions of each axis that were drawn the time before; at first, all."""
    alive: tuple[int, ...]
    """Positions of each axis that were drawn this time."""
    is_last: bool
    """Whether so few points were drawn that the contest tells them apart."""


class Narrowing:
    """Chooses the points to visit: a design first, then draws from the posterior."""

    def __init__(
        self,
        settings: NarrowSettings,
        shape: tuple[int, ...],
        rng: np.random.Generator,
        *,
        allowed: int,
        few: int,
    ) -> None:
        """`allowed` is how many visits there is time for; narrowing ends at `few` points."""
        self._settings = settings
        self._shape = shape
        self._rng = rng
        self._allowed = allowed
        self._few = few
        self._alive = shape
        self._num_draws = 0
        total = min(self.wanted, allowed)
        most = math.ceil(settings.design_share * total)
        self.design_size = max(min(settings.design_visits * max(shape), most), 2)

    @property
    def wanted(self) -> int:
        """Visits wanted in all, at the reference noise."""
        return self._settings.visits * max(self._shape)

    def design(self) -> Points:
        """Random points, every position of every axis as often as any other, or nearly."""
        columns = []
        for size in self._shape:
            repeats = -(-self.design_size // size)
            shuffled = [self._rng.permutation(size) for _ in range(repeats)]
            columns.append(np.concatenate(shuffled)[: self.design_size])
        return self._number(columns)

    def suggest(self, fit: Posterior, *, wanted: int, left: int) -> Draw | End:
        """The next points to visit, or why there are none.

        `fit` is that of all samples so far, `wanted` how many visits are wanted in all at the
        noise seen, and `left` how many there is still time for.
        """
        total = min(wanted, self._allowed)
        share = math.ceil((total - self.design_size) / self._settings.batches)
        count = max(share, self._settings.least_draws)
        if left < count:
            return End.OUT_OF_TIME
        positions = fit.draw_fastest(self._rng, count)
        alive = tuple(len(np.unique(column)) for column in positions.T)
        points = self._number(list(positions.T))
        draw = Draw(
            points=points,
            field=self._alive,
            alive=alive,
            # The first draw follows the design alone, which visited most points never.
            is_last=self._num_draws > 0 and len(np.unique(points)) <= self._few,
        )
        self._alive = alive
        self._num_draws += 1
        return draw

    def _number(self, columns: list[npt.NDArray[np.intp]]) -> Points:
        points: Points = np.ravel_multi_index(columns, self._shape).astype(np.int32)
        return points
