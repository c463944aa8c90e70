"""Canaries: points of `linear` that every host measures again and again, so that hosts compare.

Plans their measurement for workers, and reads for the service what they found. Knows no HTTP.
"""

from __future__ import annotations

import datetime as dt
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cachetools import LRUCache

from profiler_service.analysis.canaries import (
    CANARY,
    CanaryLatency,
    HostComparison,
    Series,
    compare_hosts,
)
from profiler_service.answering.admission import check_affordable
from profiler_service.answering.caveats import is_noisy
from profiler_service.answering.fleet import list_active
from profiler_service.answering.repeatability import read_tau
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import DEFAULT_MAX_GROWTH, SweepSpec
from profiler_service.plan.window import WindowLimits, build_window
from profiler_service.settings import Settings
from profiler_service.storage.store import CurveHeader, Host, Store
from profiler_service.workload import Dims, parse_dims

CANARY_WORKLOAD: Final = LINEAR.describe()
COMPARE_EVERY_S = 30.0
"""How often the store is asked at most."""
MAX_LOADED = 200
"""So many curves are loaded at once; those that are left, the next time."""
MAX_LATENCIES = 50_000
"""So many latencies are kept in memory: three numbers each."""
HEADERS_PER_LATENCY = 2
"""Twice as many headers are read as one host needs, for each host: some measured more often."""


def list_canaries(settings: Settings) -> tuple[Dims, ...]:
    """The points of `Settings.canaries`."""
    return tuple(parse_dims(point) for point in settings.canaries.split(";") if point)


def plan_canary(store: Store, host: Host, dims: Dims, settings: Settings) -> SweepSpec:
    """The race of a question about the canary, which therefore is answered by it, too.

    Raises InvalidRequestError if it is larger than the settings or the host allow; StoreError.
    """
    limits = WindowLimits(max_dim=settings.max_dim, max_axis_points=settings.max_axis_points)
    window = build_window(CANARY_WORKLOAD, dims, max_growth=DEFAULT_MAX_GROWTH, limits=limits)
    check_affordable(
        CANARY_WORKLOAD,
        window,
        host,
        store.get_platform(host.platform_key),
        max_operand_bytes=settings.max_operand_bytes,
    )
    return SweepSpec(
        workload=CANARY_WORKLOAD,
        mode="race",
        grid=window,
        seed=random.SystemRandom().getrandbits(31),
        tau=read_tau(store, CANARY_WORKLOAD.kind, host.platform_key, host.protocol_key),
    )


class CanaryWatch:
    """Compares the hosts of each platform by their canaries. Threads may share it."""

    def __init__(
        self,
        store: Store,
        points: Sequence[Dims],
        *,
        tolerance: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without `points`, it never asks the store. `tolerance`: see `compare_hosts`."""
        self._store = store
        self._points = points
        self._tolerance = tolerance
        self._clock = clock
        self._reading = threading.Lock()
        self._next_s = clock()
        self._generation: int | None = None
        """Of the store when everything was compared; None if something was left."""
        self._latencies: LRUCache[str, CanaryLatency | None] = LRUCache(MAX_LATENCIES)
        """Of curves at their first point. A stored curve never changes."""
        self._num_left = 0
        self._compared: Mapping[str, HostComparison] = {}

    def compare(self) -> Mapping[str, HostComparison]:
        """Each host beside the others of its platform, by name. Left out: who can't be compared.

        While another thread asks the store, what is known. Call it from a thread. Raises
        StoreError.
        """
        if self._points and self._reading.acquire(blocking=False):
            try:
                if self._clock() >= self._next_s:
                    self._read()
            finally:
                self._reading.release()
        return self._compared

    def _read(self) -> None:
        generation = self._store.generation()
        if generation != self._generation:
            self._num_left = MAX_LOADED
            self._compared = self._compare_all()
            self._generation = generation if self._num_left else None
        if self._num_left:
            self._next_s = self._clock() + COMPARE_EVERY_S

    def _compare_all(self) -> dict[str, HostComparison]:
        alike: dict[tuple[str, str], list[Host]] = defaultdict(list)
        for host in list_active(self._store.list_hosts()):
            alike[host.platform_key, host.protocol_key].append(host)
        compared: dict[str, HostComparison] = {}
        for hosts in alike.values():
            if len(hosts) > 1:
                series = self._read_series(hosts)
                compared |= compare_hosts(series, tolerance=self._tolerance)
        return compared

    def _read_series(self, hosts: Sequence[Host]) -> Mapping[str, Series]:
        """What the hosts of one platform and protocol measured lately of each canary."""
        first = hosts[0]
        # By the database's clock, as curves are dated by that.
        now = first.last_seen_at + dt.timedelta(seconds=first.silent_s)
        earliest = now - dt.timedelta(seconds=CANARY.max_age_s)
        found: dict[str, dict[Dims, list[CanaryLatency]]] = {each.name: {} for each in hosts}
        for dims in self._points:
            headers = self._store.find_answering(
                CANARY_WORKLOAD.key,
                first.platform_key,
                first.protocol_key,
                dims,
                limit=HEADERS_PER_LATENCY * CANARY.history * len(hosts),
            )
            for header in headers:
                if header.host not in found or not _counts(header, earliest):
                    continue
                latencies = found[header.host].setdefault(dims, [])
                if len(latencies) < CANARY.history:
                    latency = self._find_latency(header.id)
                    if latency is not None:
                        latencies.append(latency)
        return found

    def _find_latency(self, curve_id: str) -> CanaryLatency | None:
        """None if the curve has no interval, or so many were loaded now that it must wait."""
        if curve_id not in self._latencies:
            if not self._num_left:
                return None
            self._num_left -= 1
            curve = self._store.load_curve(curve_id)
            # A race's question is about its first point.
            self._latencies[curve_id] = CanaryLatency.from_interval(
                float(curve.latency_s[0]), float(curve.low_s[0]), float(curve.high_s[0])
            )
        return self._latencies[curve_id]


def _counts(header: CurveHeader, earliest: dt.datetime) -> bool:
    """Whether the curve is new enough, and its latencies weren't disturbed."""
    is_quiet = not header.evidence.disturbed and not is_noisy(header.evidence)
    return is_quiet and header.measured_at >= earliest
