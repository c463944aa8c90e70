"""An idle worker confirms its oldest facts again.

Knows neither how a sweep is measured nor how it is queued.
"""

from __future__ import annotations

import logging

from profiler_service.answering.repeatability import read_tau
from profiler_service.grid import Grid
from profiler_service.plan.spec import SweepSpec
from profiler_service.processes.idle_races import IdleRaces
from profiler_service.storage.store import Host, Store, Sweep

logger = logging.getLogger(__name__)


class Rechecks:
    """Starts a race between the two points of the oldest fact, if the host is idle.

    Call `consider` at intervals.
    """

    def __init__(self, store: Store, host: Host, races: IdleRaces) -> None:
        """`races` starts the races, and says how much time they may take."""
        self._store = store
        self._host = host
        self._races = races
        self._tried: set[str] = set()
        """Ids of facts: one that can't be confirmed again must not be tried for ever."""

    def consider(self) -> Sweep | None:
        """The race that was started, if it was time for one. Raises StoreError."""
        if not self._races.may_start():
            return None
        host = self._host
        fact = self._store.find_stalest_fact(
            host.name, host.platform_key, host.protocol_key, but_not=self._tried
        )
        if fact is None:
            return None
        self._tried.add(fact.id)
        pair = fact.pair
        spec = SweepSpec(
            workload=fact.workload,
            mode="race",
            grid=Grid.pair(pair.dims, pair.rival),
            tau=read_tau(self._store, fact.workload.kind, host.platform_key, host.protocol_key),
        )
        sweep = self._races.start(spec)
        logger.info("idle: confirming again that %s is faster than %s", pair.rival, pair.dims)
        return sweep
