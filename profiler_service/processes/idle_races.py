"""Races that an idle worker starts by itself, for no more than a share of its time.

Knows neither what they are for nor how they are queued.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from profiler_service.plan.spec import SweepSpec
from profiler_service.plan.turns import Demand
from profiler_service.storage.store import Host, Store, Sweep


class IdleRaces:
    """One race after the other, on a host that has nothing else to measure.

    So much of the time may be spent: `share`. Questions come first, as nobody waits for these
    races.
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

    def is_within_share(self) -> bool:
        """Whether another race would keep to the share: none is under way, and the pause is over.

        Raises StoreError.
        """
        return self._share > 0 and self._has_ended() and self._clock() >= self._next_s

    def may_start(self) -> bool:
        """Whether another race may be started now. Raises StoreError."""
        return self.is_within_share() and not self._store.list_open(self._host.name)

    def start(self, spec: SweepSpec) -> Sweep:
        """The race, which is queued. Raises StoreError."""
        demand = Demand(expected_s=spec.terms.settle_s, is_awaited=False)
        sweep, _ = self._store.create_sweep(spec, host=self._host.name, demand=demand)
        self._enqueue(sweep)
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
