"""Narrowing: finds the fast positions of each axis with a few visits of each.

numpy only. Knows neither budgets nor how points are measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from profiler_service.plan.base import Points
from profiler_service.plan.race.prior_settings import PriorSettings
from profiler_service.plan.race.priors import find_alignments
from profiler_service.plan.race.settings import NarrowSettings
from profiler_service.plan.race.stages import End


class Posterior(Protocol):
    """What narrowing needs of `structure.StructureFit`."""

    def draw_fastest(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.intp]:
        """Positions [count, axes] of the fastest point in each of `count` draws."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Draw:
    """The points that were drawn: each may be the fastest."""

    points: Points
    field: tuple[int, ...]
    """Number of positions of each axis in the draw before; at first, all."""
    alive: tuple[int, ...]
    """Number of positions of each axis in this draw."""
    is_last: bool
    """Whether there are so few points that the contest can decide between them."""


class Narrowing:
    """Chooses the points to visit: first random ones, then draws from the posterior."""

    def __init__(
        self,
        settings: NarrowSettings,
        axes: Sequence[npt.NDArray[np.integer]],
        rng: np.random.Generator,
        *,
        allowed: int,
        few: int,
        prior: PriorSettings | None = None,
    ) -> None:
        """`axes` are each axis' dimensions, ascending. There is time for `allowed` visits.

        Narrowing ends when only `few` points are left.

        `prior` says how many visits a learned model saves where it holds; None if there is none.
        Some of the later visits are random then: what they find doesn't depend on the model.
        """
        self._settings = settings
        shape = tuple(map(len, axes))
        self._shape = shape
        self._alignments = [find_alignments(dims) for dims in axes]
        self._rng = rng
        self._allowed = allowed
        self._few = few
        self._alive = shape
        self._num_draws = 0
        self._prior = prior
        self._share = 1.0
        self._random_share = 0.0
        self._designed = 0
        # A model is judged after as few random visits as it could save.
        self.learn(0.0 if prior is None else 1.0)

    def learn(self, trust: float) -> None:
        """Takes the probability that the learned model holds: it saves so much of the visits."""
        if self._prior is not None:
            self._share = 1.0 - trust * (1.0 - self._prior.learned_visits)
            self._random_share = trust * self._prior.learned_random

    @property
    def wanted(self) -> int:
        """Number of visits wanted in total, at the reference noise."""
        return math.ceil(self._share * self._settings.visits * max(self._shape))

    @property
    def design_size(self) -> int:
        """Number of random visits wanted before any position is preferred."""
        total = min(self.wanted, self._allowed)
        most = math.ceil(self._settings.design_share * total)
        design = math.ceil(self._share * self._settings.design_visits * max(self._shape))
        return max(min(design, most), 2)

    def design(self) -> Points:
        """Random points, with every position of every axis (nearly) equally often.

        Those that are still missing of `design_size`; none in the end. Too few for every position
        still have every alignment of it: multiples of 16 take turns with odd dims, and so on.
        """
        missing = max(self.design_size - self._designed, 0)
        self._designed += missing
        columns = []
        for alignment in self._alignments:
            repeats = -(-missing // len(alignment))
            turns = [self._take_turns(alignment) for _ in range(repeats)]
            order = np.concatenate([np.zeros(0, dtype=np.intp), *turns])
            # The positions of the axes are paired at random.
            columns.append(self._rng.permutation(order[:missing]))
        return self._number(columns)

    def _take_turns(self, alignment: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        """All positions of an axis: at random, but one of each alignment, then another of each."""
        order = self._rng.permutation(len(alignment))
        turn = np.zeros(len(order), dtype=np.intp)
        for each in np.unique(alignment):
            is_one = alignment[order] == each
            turn[is_one] = np.arange(np.count_nonzero(is_one))
        return order[np.argsort(turn, kind="stable")]

    def suggest(self, fit: Posterior, *, wanted: int, left: int) -> Draw | End:
        """The next points to visit, or why there are none.

        `fit` is the fit to all samples so far. `wanted` is the number of visits wanted in total at
        the noise seen, and `left` the number for which there is still time.
        """
        total = min(wanted, self._allowed)
        designed = max(self._designed, self.design_size)
        share = math.ceil((total - designed) / self._settings.batches)
        count = max(share, self._settings.least_draws)
        if left < count:
            return End.OUT_OF_TIME
        positions = fit.draw_fastest(self._rng, count)
        alive = tuple(len(np.unique(column)) for column in positions.T)
        points = self._number(list(positions.T))
        num_drawn = len(np.unique(points))
        if num_random := math.ceil(self._random_share * count):
            others = self._rng.integers(0, math.prod(self._shape), num_random)
            points[:num_random] = others
        draw = Draw(
            points=points,
            field=self._alive,
            alive=alive,
            # The first draw follows the random points alone, and they don't include most points.
            is_last=self._num_draws > 0 and num_drawn <= self._few,
        )
        self._alive = alive
        self._num_draws += 1
        return draw

    def _number(self, columns: list[npt.NDArray[np.intp]]) -> Points:
        points: Points = np.ravel_multi_index(columns, self._shape).astype(np.int32)
        return points
