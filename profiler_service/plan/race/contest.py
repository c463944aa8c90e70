"""The contest: measures points that may be the fastest in rounds, until few are left.

numpy only. Knows neither budgets nor how points are measured.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from profiler_service.analysis.comparison import F64
from profiler_service.plan.base import Points
from profiler_service.plan.race.settings import ContestSettings
from profiler_service.plan.race.standing import Standing


def count_places(
    settings: ContestSettings, scale: Callable[[int], int], *, visits: int, num_points: int
) -> tuple[int, int]:
    """Number of places for the points that the fit ranks first, and for the fastest points seen.

    `visits` fit into the contest's time. All of the window's `num_points` may join if there are few
    and two parts of the contest can visit them all. `scale` is that of `Contest.suggest`.
    """
    two_parts = scale(settings.rounds) + scale(math.ceil(settings.rounds * settings.growth))
    if num_points <= min(visits // two_parts, settings.whole_window):
        return num_points, 0
    places = min(max(visits // settings.rounds_affordable, 1), settings.places)
    num_seen = places // settings.one_seen_in
    return places - num_seen, num_seen


def find_favourites(predicted: F64, size: int, excluded: Collection[int] = ()) -> Points:
    """The `size` points with the smallest `predicted` [points], fastest first.

    `excluded` and what isn't finite is left out. Of equal points, the smaller number comes first.
    """
    predicted = predicted.copy()
    predicted[list(excluded)] = np.inf
    size = min(size, int(np.count_nonzero(np.isfinite(predicted))))
    if not size:
        return np.zeros(0, dtype=np.int32)
    # The value at a rank is the same on every processor; which of equal points is there, isn't.
    last = np.partition(predicted, size - 1)[size - 1]
    favourites = np.flatnonzero(predicted <= last)
    order = np.argsort(predicted[favourites], kind="stable")
    return favourites[order][:size].astype(np.int32)


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
    """The rounds of a contest, and who may still win it: `open_points`, fastest first.

    A point leaves when it surely isn't faster than the leader by more than the margin, whatever
    differs between the processes and arenas that visited it. It comes back when another leader or
    more samples make that doubtful again.
    """

    def __init__(
        self, settings: ContestSettings, points: Points, *, margin: float, error: float
    ) -> None:
        """`points` take part; nothing is lost by leaving out points that aren't `margin` faster.

        `error` is that of all claims about points that left, which `margin.bound_leads` makes.
        """
        self._settings = settings
        self._least_log = math.log(1 - margin)
        self.points = points
        self.open_points = points
        self.number = 0
        """How many parts have ended."""
        # The same confidence as there: a point that leaves can then be bounded. Leaving claims
        # nothing by itself, and a point that left too early may come back.
        self._z = statistics.NormalDist().inv_cdf(1 - error / max(len(points), 1))

    def suggest(self, scale: Callable[[int], int], *, affordable: int) -> Rounds | None:
        """The rounds of the next part; None if at most one point is open, or after the last part.

        `scale` converts a number of rounds at the reference noise into the number for the noise
        seen. `affordable` visits fit into the contest's time: there are as many rounds as fit.
        """
        if len(self.open_points) < 2 or self.number >= self._settings.parts:
            return None
        wanted = scale(math.ceil(self._settings.rounds * self._settings.growth**self.number))
        count = min(wanted, affordable // (len(self.open_points) + 1))
        return None if count < 1 else Rounds(field=self.open_points, count=count)

    def update(self, standing: Standing, between: F64) -> Points:
        """The points that this part drops; ends the part. Others may come back.

        `standing` has all points of the contest that didn't fail. `between` is that of
        `margin.bound_leads` for each of them. With it, that bound of a point that leaves is within
        the margin, so the point needn't come back in another contest.
        """
        order = np.argsort(standing.level, kind="stable")
        leader = int(standing.points[order[0]])
        lead, error = standing.find_lead(leader)
        may_lead = lead + np.hypot(self._z * error, between) > -self._least_log
        may_lead |= standing.visits < self._settings.least_visits
        may_lead |= standing.points == leader
        points, may_lead = standing.points[order], may_lead[order]
        before, self.open_points = self.open_points, points[may_lead]
        self.points = points
        self.number += 1
        return np.setdiff1d(before, self.open_points)
