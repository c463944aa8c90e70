"""A worker stores points of curves a second time, so that SQL can read them for dashboards.

Knows neither in which form nor who reads them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from profiler_service.storage.store import Store

logger = logging.getLogger(__name__)

GENERATIONS_PER_STEP = 10_000
"""How many generations of the store one step looks through."""
IDLE_LOOK_S = 300.0
"""How often an idle worker looks whether there is something to do: there may be many of them. Who
has just measured looks each time, so that its curves are soon there."""


class DashboardPoints:
    """Takes care of new curves first, then of older ones. Call `consider` at intervals.

    It does nothing while a question waits for the host. Several workers may do this at once, each
    for the curves of all hosts.
    """

    def __init__(
        self,
        store: Store,
        host: str,
        *,
        max_points: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Larger curves are left out. With `max_points` 0, and in SQLite, nothing is stored."""
        self._store = store
        self._host = host
        self._max_points = 0 if store.shared_pool is None else max_points
        self._clock = clock
        self._next_s = clock()
        self._seen: tuple[int, int] | None = None
        """After the first of these generations, up to the second, no curve is left."""

    def consider(self, *, is_idle: bool = False) -> int:
        """How many curves were taken care of now: about `max_points` points. Raises StoreError.

        `is_idle` is whether the worker has had nothing to measure lately.
        """
        if not self._max_points or (is_idle and self._clock() < self._next_s):
            return 0
        num_curves = self._take_step()
        if not num_curves:
            self._next_s = self._clock() + IDLE_LOOK_S
        return num_curves

    def _take_step(self) -> int:
        newest = self._store.generation()
        begin, end = self._seen or (newest, newest)
        if newest > end:
            after, up_to = end, min(newest, end + GENERATIONS_PER_STEP)
        else:
            after, up_to = max(0, begin - GENERATIONS_PER_STEP), begin
        if after == up_to:
            return 0
        found = self._store.find_without_points(
            after=after, up_to=up_to, max_points=self._max_points
        )
        if found and any(sweep.is_awaited for sweep in self._store.list_open(self._host)):
            return 0
        num_curves = num_points = 0
        for curve_id, size in found.items():
            if num_points and num_points + size > self._max_points:
                return num_curves
            try:
                self._store.keep_points(curve_id)
            except ValueError as error:  # its bytes are damaged
                logger.warning("dashboards can't show curve %s: %s", curve_id, error)
            num_curves += 1
            num_points += size
        self._seen = min(begin, after), max(end, up_to)
        return num_curves
