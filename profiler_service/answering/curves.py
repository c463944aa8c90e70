"""Stored curves, hosts and platforms, kept in memory so that answers are quick.

Knows neither questions nor how curves are measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.samples import Platform
from profiler_service.answering.cache import LoadingCache
from profiler_service.answering.resources import is_stale
from profiler_service.errors import NotFoundError
from profiler_service.grid import Grid
from profiler_service.plan.modes import MODES, Mode
from profiler_service.storage.store import CurveHeader, Host, Store
from profiler_service.workload import Dims, Workload

MAX_CACHED_POINTS = 2_000_000
"""Points of all curves kept in memory together, unless told otherwise: about 120 MB."""
CURVE_WEIGHT_POINTS = 100
"""Memory of a curve without its points, about 5 KiB, counted in points. It matters for comparisons
of kernels: they have two points each, and there may be very many."""
MAX_HEADERS = 20_000
"""Number of curve headers kept in memory: about 3 KiB each."""
MAX_HEADERS_PER_KEY = 1000
"""So many of the newest curves over whole grids, or from one first point, may answer a question."""
MAX_RACED_POINTS = 20_000
"""Number of points kept in memory of which it is known that races began there. Races of a workload
with more points are looked for in the store, one question at a time."""
MAX_LOADED_AHEAD = 64
"""So many new curves are loaded at once when the store has changed, before they may answer."""
PAGE_SIZE = 500
"""New headers are read in pages of this size."""

logger = logging.getLogger(__name__)


class HeadersKey(NamedTuple):
    """What the headers that are kept together have in common."""

    workload_key: str
    platform_key: str
    protocol_key: str
    raced_from: Dims | None
    """The only point that these curves answer for; None: they answer for many points."""

    @classmethod
    def of(cls, header: CurveHeader) -> HeadersKey:
        """The key under which a header is kept."""
        return cls(
            workload_key=header.workload.key,
            platform_key=header.platform_key,
            protocol_key=header.protocol_key,
            raced_from=header.grid.first if MODES[header.mode].is_race else None,
        )


Headers = tuple[CurveHeader, ...]
"""Newest first."""


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


def covering(headers: Iterable[CurveHeader], window: Grid, mode: Mode) -> Iterator[CurveHeader]:
    """Headers of curves that may answer, the one kept last first.

    They cover the window, and their mode answers all that a sweep of `mode` answers.
    """
    for header in sorted(headers, key=lambda each: each.generation, reverse=True):
        its = MODES[header.mode]
        is_from_here = not its.is_race or header.grid.first == window.first
        if is_from_here and mode in its.answers and header.grid.contains(window):
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


async def _load_nothing(_header: CurveHeader) -> None:
    pass


async def _do_nothing() -> None:
    pass


class KnownCurves:
    """The stored curves that questions have asked for, in memory.

    A stored curve never changes. What was loaded therefore stays until there is no more space, and
    `refresh` only adds newer curves. Hosts and platforms come from the snapshot, which is valid for
    one generation of the store: call `refresh` often. What is in memory is found without the
    store. Belongs to one event loop, and calls the store only from threads.
    """

    def __init__(
        self,
        store: Store,
        *,
        load_more: Callable[[CurveHeader], Awaitable[object]] = _load_nothing,
        before_snapshot: Callable[[], Awaitable[object]] = _do_nothing,
        max_cached_points: int | None = None,
    ) -> None:
        """`load_more` loads what is needed of a new curve besides itself.

        `before_snapshot` is called when the store has changed, before anything new may answer.
        """
        self._store = store
        self._load_more = load_more
        self._before_snapshot = before_snapshot
        self._headers: LoadingCache[HeadersKey, Headers] = LoadingCache(
            self._read_headers, max_size=MAX_HEADERS, size_of=lambda headers: len(headers) + 1
        )
        self._raced: LoadingCache[tuple[str, str, str], set[Dims] | None] = LoadingCache(
            self._read_raced,
            max_size=MAX_RACED_POINTS,
            size_of=lambda points: len(points or ()) + 1,
        )
        """Workload, platform and protocol → the points of all such races; None: too many."""
        self._newest_protocols: LoadingCache[tuple[str, str], str | None] = LoadingCache(
            lambda key: store.find_newest_protocol(*key), max_size=MAX_HEADERS
        )
        self._curves = LoadingCache(
            store.load_curve,
            max_size=MAX_CACHED_POINTS if max_cached_points is None else max_cached_points,
            size_of=lambda curve: curve.grid.size + CURVE_WEIGHT_POINTS,
        )
        self.snapshot = Snapshot(generation=-1, hosts={}, platforms={})

    def __contains__(self, key: HeadersKey) -> bool:
        """Whether such curves were asked for, so that their headers are in memory."""
        return key in self._headers

    def _read_headers(self, key: HeadersKey) -> Headers:
        return tuple(self._store.find_answering(*key, limit=MAX_HEADERS_PER_KEY))

    async def refresh(self) -> Sequence[CurveHeader]:
        """Returns when `snapshot` is at least as new as the store was at the time of the call.

        Gives the headers of curves kept since the snapshot before, in the order of keeping. Those
        that questions have asked for are loaded first: a new curve answers only once it is in
        memory. Raises StoreUnavailableError; everything then stays as it was.
        """
        before = self.snapshot
        latest, kept_since = await asyncio.to_thread(self._read_since, before)
        if latest.generation == before.generation:
            return ()
        wanted = [each for each in kept_since if self._is_wanted(each)]
        for header in wanted[-MAX_LOADED_AHEAD:]:
            with contextlib.suppress(NotFoundError):
                await self.load_curve(header.id)
                await self._load_more(header)
        await self._before_snapshot()
        # Another refresh may have ended meanwhile.
        if self.snapshot is not before and latest.generation <= self.snapshot.generation:
            return ()
        if latest.generation < before.generation:
            logger.warning("the database holds an earlier state: forgetting what was known")
            self._headers.clear()
            self._raced.clear()
            self._newest_protocols.clear()
        for header in kept_since:
            self._add(header)
        self.snapshot = latest
        return kept_since

    def _read_since(self, before: Snapshot) -> tuple[Snapshot, list[CurveHeader]]:
        # The generation is read first. Everything read after it can only be newer.
        generation = self._store.generation()
        if generation == before.generation:
            return before, []
        latest = Snapshot(
            generation=generation,
            hosts={host.name: host for host in self._store.list_hosts()},
            platforms={platform.key: platform for platform in self._store.list_platforms()},
        )
        kept_since: list[CurveHeader] = []
        # At first, nothing is in memory that newer curves could be added to.
        reached = generation if before.generation < 0 else before.generation
        while reached < generation:
            page = self._store.find_new_curves(after_generation=reached, limit=PAGE_SIZE)
            kept_since += page
            reached = page[-1].generation if len(page) == PAGE_SIZE else generation
        return latest, kept_since

    def _read_raced(self, key: tuple[str, str, str]) -> set[Dims] | None:
        points = self._store.find_raced_points(*key, limit=MAX_RACED_POINTS)
        return None if len(points) == MAX_RACED_POINTS else set(points)

    async def _get_headers(self, key: HeadersKey) -> Headers:
        """The headers under that key. Asks the store only for races that are there."""
        if key not in self and key.raced_from is not None:
            raced = await self._raced.get(key[:3])
            if raced is not None and key.raced_from not in raced:
                self._headers.keep(key, ())
                return ()
        return await self._headers.get(key)

    def _is_wanted(self, header: CurveHeader) -> bool:
        # Comparisons of kernels are small, and questions about their product need them.
        return header.mode == "kernels" or HeadersKey.of(header) in self

    def _add(self, header: CurveHeader) -> None:
        def add(headers: Headers) -> Headers:
            others = [each for each in headers if each.id != header.id]
            return (header, *others)[:MAX_HEADERS_PER_KEY]

        key = HeadersKey.of(header)
        self._headers.change(key, add)
        if key.raced_from is not None:
            point = key.raced_from
            self._raced.change(key[:3], lambda raced: None if raced is None else {*raced, point})
        self._newest_protocols.change(
            (header.workload.key, header.platform_key), lambda _: header.protocol_key
        )

    async def load_curve(self, curve_id: str) -> LatencyCurve:
        """The curve with that id. Raises StoreError."""
        return await self._curves.get(curve_id)

    async def find_protocol(self, workload: Workload, conditions: Conditions) -> str | None:
        """Key of the protocol that curves must have to answer; None if there is no such curve."""
        return conditions.protocol_key or await self._newest_protocols.get(
            (workload.key, conditions.platform_key)
        )

    async def find_races(
        self, workload: Workload, dims: Dims, platform_key: str, protocol_key: str
    ) -> Mapping[str, CurveHeader]:
        """Headers of all races from that point, by the ids of their curves. Raises StoreError."""
        key = HeadersKey(workload.key, platform_key, protocol_key, dims)
        return {header.id: header for header in await self._get_headers(key)}

    async def find_covering(
        self, workload: Workload, window: Grid, mode: Mode, conditions: Conditions
    ) -> Iterator[CurveHeader]:
        """Headers of the curves that may answer as a sweep of `mode` over `window` would.

        Newest first, at the time of the snapshot. Raises StoreError if curves that aren't in memory
        can't be read.
        """
        protocol_key = await self.find_protocol(workload, conditions)
        if protocol_key is None:
            return iter(())
        raced = any(each.is_race and mode in each.answers for each in MODES.values())
        headers: list[CurveHeader] = []
        for raced_from in (None, window.first) if raced else (None,):
            headers += await self._get_headers(
                HeadersKey(workload.key, conditions.platform_key, protocol_key, raced_from)
            )
        return covering(headers, window, mode)
