"""Compares hosts of one platform by canaries: points that all of them measure again and again.

numpy only. Derivation: docs/explanation/canaries.md.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from profiler_service.analysis.facts import Z95
from profiler_service.workload import Dims


@dataclass(frozen=True, kw_only=True)
class CanarySettings:
    """How much it takes to say that two hosts differ."""

    newest: int = 3
    """A host's level at a point is the median of so many of its newest latencies. A point with
    fewer doesn't count. One disturbed measurement changes nothing."""
    history: int = 12
    """So many of the newest latencies of a point show how much a host's latencies change."""
    least_spread: float = 0.01
    """From one measurement to the next, no host is taken to change by less (a standard deviation of
    logarithms), however alike the few that are known are."""
    errors: float = 3.0
    """Two hosts differ if their ratio lies beyond the tolerance by so many standard errors."""
    max_age_s: float = 7 * 86_400
    """Older latencies don't count: they say nothing of the host as it is now."""


CANARY: Final = CanarySettings()

_MEDIAN_CHANGE = math.sqrt(2) * statistics.NormalDist().inv_cdf(0.75)
"""Median of |x - y| for two normal values with the standard deviation 1."""


@dataclass(frozen=True, kw_only=True)
class CanaryLatency:
    """What one measurement says of a point."""

    log_latency: float
    """Of seconds."""
    standard_error: float
    """Of that, from its samples alone."""

    @classmethod
    def from_interval(cls, latency_s: float, low_s: float, high_s: float) -> CanaryLatency | None:
        """The latency with its 95 % interval; None if one of the three isn't known."""
        if not all(math.isfinite(each) and each > 0 for each in (latency_s, low_s, high_s)):
            return None
        return cls(
            log_latency=math.log(latency_s), standard_error=math.log(high_s / low_s) / (2 * Z95)
        )


Series = Mapping[Dims, Sequence[CanaryLatency]]
"""A host's latencies at each canary, the newest first."""


@dataclass(frozen=True, kw_only=True)
class HostComparison:
    """A host beside all others of its platform that measured some of the same canaries."""

    ratio: float
    """Its latency divided by that of another host: the median over these, and over the canaries."""
    num_others: int
    num_slower: int
    """Number of others than which it is surely slower, by more than the tolerance."""
    num_faster: int
    """Number of others than which it is surely faster, by more than the tolerance."""

    @property
    def deviates(self) -> Literal["slower", "faster"] | None:
        """How it differs from most of the others; None if it doesn't.

        Of three hosts, the odd one differs from two and each of these from one, so one is named. Of
        two hosts that differ, both are named, as nothing says which of them is odd.
        """
        if 2 * self.num_slower > self.num_others:
            return "slower"
        return "faster" if 2 * self.num_faster > self.num_others else None


@dataclass(frozen=True, kw_only=True)
class _Level:
    """How fast a host is now: logarithms of seconds."""

    log_latency: Mapping[Dims, float]
    variance: float
    """Of each of them, and of their mean: what moves one canary is taken to move all alike."""


def compare_hosts(
    series: Mapping[str, Series], *, tolerance: float, settings: CanarySettings = CANARY
) -> dict[str, HostComparison]:
    """Each host of one platform beside the others. Left out: who shares no canary with another.

    Two hosts may differ by the share `tolerance` and still count as alike.
    """
    levels = {
        name: level
        for name, its in sorted(series.items())
        if (level := _find_level(its, settings)) is not None
    }
    points = sorted({dims for level in levels.values() for dims in level.log_latency})
    # [hosts, points]
    matrix = np.array(
        [[level.log_latency.get(dims, math.nan) for dims in points] for level in levels.values()]
    )
    variance = np.array([level.variance for level in levels.values()])
    bound = math.log1p(tolerance)
    compared: dict[str, HostComparison] = {}
    for number, name in enumerate(levels):
        differences = matrix[number] - matrix
        meets = ~np.isnan(differences).all(axis=1)
        meets[number] = False
        if not meets.any():
            continue
        log_ratio = np.nanmedian(differences[meets], axis=1)
        error = settings.errors * np.sqrt(variance[number] + variance[meets])
        compared[name] = HostComparison(
            ratio=math.exp(float(np.median(log_ratio))),
            num_others=int(np.count_nonzero(meets)),
            num_slower=int(np.count_nonzero(log_ratio - error > bound)),
            num_faster=int(np.count_nonzero(log_ratio + error < -bound)),
        )
    return compared


def _find_level(series: Series, settings: CanarySettings) -> _Level | None:
    """The host's level; None if no canary was measured often enough.

    The variance of one latency is that of its samples, and what the host itself changes by from one
    measurement to the next. Both are in the changes that were seen. Their median tells more of a
    host than their mean square, which one real step of its speed would make large for days.
    """
    known = {
        dims: latencies[: settings.history]
        for dims, latencies in series.items()
        if len(latencies) >= settings.newest
    }
    if not known:
        return None
    noise = statistics.median(each.standard_error for its in known.values() for each in its)
    changes = [
        abs(later.log_latency - earlier.log_latency)
        for its in known.values()
        for later, earlier in itertools.pairwise(its)
    ]
    spread = statistics.median(changes) / _MEDIAN_CHANGE if changes else 0.0
    variance = max(spread**2, noise**2 + settings.least_spread**2)
    return _Level(
        log_latency={
            dims: statistics.median(each.log_latency for each in its[: settings.newest])
            for dims, its in known.items()
        },
        # A median of n normal values has at most π/2 times the variance of their mean.
        variance=math.pi / 2 * variance / settings.newest,
    )
