"""The latencies of the points that races asked about, from many races at once. No HTTP.

A race keeps a whole window as its curve, of which a history needs three numbers. Curves are loaded
here, and not in `Known`: they would displace those that answer questions.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.storage.store import CurveHeader

MOST_KEPT: Final = 50_000
"""Races whose latencies stay in memory. A stored curve never changes."""
MOST_POINTS: Final = 2_000_000
"""So many points of windows are loaded for one request, which takes about a second."""


@dataclass(frozen=True, kw_only=True)
class RaceLatency:
    """The latency at the dims that a race was asked about."""

    latency_s: float
    low_s: float | None
    """Lower end of the 95 % interval, if it is known."""
    high_s: float | None


class RaceLatencies:
    """Reads latencies of races, and keeps them. Threads may share it."""

    def __init__(self, load_curve: Callable[[str], LatencyCurve]) -> None:
        """`load_curve` asks the store, and raises StoreError."""
        self._load_curve = load_curve
        self._loading = threading.Lock()
        self._kept: LRUCache[str, RaceLatency | None] = LRUCache(MOST_KEPT)

    def find(
        self, races: Sequence[CurveHeader], *, most_points: int = MOST_POINTS
    ) -> Mapping[str, RaceLatency | None]:
        """Latencies by the id of the race's curve; None where the point couldn't be measured.

        Left out is what would take longer: as soon as `most_points` were loaded, only what is in
        memory is found. The first race is always read. Call it from a thread. Raises StoreError.
        """
        found: dict[str, RaceLatency | None] = {}
        num_loaded = 0
        with self._loading:
            for race in races:
                if race.id not in self._kept:
                    if num_loaded and num_loaded + race.grid.size > most_points:
                        continue
                    num_loaded += race.grid.size
                    self._kept[race.id] = _read_first(self._load_curve(race.id))
                found[race.id] = self._kept[race.id]
        return found


def _read_first(curve: LatencyCurve) -> RaceLatency | None:
    """The latency at a race's first point, which its question is about; None if it has none."""
    latency_s, low_s, high_s = (
        float(each[0]) for each in (curve.latency_s, curve.low_s, curve.high_s)
    )
    if not math.isfinite(latency_s):
        return None
    has_interval = math.isfinite(low_s) and math.isfinite(high_s)
    return RaceLatency(
        latency_s=latency_s,
        low_s=low_s if has_interval else None,
        high_s=high_s if has_interval else None,
    )
