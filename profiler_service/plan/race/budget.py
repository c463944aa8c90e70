"""How long a race may take, and how many visits still fit into that time.

Pure: fed with seconds and numbers of visits. Derivation: docs/explanation/races.md.
"""

from __future__ import annotations

import math

from profiler_service.plan.race.settings import BudgetSettings
from profiler_service.plan.race.stages import End


class Budget:
    """The seconds that a race may take, and the visits that are left."""

    def __init__(
        self,
        settings: BudgetSettings,
        *,
        call_s: float,
        visit_s: float,
        settle_s: float,
        noise: float,
        asked_s: float | None = None,
    ) -> None:
        """`call_s` is the time of one call of the queried point, `visit_s` of a whole visit of it.

        `settle_s` and `asked_s` are what the caller allows, `noise` that of one call.
        """
        self._settings = settings
        self._asked_s = asked_s
        self._excluded_s = 0.0
        self._own_s = max(
            settings.search_s + settle_s, min(settings.least_calls * call_s, settings.longest_s)
        )
        self.visit_s = visit_s
        """The time of a visit, with its untimed call and all preparation."""
        self.noise = noise

    @property
    def seconds(self) -> float:
        """The time of the race, without a survey."""
        if self._asked_s is None:
            return self._own_s
        return min(self._own_s, self._asked_s - self._excluded_s)

    def learn(self, *, noise: float, visit_s: float) -> None:
        """Takes what is known now of the noise of a call, and of the time of a visit."""
        self.noise = noise
        self.visit_s = visit_s

    def exclude(self, seconds: float) -> None:
        """Takes the time of a survey, which is part of a budget that the caller gave alone."""
        self._excluded_s = seconds

    def visits_until(self, share: float, spent_s: float) -> int:
        """How many visits fit in until `share` of the time is spent; `spent_s` is spent now."""
        left_s = share * self.seconds - (spent_s - self._excluded_s)
        return max(0, int(left_s / self.visit_s))

    def find_survey_end(self, spent_s: float) -> End | None:
        """OUT_OF_TIME if a survey has used its part of the caller's budget, else None."""
        if self._asked_s is None or spent_s <= self._settings.narrow_until * self._asked_s:
            return None
        return End.OUT_OF_TIME

    def scale(self, visits: int) -> int:
        """`visits`, stated for the reference noise, for the noise here."""
        settings = self._settings
        # It may be a quiet moment. So fewer visits are made only where they save much time.
        least = min(1.0, settings.dear_visit_s / self.visit_s)
        factor = (self.noise / settings.reference_noise) ** 2
        return max(1, math.ceil(visits * min(max(factor, least), settings.most_noise_factor)))
