"""An idle worker confirms its oldest facts again.

Knows neither how a sweep is measured nor how it is queued.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from profiler_service.answering.repeatability import read_tau
from profiler_service.grid import Grid
from profiler_service.plan.spec import SweepSpec
from profiler_service.plan.turns import Demand
from profiler_service.storage.store import Fact, Host, Store, Sweep

logger = logging.getLogger(__name__)


class Rechecks:
    """Starts a race between the two points of the oldest fact, if the host is idle.

    Call `consider` at intervals. So much of the time may be spent: `share`. Questions come first,
    as nobody waits for these races.
    """

    def __init__(
        self,
        store: Store,
        host: Host,
        enqueue: Callable[[Sweep], None],
        *,
        share: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`enqueue` gives a sweep to the host. `share` is from 0 (never) to 1."""
        self._store = store
        self._host = host
        self._enqueue = enqueue
        self._share = share
        self._clock = clock
        self._under_way: str | None = None
        self._next_s = clock()
        self._tried: set[str] = set()
        """Ids of facts: one that can't be confirmed again must not be tried for ever."""

    def consider(self) -> Sweep | None:
        """The race that was started, if it was time for one. Raises StoreError."""
        if self._share == 0 or not self._has_ended() or self._clock() < self._next_s:
            return None
        host = self._host
        if self._store.list_open(host.name):
            return None
        fact = self._store.find_stalest_fact(
            host.name, host.platform_key, host.protocol_key, but_not=self._tried
        )
        if fact is None:
            return None
        self._tried.add(fact.id)
        sweep = self._start(fact)
        self._under_way = sweep.id
        return sweep

    def _has_ended(self) -> bool:
        """Whether no race of its own is under way. Learns from one that has ended when to go on."""
        if self._under_way is not None:
            spent_s = 0.0
            # None if the database holds an earlier state.
            for sweep in self._store.find_sweeps([self._under_way]):
                if not sweep.state.is_final:
                    return False
                spent_s = 0.0 if sweep.progress is None else sweep.progress.seconds
            self._next_s = self._clock() + spent_s * (1 / self._share - 1)
            self._under_way = None
        return True

    def _start(self, fact: Fact) -> Sweep:
        host, pair = self._host, fact.pair
        spec = SweepSpec(
            workload=fact.workload,
            mode="race",
            grid=Grid.pair(pair.dims, pair.rival),
            tau=read_tau(self._store, fact.workload.kind, host.platform_key, host.protocol_key),
        )
        demand = Demand(expected_s=spec.terms.settle_s, is_awaited=False)
        sweep, _ = self._store.create_sweep(spec, host=host.name, demand=demand)
        self._enqueue(sweep)
        logger.info("idle: confirming again that %s is faster than %s", pair.rival, pair.dims)
        return sweep
