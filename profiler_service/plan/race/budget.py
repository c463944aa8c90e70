"""How long a race may take, and how many visits still fit into that time.

Pure: fed with seconds and numbers of visits. Derivation: docs/explanation/races.md.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from profiler_service.plan.race.settings import BudgetSettings
from profiler_service.plan.race.stages import End


class Bound(enum.StrEnum):
    """The rule that a budget follows from."""

    DEAR = "a small share of the time of calling each point once, because calls are long"
    CHEAP = "nearly the time of calling each point once, up to about a second"
    UNNOTICED = "a time so short that nobody notices it"
    ONE_LOOK = "the time of one look of the confirmation"
    LEAST_CALLS = "the time of a few calls"
    ASKED = "the budget that the caller gave"


@dataclass(frozen=True, kw_only=True)
class VisitCost:
    """The time of a visit of the queried point, as found by calibration."""

    call_s: float
    overhead_s: float
    """Time of a visit without its calls."""
    calls: int
    """Calls timed together in each visit."""

    def visit_s(self, warmup_calls: int) -> float:
        """The time of a visit with so many warm-up calls."""
        return (self.calls + warmup_calls) * self.call_s + self.overhead_s


class Budget:
    """The seconds that a race may take, which depend on the noise, and the visits that are left."""

    def __init__(
        self,
        settings: BudgetSettings,
        cost: VisitCost,
        *,
        num_points: int,
        once_s: float,
        least_look_s: float,
        noise: float,
        asked_s: float | None = None,
    ) -> None:
        """`once_s`: time of one call of each point; `asked_s`: the budget that the caller gave."""
        self._settings = settings
        self._cost = cost
        self._is_small = num_points <= settings.small_window
        self._once_s = once_s
        self._least_look_s = least_look_s
        self._asked_s = asked_s
        self._excluded_s = 0.0
        self.noise = noise
        self.seconds, self.bound = self._find_seconds()

    def learn_noise(self, noise: float) -> None:
        """Takes the relative noise of one call, and sets the budget anew."""
        self.noise = noise
        self.seconds, self.bound = self._find_seconds()

    def exclude(self, seconds: float) -> None:
        """Takes the time of a survey, which isn't part of the race's own time.

        From the next `learn_noise` on, it is subtracted from the budget that the caller gave for
        both.
        """
        self._excluded_s = seconds

    def visits_until(self, share: float, spent_s: float, warmup_calls: int) -> int:
        """How many visits fit in until `share` of the budget is spent; `spent_s` is spent now."""
        left_s = share * self.seconds - (spent_s - self._excluded_s)
        return max(0, int(left_s / self._cost.visit_s(warmup_calls)))

    def find_end(self, visits: int, share: float, spent_s: float, warmup_calls: int) -> End | None:
        """OUT_OF_TIME if so many visits don't fit in any more, else None."""
        if self.visits_until(share, spent_s, warmup_calls) < visits:
            return End.OUT_OF_TIME
        return None

    def find_survey_end(self, spent_s: float) -> End | None:
        """OUT_OF_TIME if a survey has used its part of the caller's budget, else None."""
        if self._asked_s is None or spent_s <= self._settings.narrow_until * self._asked_s:
            return None
        return End.OUT_OF_TIME

    def scale(self, visits: int, least: float) -> int:
        """`visits` at the reference noise, converted to the noise here; at least `least` times."""
        return max(1, math.ceil(visits * self._noise_factor(least)))

    def _noise_factor(self, least: float) -> float:
        """Visits needed here for one at the reference noise; at least `least`, and bounded."""
        return min(max(self._variance_ratio, least), self._settings.most_noise_factor)

    @property
    def _variance_ratio(self) -> float:
        return (self.noise / self._settings.reference_noise) ** 2

    def _find_seconds(self) -> tuple[float, Bound]:
        settings, call_s = self._settings, self._cost.call_s
        factor = self._noise_factor(least=1.0)
        if self._is_small:
            cheap_s = settings.small_calls * call_s
            noisy_s = factor * cheap_s
        else:
            cheap_s = settings.cheap_share * self._once_s
            noisy_s = settings.noisy_share * self._once_s
        bounds = {
            Bound.DEAR: settings.dear_share * self._once_s,
            Bound.CHEAP: min(factor * min(cheap_s, settings.cheap_s), noisy_s),
            Bound.UNNOTICED: min(self._variance_ratio * cheap_s, settings.unnoticed_s),
            Bound.ONE_LOOK: self._least_look_s / (1 - settings.contest_until),
            Bound.LEAST_CALLS: settings.least_calls * call_s,
        }
        bound = max(bounds, key=lambda each: bounds[each])
        if self._asked_s is None:
            return bounds[bound], bound
        asked_s = self._asked_s - self._excluded_s
        if asked_s < bounds[bound]:
            return asked_s, Bound.ASKED
        return bounds[bound], bound
