"""The contest: measures points that may be the fastest in rounds, and drops those behind.

numpy only. Knows neither budgets nor how points are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from profiler_service.analysis.comparison import F64
from profiler_service.plan.base import Points
from profiler_service.plan.race.settings import ContestSettings


def count_places(settings: ContestSettings, visits: int) -> tuple[int, int]:
    """Number of places for the points that the fit ranks first, and for the fastest points seen."""
    places = min(max(visits // settings.rounds_affordable, 1), settings.places)
    num_seen = places // settings.one_seen_in
    return places - num_seen, num_seen


def find_favourites(predicted: F64, size: int, excluded: Collection[int]) -> Points:
    """The `size` points with the smallest `predicted` [points], fastest first.

    `excluded` and what isn't finite is left out. Which of equal points comes first is numpy's
    choice, and may differ between processors.
    """
    predicted = predicted.copy()
    predicted[list(excluded)] = np.inf
    size = min(size, len(predicted))
    favourites = np.argpartition(predicted, size - 1)[:size]
    favourites = favourites[np.argsort(predicted[favourites], kind="stable")]
    return favourites[np.isfinite(predicted[favourites])].astype(np.int32)


def join_fields(fields: Collection[Points], excluded: Collection[int]) -> Points:
    """The points of all fields in order of their first occurrence, each once."""
    field = np.concatenate([*fields]).astype(np.int32)
    field = field[np.sort(np.unique(field, return_index=True)[1])]
    return field[~np.isin(field, list(excluded))]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounds:
    """The rounds that a contest measures next."""

    field: Points
    """The points that are visited in each round."""
    count: int


class Contest:
    """The rounds of a contest, and who is still in it: `candidates`, fastest first."""

    def __init__(
        self,
        settings: ContestSettings,
        candidates: Points,
        *,
        finalists: int,
        allowed: int,
        companion: int | None = None,
    ) -> None:
        """At most `finalists` are kept in the end; `allowed` visits fit into the contest's time.

        `companion` is a point that is visited in each round and never dropped.
        """
        self._settings = settings
        self._finalists = finalists
        self._allowed = allowed
        self._companion = companion
        self.candidates = candidates
        self.number = 0
        """How many parts have ended."""

    @property
    def _is_play_off(self) -> bool:
        return self.number >= len(self._settings.rounds)

    def suggest(self, scale: Callable[[int], int]) -> Rounds | None:
        """The rounds of the next part; None if at most one candidate is left.

        `scale` converts a number of rounds at the reference noise into the number for the noise
        seen.
        """
        if len(self.candidates) < 2:
            return None
        field = self.candidates
        if self._companion is not None:
            field = np.append(field, self._companion)
        if self._is_play_off:
            rounds, share = self._settings.play_off_rounds, 1.0
        else:
            rounds, share = self._settings.rounds[self.number], self._settings.shares[self.number]
        affordable = int(share * self._allowed / len(field))
        return Rounds(field=field, count=max(1, min(scale(rounds), affordable)))

    def update(self, ranked: Points, behind: F64) -> Points:
        """The candidates that this part drops; ends the part. `ranked` has all, fastest first.

        `behind` [candidates] tells by how many standard errors each is behind the first.
        """
        settings = self._settings
        limit = settings.play_off_behind if self._is_play_off else settings.behind
        places = [*settings.kept, self._finalists][min(self.number, len(settings.kept))]
        kept = ranked[:places]
        kept = kept[behind[:places] < limit]
        dropped = np.setdiff1d(self.candidates, kept)
        self.candidates = kept
        self.number += 1
        return dropped
