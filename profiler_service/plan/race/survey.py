"""The first part of a survey: looks at every point of the window.

numpy only. Knows neither budgets nor how points are measured.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from profiler_service.plan.base import Points
from profiler_service.plan.race.settings import SurveySettings


class Ranking(Protocol):
    """What a survey needs of `seen.Seen`."""

    def fastest(self, field: Points, *, lenient: bool = False) -> Points:
        """The points of `field`, fastest first; `lenient` ranks by each point's fastest visit."""


class Survey:
    """The parts of the look: all points, then the fast ones again. `field` is visited next."""

    def __init__(self, settings: SurveySettings, num_points: int) -> None:
        self._settings = settings
        self._num_points = num_points
        self.number = 0
        """How many parts have ended."""
        self.field: Points = np.arange(1, num_points, dtype=np.int32)

    @property
    def looks(self) -> int:
        """Visits of each point of `field` in this part; 0 if no part is left."""
        if self.number >= len(self._settings.looks):
            return 0
        return self._settings.looks[self.number]

    def update(self, seen: Ranking) -> str:
        """Why the dropped points leave the field; ends this part and begins the next."""
        self.number += 1
        if not self.looks:
            self.field = seen.fastest(self.field)[: self._settings.places]
            return "larger median"
        share = self._settings.shares[self.number]
        size = max(math.ceil(share * self._num_points), self._settings.places)
        # Of two visits the faster one counts, so that one disturbed visit drops no point.
        is_second = self.number == 1
        self.field = seen.fastest(self.field, lenient=is_second)[:size]
        return "slower in both looks" if is_second else "larger median"
