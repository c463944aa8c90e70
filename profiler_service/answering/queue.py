"""The queue of sweeps: gives admitted sweeps to their hosts, and waits until they end.

Knows neither questions nor how a sweep is carried out. Belongs to one event loop, and calls the
store only from threads.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

from profiler_service.answering.admission import Admitted
from profiler_service.answering.race_guide import find_guide
from profiler_service.plan.modes import MODES
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.storage.store import Store, Sweep

POLL_S = 0.05


class SweepQueue:
    """Queues sweeps, and waits for them."""

    def __init__(self, store: Store, enqueue: Callable[[Sweep], None]) -> None:
        """`enqueue` gives a sweep to its host. It may be called again for the same sweep."""
        self._store = store
        self._enqueue = enqueue
        self._waiting: dict[str, list[asyncio.Future[Sweep]]] = {}
        self._poller: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Ends the polling. Call it when no request waits any more."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    async def submit(self, admitted: Admitted) -> tuple[Sweep, bool]:
        """The sweep, queued on its host, and whether it is new. Equal open sweeps are one sweep.

        Raises StoreError.
        """
        spec, host = admitted.spec, admitted.host
        spec = replace(spec, seed=random.SystemRandom().getrandbits(31))
        if MODES[spec.mode].is_race:
            guide = await asyncio.to_thread(find_guide, self._store, spec.workload, spec.grid, host)
            spec = replace(spec, guide=guide)
        return await asyncio.to_thread(self._create, spec, host.name)

    def _create(self, spec: SweepSpec, host: str) -> tuple[Sweep, bool]:
        sweep, is_new = self._store.create_sweep(spec, host=host)
        # Also for a sweep that isn't new: a process may have died before it enqueued the sweep.
        if sweep.state == SweepState.QUEUED:
            self._enqueue(sweep)
        return sweep, is_new

    async def get(self, sweep_id: str) -> Sweep:
        """The sweep as it is now. Raises StoreError."""
        return await asyncio.to_thread(self._store.get_sweep, sweep_id)

    async def wait_final(self, sweep_id: str) -> Sweep:
        """The sweep once it has ended. All waiting callers share one poller. Raises StoreError."""
        ended: asyncio.Future[Sweep] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(sweep_id, []).append(ended)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            return await ended
        finally:
            self._waiting[sweep_id].remove(ended)
            if not self._waiting[sweep_id]:
                del self._waiting[sweep_id]

    async def _poll(self) -> None:
        while self._waiting:
            ids = list(self._waiting)
            try:
                sweeps = await asyncio.to_thread(
                    lambda ids: [self._store.get_sweep(i) for i in ids], ids
                )
            except Exception as error:  # noqa: BLE001  passed on to all waiting callers
                for sweep_id in ids:
                    for ended in self._waiting.get(sweep_id, ()):
                        if not ended.done():
                            ended.set_exception(error)
            else:
                for sweep in sweeps:
                    for ended in self._waiting.get(sweep.id, ()):
                        if sweep.state.is_final and not ended.done():
                            ended.set_result(sweep)
            await asyncio.sleep(POLL_S)
