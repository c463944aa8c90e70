"""Holds earlier predictions against what was measured, and says how far new ones can be believed.

A prediction is made before its pair is measured, and scored before the measurement is learned from
(prequential). The interval of a new prediction is as wide as would have held enough of the earlier
ones (split conformal prediction). So it needs no trust in the model's own deviations: they only say
which predictions are less sure than others.

Pure; knows neither the model nor any store. Derivation: docs/explanation/latency-model.md,
"Calibration".
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from profiler_service.latency_model.settings import MODEL, CalibrationSettings


class Standing(StrEnum):
    """Whether predictions are believed."""

    UNCALIBRATED = "uncalibrated"
    """Too few were held against measurements."""
    CALIBRATED = "calibrated"
    WITHDRAWN = "withdrawn"
    """Too many of the last ones were wrong."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One prediction of a pair, and what was measured of the same pair; ratios in log."""

    predicted: float
    deviation: float
    """The model's own, before anything was measured; positive."""
    half_width: float | None
    """Half the interval that was given with it; None if there was none."""
    distance: float
    """How far from what had been learned, in octaves."""
    measured: float

    @property
    def error(self) -> float:
        """How much slower it was than predicted, in units of the deviation."""
        return (self.measured - self.predicted) / self.deviation

    @property
    def is_miss(self) -> bool:
        """Whether the interval that was given doesn't hold what was measured."""
        return self.half_width is not None and abs(self.measured - self.predicted) > self.half_width


class Calibration:
    """What the scores of one kind on one platform say of the next prediction."""

    def __init__(
        self, scores: Sequence[Score], settings: CalibrationSettings = MODEL.calibration
    ) -> None:
        """`scores` from the oldest to the newest."""
        self._settings = settings
        self.num_scores = len(scores)
        kept = scores[-settings.scores :]
        self._errors: list[list[float]] = [
            sorted(score.error for score in kept if self._stratum(score.distance) >= stratum)
            for stratum in range(len(settings.strata) + 1)
        ]
        self.is_withdrawn = _is_withdrawn(scores, settings)
        published = [score for score in kept if score.half_width is not None]
        self.num_published = len(published)
        self.num_misses = sum(score.is_miss for score in published)

    def find_standing(self, distance: float) -> Standing:
        """Whether a prediction at that distance is believed."""
        if len(self._select(distance)) < self._settings.least_scores:
            return Standing.UNCALIBRATED
        return Standing.WITHDRAWN if self.is_withdrawn else Standing.CALIBRATED

    def find_half_width(self, deviation: float, distance: float) -> float | None:
        """Half the interval of such a prediction; None if there are too few scores.

        Of n + 1 exchangeable errors, the newest is among the ⌈(n + 1) · coverage⌉ smallest with
        that probability. Where that is more than n, the largest has to do: it holds n / (n + 1).
        """
        errors = sorted(map(abs, self._select(distance)))
        if len(errors) < self._settings.least_scores:
            return None
        rank = math.ceil((len(errors) + 1) * self._settings.coverage)
        return errors[min(rank, len(errors)) - 1] * deviation

    def find_probability(
        self, log_ratio: float, deviation: float, distance: float, *, slack: float = 0.0
    ) -> float | None:
        """How probable it is that the point is no slower; None if there are too few scores.

        Earlier predictions that missed by less than what this one promises, of one more than all.
        """
        errors = self._select(distance)
        if len(errors) < self._settings.least_scores:
            return None
        room = (math.log1p(slack) - log_ratio) / deviation
        return bisect.bisect_right(errors, room) / (len(errors) + 1)

    def _select(self, distance: float) -> list[float]:
        """The errors, ascending, of predictions at least as far off: nearer ones are better."""
        return self._errors[self._stratum(distance)]

    def _stratum(self, distance: float) -> int:
        return bisect.bisect_left(self._settings.strata, distance)


def _is_withdrawn(scores: Sequence[Score], settings: CalibrationSettings) -> bool:
    """Whether predictions are withdrawn after these scores, from the oldest to the newest.

    What is withdrawn comes back later than it went: predictions must not flicker.
    """
    is_withdrawn = False
    newest: deque[bool] = deque(maxlen=max(size for _, size in settings.withdrawn_at))
    for score in scores:
        if score.half_width is None:
            continue
        newest.append(score.is_miss)
        flags = list(newest)
        if not is_withdrawn:
            is_withdrawn = any(sum(flags[-size:]) >= most for most, size in settings.withdrawn_at)
        elif len(flags) >= min(size for _, size in settings.back_at):
            is_withdrawn = not all(sum(flags[-size:]) <= most for most, size in settings.back_at)
    return is_withdrawn
