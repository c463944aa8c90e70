"""Decides whether visits begin with an untimed call.

numpy only: gets latencies of calls. Knows no batches.
"""

from __future__ import annotations

import numpy as np

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.samples import Samples
from profiler_service.plan.race.settings import WarmupSettings


class WarmupRule:
    """Which calls are warmed up, according to their length and to a probe."""

    def __init__(self, settings: WarmupSettings, call_s: float) -> None:
        self._settings = settings
        self._call_s = call_s
        self.narrow_calls = int(call_s < settings.tiny_s)
        """Warm-up calls of each visit in a survey and while narrowing."""

    @property
    def contest_calls(self) -> int:
        """Warm-up calls of each visit in the contest and the confirmation."""
        return self.narrow_calls or int(self._call_s < self._settings.warm_below_s)

    @property
    def wants_probe(self) -> bool:
        """Whether only a probe tells if new shapes need a warm-up."""
        return self._settings.tiny_s <= self._call_s < self._settings.dear_visit_s

    def update(self, log_ratios: F64, noise: float) -> None:
        """Takes log(latency of the second visit / of the first) of each point probed.

        `noise` is that of calls with a warm-up.
        """
        if not len(log_ratios):
            return
        penalty = -float(np.median(log_ratios))
        cold_noise = float(1.48 * np.median(np.abs(log_ratios + penalty)) / np.sqrt(2))
        is_slow = penalty > self._settings.cold_penalty
        self.narrow_calls = int(is_slow or cold_noise > self._settings.cold_noise * noise)


def second_over_first(samples: Samples, first: int) -> F64:
    """log(latency in the round after `first` / in round `first`) of each point seen in both."""
    log = np.log(samples.latency_s)
    early, late = samples.round == first, samples.round == first + 1
    own = dict(zip(samples.point[early].tolist(), log[early].tolist(), strict=True))
    other = dict(zip(samples.point[late].tolist(), log[late].tolist(), strict=True))
    return np.array([other[p] - own[p] for p in sorted(own.keys() & other.keys())])
