"""Finds the host that a question asks for, and whether its worker runs. Knows no question.

Belongs to one event loop, and calls the store only from threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from profiler_service.answering.curves import Conditions, KnownCurves, Snapshot
from profiler_service.answering.fleet import (
    choose_least_loaded,
    choose_platform,
    list_active,
    list_labelled,
    read_loads,
)
from profiler_service.answering.host_states import is_present
from profiler_service.answering.own_worker import FindOwnWorker
from profiler_service.answering.polling import SharedPoll
from profiler_service.answering.questions import Label, Where
from profiler_service.answering.shortened import complete, may_be_shortened
from profiler_service.answering.shutdown import Shutdown
from profiler_service.errors import (
    ConflictError,
    HostAwayError,
    HostStartingError,
    InvalidRequestError,
    UnknownHostError,
    UnknownPlatformError,
)
from profiler_service.settings import Settings
from profiler_service.storage.own_sweeps import OWN
from profiler_service.storage.records import HostStatus
from profiler_service.storage.store import Host, Store
from profiler_service.suggestions import did_you_mean

POLL_S = 0.1
"""How often to look for a worker that is on its way: once for all who wait for one."""
LONGEST_ABSENCE = 4
"""A silent host may come back for this many times LHP_PRESENCE_S: its worker may be restarting,
which takes some seconds."""
MAX_PLATFORMS = 16
"""So many platforms may be named in one question."""


class Asked(NamedTuple):
    """Which hosts may measure: the one of that name, or all on that platform with that label."""

    name: str | None
    platform_key: str | None
    label: Label | None = None


Candidates = Mapping[str, Host | None]


class HostDirectory:
    """Finds hosts by name or platform."""

    def __init__(
        self,
        store: Store,
        curves: KnownCurves,
        settings: Settings,
        shutdown: Shutdown,
        own_worker: FindOwnWorker | None,
    ) -> None:
        self._store = store
        self._curves = curves
        self._settings = settings
        self._shutdown = shutdown
        self._own_worker = own_worker
        self._opened_at_s = time.monotonic()
        self._candidates = SharedPoll(self._read_candidates, interval_s=POLL_S)

    async def resolve(self, where: Where) -> Where:
        """The same with the whole key of the platform, which may be given shortened.

        Raises UnknownHostError, UnknownPlatformError; InvalidRequestError if several keys of
        platforms begin as the one given.
        """
        snapshot = self._curves.snapshot
        if not self._is_known(where, snapshot):
            await self._curves.refresh()
            snapshot = self._curves.snapshot
        if where.host is not None and where.host not in (*snapshot.hosts, self._settings.host):
            raise _unknown_host(where.host, snapshot.hosts)
        platform = where.platform
        if platform is None or platform in snapshot.platforms:
            return where
        if may_be_shortened(platform):
            platform = complete(platform, snapshot.platforms, what="platforms")
        if platform not in snapshot.platforms:
            raise UnknownPlatformError(
                f"there is no platform {platform!r}",
                hint="ask for one that a host has registered",
                see="/platforms",
            )
        return replace(where, platform=platform)

    async def locate(self, where: Where) -> Where:
        """The same, resolved and about one host or one platform: the only one, if none is named.

        Raises as `resolve`; InvalidRequestError if there are several platforms.
        """
        resolved = await self.resolve(where)
        names_platform = resolved.platform is not None and resolved.label is None
        # Otherwise, it depends on which hosts there are. One may just have registered.
        depends_on_hosts = resolved.host is None and not names_platform
        if depends_on_hosts and not list_active(self._curves.snapshot.hosts.values()):
            await self._curves.refresh()
        return self._choose_platform(resolved)

    async def locate_own_code(self, where: Where) -> Where:
        """As `locate`. If nothing is named, the only platform that own code was measured on.

        The machine of a user need not be one of the service's hosts.
        """
        if where.is_named:
            return await self.locate(where)
        if not (keys := self._find_own_platforms()):
            await self._curves.refresh()
            keys = self._find_own_platforms()
        return await self.locate(replace(where, platform=keys.pop()) if len(keys) == 1 else where)

    def _find_own_platforms(self) -> set[str]:
        hosts = self._curves.snapshot.hosts.values()
        return {each.platform_key for each in hosts if each.name.endswith(OWN)}

    def _choose_platform(self, where: Where) -> Where:
        snapshot = self._curves.snapshot
        own = self._settings.host
        return choose_platform(where, snapshot.hosts, snapshot.platforms, own=own)

    async def list_labelled(self, label: Label) -> list[Host]:
        """The active hosts with that label. Raises UnknownHostError, StoreError."""
        return list_labelled(await asyncio.to_thread(self._store.list_hosts), label)

    async def resolve_platforms(self, where: Where) -> tuple[str, ...]:
        """The keys of the platforms that `where.platforms` names, each once.

        `all` are those that hosts are on now. Raises UnknownPlatformError; InvalidRequestError for
        a key that is ambiguous, or if there is none.
        """
        assert where.platforms is not None
        if where.platforms.strip() == "all":
            if not self._curves.snapshot.hosts:
                await self._curves.refresh()
            keys = {each.platform_key for each in list_active(self._curves.snapshot.hosts.values())}
            if not keys:
                raise UnknownPlatformError(
                    "no host has registered yet", hint="start `lhp worker` on one", see="/hosts"
                )
            return tuple(sorted(keys))
        given = [key for each in where.platforms.split(",") if (key := each.strip())]
        if not given or len(given) > MAX_PLATFORMS:
            raise InvalidRequestError(
                f"platforms= names {len(given)} platforms",
                hint=f"write `all`, or 1 to {MAX_PLATFORMS} keys separated by commas",
                see="/platforms",
            )
        resolved = [await self.resolve(Where(platform=key)) for key in given]
        return tuple(dict.fromkeys(each.platform for each in resolved if each.platform))

    def _is_known(self, where: Where, snapshot: Snapshot) -> bool:
        return where.host in (None, *snapshot.hosts) and (
            where.platform is None
            # Shortened, too: what is known is found without the database, however it is asked.
            or any(key.startswith(where.platform) for key in snapshot.platforms)
        )

    async def find_conditions(self, where: Where) -> Conditions | None:
        """The conditions asked for; None if the host asked for hasn't registered yet.

        Raises UnknownPlatformError, UnknownHostError.
        """
        snapshot = self._curves.snapshot
        host, platform = self._resolve(where.host), where.platform
        if (platform is not None and platform not in snapshot.platforms) or (
            (platform is None or where.host is not None) and host not in snapshot.hosts
        ):
            await self._curves.refresh()
            snapshot = self._curves.snapshot
        if host not in (*snapshot.hosts, self._settings.host):
            raise _unknown_host(host, snapshot.hosts)
        if platform is None:
            return Conditions.of(snapshot.hosts[host]) if host in snapshot.hosts else None
        if platform not in snapshot.platforms:
            raise UnknownPlatformError(
                f"there is no platform {platform!r}",
                hint="ask for one that a host has registered",
                see="/platforms",
            )
        return _conditions_on(platform, snapshot, preferred=host)

    def find_known_conditions(self, where: Where, *, own_code: bool = False) -> Conditions | None:
        """What `find_conditions` gives, from memory; None if that, or `own_code`, isn't known."""
        if own_code and not where.is_named:
            return None  # `locate_own_code` tells
        snapshot = self._curves.snapshot
        try:
            where = self._choose_platform(where)
        except (InvalidRequestError, UnknownHostError):
            return None
        host = snapshot.hosts.get(self._resolve(where.host))
        if where.platform is None:
            return None if host is None else Conditions.of(host)
        if where.platform not in snapshot.platforms or (where.host is not None and host is None):
            return None
        return _conditions_on(where.platform, snapshot, preferred=self._resolve(where.host))

    async def choose(
        self,
        where: Where,
        *,
        wait_s: float,
        spec_key: str | None = None,
        preferred: Collection[str] = (),
    ) -> Host:
        """The host that measures for such a question. Waits for it as `get_present` does.

        Of several, one of `preferred`; else the one that has such a sweep (`spec_key`) already;
        else the one with the least to measure.

        Raises UnknownHostError, HostAwayError; ConflictError if host and platform don't match.
        """
        if where.platform is not None and where.host is None:
            asked = Asked(None, where.platform, where.label)
            present = await self._wait_for_present(asked, wait_s=wait_s)
            among = [each for each in present if each.name in preferred] or present
            if len(among) == 1:
                return among[0]
            names = [each.name for each in among]
            loads = read_loads(await asyncio.to_thread(self._store.find_open_of, names))
            least = choose_least_loaded(names, loads, spec_key=spec_key)
            return next(each for each in among if each.name == least)
        host = await self.get_present(where.host, wait_s=wait_s)
        if where.platform not in (None, host.platform_key):
            raise ConflictError(
                f"host {host.name!r} is on platform {host.platform_key}, not on {where.platform}",
                hint="leave out `host` or `platform`",
            )
        return host

    async def get_present(self, name: str | None, *, wait_s: float = 0) -> Host:
        """The host called `name`, or the service's own, whose worker is running.

        Waits up to `wait_s` while its worker is starting. A service knows that about its own
        worker. Any other may come back if it was heard of a short time ago.

        Raises UnknownHostError; HostAwayError; HostStartingError if the worker is still starting.
        """
        asked = Asked(self._resolve(name), None)
        return (await self._wait_for_present(asked, wait_s=wait_s))[0]

    async def close(self) -> None:
        """Ends the polling. Call it when nobody waits any more."""
        await self._candidates.close()

    def is_own_present(self) -> bool:
        """Whether this machine's own host has registered and its worker runs. Raises StoreError.

        Asks the store: call it from a thread.
        """
        host = self._find(self._settings.host)
        return host is not None and self._is_present(host)

    def _resolve(self, asked: str | None) -> str:
        # An empty name (perhaps from an unset variable) is no host, and doesn't mean this one.
        return self._settings.host if asked is None else asked

    def _is_present(self, host: Host) -> bool:
        return is_present(host, presence_s=self._settings.presence_s)

    def _find(self, name: str) -> Host | None:
        try:
            return self._store.get_host(name)
        except UnknownHostError:
            return None

    async def _wait_for_present(self, asked: Asked, *, wait_s: float) -> list[Host]:
        """The present hosts that take sweeps, at least one."""
        deadline_s = time.monotonic() + wait_s
        found = await asyncio.to_thread(self._find_candidates, asked)
        while True:
            hosts = [each for each in found.values() if each is not None]
            taking = [each for each in hosts if each.status.takes_sweeps]
            if present := [each for each in taking if self._is_present(each)]:
                return present
            if hosts and not taking:
                raise _refusing(hosts)
            is_coming = not self._shutdown.has_begun and any(
                self._is_coming(each, host) for each, host in found.items()
            )
            now_s = time.monotonic()
            if not is_coming or now_s >= deadline_s:
                if asked.name is None:
                    kind = HostStartingError if is_coming else HostAwayError
                    raise kind(
                        f"no host on platform {asked.platform_key} has a running worker",
                        hint="start one with `lhp worker`, or leave out `platform`",
                        see="/hosts",
                    )
                raise self._away(asked.name, found[asked.name], is_coming=is_coming)
            looking = asyncio.create_task(self._candidates.get(asked))
            try:
                await self._shutdown.wait(looking, timeout_s=deadline_s - now_s)
                if looking.done():
                    found = looking.result()
            finally:
                looking.cancel()

    def _find_candidates(self, asked: Asked) -> Candidates:
        """The hosts that may measure, by name. Our own may not have registered yet: then None.

        Raises UnknownHostError. Asks the store: call it from a thread.
        """
        if asked.name is None:
            return _candidates_among(self._store.list_hosts(), asked)
        host = self._find(asked.name)
        if host is None and asked.name != self._settings.host:
            raise _unknown_host(asked.name, self._curves.snapshot.hosts)
        return {asked.name: host}

    def _read_candidates(self, asked: Collection[Asked]) -> Mapping[Asked, Candidates]:
        hosts = self._store.list_hosts()
        return {each: _candidates_among(hosts, each) for each in asked}

    def _is_coming(self, name: str, host: Host | None) -> bool:
        """Whether the worker of an absent host may be present soon."""
        if name == self._settings.host and self._own_worker is not None:
            return self._own_worker().is_on_its_way
        absence_s = LONGEST_ABSENCE * self._settings.presence_s
        if host is None:
            return True  # our own, and it may register at any moment
        # The worker of this machine may be started together with this service.
        is_new = time.monotonic() < self._opened_at_s + absence_s
        return (name == self._settings.host and is_new) or is_present(host, presence_s=absence_s)

    def _away(self, name: str, host: Host | None, *, is_coming: bool) -> HostAwayError:
        kind = HostStartingError if is_coming else HostAwayError
        if name == self._settings.host and self._own_worker is not None:
            worker = self._own_worker()
            return kind(
                f"the worker of host {name!r} {worker.describe(is_present=False)}",
                hint=worker.hint,
                see="/healthz",
            )
        heard = "" if host is None else f" (last heard of {host.last_seen_at:%F %T} UTC)"
        return kind(
            f"host {name!r} has no running worker{heard}",
            hint="start it there with `lhp worker`, or ask for another host",
            see="/hosts",
        )


def _conditions_on(platform: str, snapshot: Snapshot, *, preferred: str) -> Conditions:
    on_it = [each for each in snapshot.hosts.values() if each.platform_key == platform]
    if not on_it:
        return Conditions(platform_key=platform, protocol_key=None)
    # All should measure in the same way. During an upgrade, the host seen last may be newer.
    return Conditions.of(max(on_it, key=lambda each: (each.name == preferred, each.last_seen_at)))


def _candidates_among(hosts: Sequence[Host], asked: Asked) -> Candidates:
    """The hosts that may measure, by name; None for the one of that name that isn't there."""
    if asked.name is not None:
        return {asked.name: next((host for host in hosts if host.name == asked.name), None)}
    return {
        host.name: host
        for host in hosts
        if host.platform_key == asked.platform_key
        and host.status is not HostStatus.RETIRED
        and (asked.label is None or host.labels.get(asked.label[0]) == asked.label[1])
    }


def _refusing(hosts: Sequence[Host]) -> HostAwayError:
    """Says that none of the hosts takes sweeps now."""
    listed = ", ".join(f"{each.name} ({each.status})" for each in hosts)
    return HostAwayError(
        f"no sweeps are taken by {listed}",
        hint="ask for another host, or let an operator look at it",
        see="/hosts",
    )


def _unknown_host(name: str, known: Iterable[str]) -> UnknownHostError:
    return UnknownHostError(
        f"there is no host {name!r}",
        hint=did_you_mean(name, known) + "ask for one that has registered",
        see="/hosts",
    )
