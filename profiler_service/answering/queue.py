"""The queue of sweeps: gives admitted sweeps to their hosts, and waits until they end.

Knows neither questions nor how a sweep is carried out. Belongs to one event loop, and calls the
store only from threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from profiler_service.access.caller import current_caller
from profiler_service.answering.admission import Admitted
from profiler_service.answering.polling import SharedPoll
from profiler_service.answering.predictions import Predictions
from profiler_service.answering.race_guide import find_guide
from profiler_service.answering.repeatability import read_tau
from profiler_service.errors import StoreError, TooManyRequestsError
from profiler_service.plan.modes import MODES
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.plan.turns import Demand, Place, find_places
from profiler_service.storage.records import FleetSweep
from profiler_service.storage.store import Store, Sweep
from profiler_service.telemetry.log_context import current_request_id
from profiler_service.telemetry.traces import current_traceparent, span

POLL_S = 0.05
"""How often to ask which sweeps have ended: one question for all who wait."""
PROGRESS_POLL_S = 0.25
"""How often to read the sweeps that somebody follows."""
PLACE_S = 0.5
"""How long the response to a question waits for its place in the queue."""
MAX_FOLLOWERS = 256
"""So many streams of events may be open."""


@dataclass(frozen=True, kw_only=True)
class PlacedSweep:
    """A sweep, and its place in its host's queue."""

    sweep: Sweep
    place: Place | None
    """None if it has ended."""


class SweepQueue:
    """Queues sweeps, and waits for them."""

    def __init__(
        self,
        store: Store,
        enqueue: Callable[[Sweep], None],
        *,
        max_queued: int,
        max_queued_per_client: int,
        max_followers_per_token: int = MAX_FOLLOWERS,
        predictions: Predictions | None = None,
    ) -> None:
        """`enqueue` gives a sweep to its host. It may be called again for the same sweep.

        A host may have `max_queued` unfinished sweeps, `max_queued_per_client` of one client.
        `max_followers_per_token` streams of events may be open for one token. Races start from
        `predictions`.
        """
        self._max_queued = max_queued
        self._max_queued_per_client = max_queued_per_client
        self._store = store
        self._predictions = predictions
        self._enqueue = enqueue
        self._ended = SharedPoll(self._read_ended, interval_s=POLL_S)
        self._progress = SharedPoll(self._read_placed, interval_s=PROGRESS_POLL_S)
        self._max_followers_per_token = max_followers_per_token
        self._followers: Counter[str] = Counter()
        """Token → streams of events that it has open; an empty text: all without one."""

    async def close(self) -> None:
        """Ends the polling. Call it when no request waits any more."""
        await self._ended.close()
        await self._progress.close()

    async def submit(self, admitted: Admitted, *, client: str | None) -> tuple[Sweep, bool]:
        """The sweep, queued on its host, and whether it is new. Equal open sweeps are one sweep.

        `client` is who asked for it, or None if nobody did.

        Raises TooManyRequestsError, StoreError.
        """
        with span("queue sweep", {"lhp.host": admitted.host.name, "lhp.mode": admitted.spec.mode}):
            spec, demand = await self._prepare(admitted, client)
            return await asyncio.to_thread(self._create, spec, admitted.host.name, demand)

    async def find_awaited(self, spec_key: str, host: str) -> Sweep | None:
        """The open sweep with that key that questions wait for; None if there is none.

        It is enqueued again if it hasn't begun. Raises StoreError.
        """
        return await asyncio.to_thread(self._find_awaited, spec_key, host)

    def _find_awaited(self, spec_key: str, host: str) -> Sweep | None:
        for key, each in self._store.find_open_of([host]).get(host, ()):
            if key == spec_key and each.is_awaited and not each.is_ending:
                sweep = self._store.get_sweep(each.id)
                # A process may have died before it enqueued the sweep.
                if sweep.state == SweepState.QUEUED:
                    self._enqueue(sweep)
                return sweep
        return None

    async def submit_fleet(
        self, label: str, admitted: Sequence[Admitted], *, client: str | None
    ) -> tuple[FleetSweep, bool]:
        """The sweep of several hosts, queued on each of them, and whether it is new.

        Raises TooManyRequestsError if one of them has too many; nothing is queued then. StoreError.
        """
        parts = []
        for each in admitted:
            spec, demand = await self._prepare(each, client)
            parts.append((each.host.name, spec, demand))

        def create() -> tuple[FleetSweep, bool]:
            sweep, is_new = self._store.create_fleet_sweep(
                label,
                parts,
                max_open=self._max_queued,
                max_open_of_client=self._max_queued_per_client,
                by=current_caller(),
            )
            for each in sweep.sweeps:
                if each.state == SweepState.QUEUED:
                    self._enqueue(each)
            return sweep, is_new

        return await asyncio.to_thread(create)

    async def _prepare(self, admitted: Admitted, client: str | None) -> tuple[SweepSpec, Demand]:
        """The spec with what its race should know, and who wants it."""
        spec, host = admitted.spec, admitted.host
        spec = replace(spec, seed=random.SystemRandom().getrandbits(31))
        if MODES[spec.mode].is_race:
            guide = await asyncio.to_thread(find_guide, self._store, spec.workload, spec.grid, host)
            tau = await asyncio.to_thread(
                read_tau, self._store, spec.workload.kind, host.platform_key, host.protocol_key
            )
            spec = replace(spec, guide=guide, tau=tau)
            if self._predictions is not None:
                spec = await self._predictions.prepare(spec, host)
        demand = Demand(
            expected_s=admitted.expected_s,
            is_awaited=admitted.is_awaited,
            client=client,
            request_id=current_request_id(),
            traceparent=current_traceparent(),
        )
        return spec, demand

    def _create(self, spec: SweepSpec, host: str, demand: Demand) -> tuple[Sweep, bool]:
        sweep, is_new = self._store.create_sweep(
            spec,
            host=host,
            demand=demand,
            max_open=self._max_queued,
            max_open_of_client=self._max_queued_per_client,
            by=None if demand.client is None else current_caller(),
        )
        # Also for a sweep that isn't new: see `_find_awaited`.
        if sweep.state == SweepState.QUEUED:
            self._enqueue(sweep)
        return sweep, is_new

    async def get(self, sweep_id: str) -> Sweep:
        """The sweep as it is now. Raises StoreError."""
        return await asyncio.to_thread(self._store.get_sweep, sweep_id)

    async def find_places(self, sweeps: Collection[Sweep]) -> list[PlacedSweep]:
        """The sweeps with their places in their hosts' queues. Raises StoreError."""
        return await asyncio.to_thread(self._find_places, sweeps)

    async def find_place_soon(self, sweep: Sweep) -> Place | None:
        """The sweep's place; None if it has ended, or the database doesn't say within PLACE_S."""
        with contextlib.suppress(TimeoutError, StoreError):
            async with asyncio.timeout(PLACE_S):
                (placed,) = await self.find_places([sweep])
                return placed.place
        return None

    def _find_places(self, sweeps: Collection[Sweep]) -> list[PlacedSweep]:
        places: dict[str, Place] = {}
        for host in {sweep.host for sweep in sweeps if not sweep.state.is_final}:
            places |= find_places(self._store.list_open(host))
        return [PlacedSweep(sweep=sweep, place=places.get(sweep.id)) for sweep in sweeps]

    async def wait_final(self, sweep_id: str) -> Sweep:
        """The sweep once it has ended. While the database is away, that isn't known: it waits."""
        return await self._ended.get(sweep_id)

    def _read_ended(self, sweep_ids: Collection[str]) -> dict[str, Sweep]:
        ended = self._store.find_ended(sweep_ids)
        return {sweep.id: sweep for sweep in self._store.find_sweeps(ended)} if ended else {}

    def _read_placed(self, sweep_ids: Collection[str]) -> dict[str, PlacedSweep]:
        placed = self._find_places(self._store.find_sweeps(sweep_ids))
        return {each.sweep.id: each for each in placed}

    @contextlib.contextmanager
    def follow(
        self, sweep_id: str, *, token_id: str = ""
    ) -> Iterator[Callable[[], Coroutine[Any, Any, PlacedSweep]]]:
        """Gives a function whose every call returns the sweep as it is a moment later.

        Raises TooManyRequestsError if MAX_FOLLOWERS follow sweeps already, or too many of them with
        the same token.
        """
        if self._followers.total() >= MAX_FOLLOWERS:
            raise TooManyRequestsError(
                f"{MAX_FOLLOWERS} streams of events are open, and there may be no more",
                hint="close one, or look at the sweep itself at intervals",
                see=f"/sweeps/{sweep_id}",
            )
        if token_id and self._followers[token_id] >= self._max_followers_per_token:
            raise TooManyRequestsError(
                f"{self._max_followers_per_token} streams of events are open with this token, and"
                " it may have no more",
                hint="close one, or look at the sweep itself at intervals; operators set"
                " LHP_CLIENT_SHARE",
                see=f"/sweeps/{sweep_id}",
            )
        self._followers[token_id] += 1
        try:
            yield lambda: self._progress.get(sweep_id)
        finally:
            self._followers[token_id] -= 1
