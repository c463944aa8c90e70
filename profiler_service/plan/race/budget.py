"""How long a race may take, and how many visits are left of that.

Pure: fed with seconds and numbers of visits. Derivation: docs/explanation/races.md.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from profiler_service.plan.race.settings import BudgetSettings
from profiler_service.plan.race.stages import End


class Bound(enum.StrEnum):
    """What a budget follows from."""

    DEAR = "a small share of calling each point once, for calls are dear"
    CHEAP = "nearly the time of calling each point once, or a moment"
    UNNOTICED = "so short a time that nobody notices it"
    ONE_LOOK = "the time that one look of the confirmation takes"
    LEAST_CALLS = "the time that a few calls take"
    ASKED = "what the caller gave"


@dataclass(frozen=True, kw_only=True)
class VisitCost:
    """What visits of the queried point take, as calibration found."""

    call_s: float
    overhead_s: float
    """What a visit takes beside its calls."""
    calls: int
    """Calls timed together in each visit."""

    def visit_s(self, warmup_calls: int) -> float:
        """What a visit with so many warm-up calls takes."""
        return (self.calls + warmup_calls) * self.call_s + self.overhead_s


class Budget:
    """The seconds a race may take. Follows the noise; counts the visits that are left."""

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
        """`once_s` is what one call of each point takes, `asked_s` what the caller allows."""
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
        """Takes the noise of one call, relative, and sets the budget anew."""
        self.noise = noise
        self.seconds, self.bound = self._find_seconds()

    def exclude(self, seconds: float) -> None:
        """Takes what a survey took, which isn't part of the race's own time.

        What the caller allows for both is less by that from the next `learn_noise` on.
        """
        self._excluded_s = seconds

    def visits_until(self, share: float, spent_s: float, warmup_calls: int) -> int:
        """How many visits fit in until `share` of the budget is spent; `spent_s` of all is."""
        left_s = share * self.seconds - (spent_s - self._excluded_s)
        return max(0, int(left_s / self._cost.visit_s(warmup_calls)))

    def find_end(self, visits: int, share: float, spent_s: float, warmup_calls: int) -> End | None:
        """OUT_OF_TIME where so many visits don't fit in any more, else None."""
        if self.visits_until(share, spent_s, warmup_calls) < visits:
            return End.OUT_OF_TIME
        return None

    def find_survey_end(self, spent_s: float) -> End | None:
        """OUT_OF_TIME where a survey has had its part of what the caller allows, else None."""
        if self._asked_s is None or spent_s <= self._settings.narrow_until * self._asked_s:
            return None
        return End.OUT_OF_TIME

    def scale(self, visits: int, least: float) -> int:
        """`visits` as needed at the reference noise, for the noise here; `least` times at least."""
        return max(1, math.ceil(visits * self._noise_factor(least)))

    def _noise_factor(self, least: float) -> float:
        """Visits needed here for one at the reference noise, within `least` and the most."""
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
