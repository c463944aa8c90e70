"""Stored curves, hosts and platforms, kept in memory so that answers are quick.

Knows neither questions nor how curves are measured.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.samples import Platform
from profiler_service.answering.cache import LoadingCache
from profiler_service.answering.resources import is_stale
from profiler_service.grid import Grid
from profiler_service.plan.modes import MODES, Mode
from profiler_service.storage.store import CurveHeader, Host, Store
from profiler_service.workload import Dims, Workload

MAX_CACHED_POINTS = 2_000_000
"""Points of all curves kept in memory together: about 120 MB."""
CURVE_WEIGHT_POINTS = 100
"""Memory of a curve without its points, about 5 KiB, counted in points. It matters for comparisons
of kernels: they have two points each, and there may be very many."""
MAX_INDEXES = 1024
"""Number of workloads (each under its conditions) whose curve headers are kept in memory."""

IndexKey = tuple[str, str, str]
"""Keys of a workload, a platform and a protocol."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The platform and the protocol of the curves that may answer."""

    platform_key: str
    protocol_key: str | None
    """None: the protocol of the newest curve, if no host is on the platform now."""

    @classmethod
    def of(cls, host: Host) -> Conditions:
        """The conditions under which the host measures now."""
        return cls(platform_key=host.platform_key, protocol_key=host.protocol_key)


class CurveIndex:
    """An index of one workload's curves under the same conditions, by what they may answer."""

    def __init__(self, headers: Sequence[CurveHeader] = ()) -> None:
        """`headers` come newest first."""
        self.generation = -1
        """The index has every curve stored up to this generation of the store."""
        self.loading: asyncio.Task[None] | None = None
        """The search for newer curves, while it runs."""
        self._known: set[str] = set()
        # Some curves answer only for their first point. They are found by it, since there may be
        # very many.
        self._by_first: defaultdict[Dims, list[tuple[int, CurveHeader]]] = defaultdict(list)
        self._others: list[tuple[int, CurveHeader]] = []
        self.add(headers)

    def add(self, headers: Sequence[CurveHeader]) -> None:
        """Takes headers, newest first, of newer curves; ignores those that it has."""
        for header in reversed(headers):
            if header.id in self._known:
                continue
            numbered = (len(self._known), header)
            self._known.add(header.id)
            if MODES[header.mode].is_race:
                self._by_first[header.grid.first].append(numbered)
            else:
                self._others.append(numbered)

    def covering(self, window: Grid, mode: Mode) -> Iterator[CurveHeader]:
        """Headers of curves that may answer, newest first.

        They cover the window, and their mode answers all that a sweep of `mode` answers.
        """
        found = [*self._others, *self._by_first.get(window.first, ())]
        for _, header in sorted(found, key=lambda pair: pair[0], reverse=True):
            if mode in MODES[header.mode].answers and header.grid.contains(window):
                yield header


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Hosts and platforms at one generation of the store. The next one replaces it as a whole."""

    generation: int
    hosts: Mapping[str, Host]
    platforms: Mapping[str, Platform]

    def is_stale(self, header: CurveHeader) -> bool:
        """Whether the curve's host has another platform now, or another protocol."""
        return is_stale(header, self.hosts.get(header.host))

    def describe_changes(self, header: CurveHeader) -> list[str]:
        """What is different on the curve's host now; empty if the curve isn't stale."""
        host = self.hosts.get(header.host)
        if host is None:
            return ["the host is no longer registered"]
        changes: list[str] = []
        if header.platform_key != host.platform_key:
            then, now = (self.platforms[key] for key in (header.platform_key, host.platform_key))
            changes.extend(then.describe_change(now))
        if header.protocol_key != host.protocol_key:
            changes.append(f"timing: {header.protocol_key} → {host.protocol_key}")
        return changes


class KnownCurves:
    """The stored curves, with an index in memory.

    A stored curve never changes. A loaded curve therefore stays until there is no more space, and
    an index only adds newer curves. Hosts and platforms come from the snapshot, which is valid for
    one generation of the store: call `refresh` often. Belongs to one event loop, and calls the
    store only from threads.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._indexes: LRUCache[IndexKey, CurveIndex] = LRUCache(MAX_INDEXES)
        self._curves = LoadingCache(
            store.load_curve,
            max_size=MAX_CACHED_POINTS,
            size_of=lambda curve: curve.grid.size + CURVE_WEIGHT_POINTS,
        )
        self.snapshot = Snapshot(generation=-1, hosts={}, platforms={})

    async def refresh(self) -> None:
        """Returns when `snapshot` is at least as new as the store was at the time of the call.

        Raises StoreUnavailableError; the snapshot then stays as it was.
        """
        latest = await asyncio.to_thread(self._read_snapshot)
        # Another refresh may have ended meanwhile.
        if latest is not None and latest.generation > self.snapshot.generation:
            self.snapshot = latest

    def _read_snapshot(self) -> Snapshot | None:
        # The generation is read first. Everything read after it can only be newer.
        generation = self._store.generation()
        if generation == self.snapshot.generation:
            return None
        return Snapshot(
            generation=generation,
            hosts={host.name: host for host in self._store.list_hosts()},
            platforms={platform.key: platform for platform in self._store.list_platforms()},
        )

    async def load_curve(self, curve_id: str) -> LatencyCurve:
        """The curve with that id. Raises StoreError."""
        return await self._curves.get(curve_id)

    async def find_covering(
        self, workload: Workload, window: Grid, mode: Mode, conditions: Conditions
    ) -> Iterator[CurveHeader]:
        """Headers of the curves that may answer as a sweep of `mode` over `window` would.

        Newest first, at the time of the snapshot. Raises StoreError if curves that aren't in memory
        can't be read.
        """
        generation = self.snapshot.generation
        protocol_key = conditions.protocol_key or await asyncio.to_thread(
            self._store.find_newest_protocol, workload.key, conditions.platform_key
        )
        if protocol_key is None:
            return iter(())
        key = (workload.key, conditions.platform_key, protocol_key)
        index = await self._index(key, generation)
        return index.covering(window, mode)

    async def _index(self, key: IndexKey, generation: int) -> CurveIndex:
        """The index of those curves, with every curve stored up to the generation."""
        index = self._indexes.get(key)
        if index is None:
            index = self._indexes[key] = CurveIndex()
        while index.generation < generation:
            if index.loading is None:
                index.loading = asyncio.create_task(self._load_newer(key, index, generation))
            await asyncio.shield(index.loading)
        return index

    async def _load_newer(self, key: IndexKey, index: CurveIndex, generation: int) -> None:
        """Reads what was kept since the index was loaded last."""
        try:
            headers = await asyncio.to_thread(
                lambda: self._store.find_curves(*key, after_generation=index.generation)
            )
            index.add(headers)
            index.generation = generation
        finally:
            index.loading = None
