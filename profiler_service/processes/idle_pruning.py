"""An idle worker prunes old raw samples, a short transaction at a time.

Knows neither what is pruned nor what stays.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from profiler_service.storage.store import Pruned, Store

logger = logging.getLogger(__name__)

PAUSE_S = 3600.0
"""How long to wait when nothing is old enough. Ages are counted in days."""


class IdlePruning:
    """Prunes what is older than `keep_days`, if the host is idle. Call `consider` at intervals."""

    def __init__(
        self,
        store: Store,
        host: str,
        *,
        keep_days: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """With `keep_days` 0, it never prunes anything."""
        self._store = store
        self._host = host
        self._keep_s = 86_400 * keep_days
        self._clock = clock
        self._next_s = clock()

    def consider(self) -> Pruned | None:
        """What was pruned, if it was time for it. Raises StoreError."""
        if not self._keep_s or self._clock() < self._next_s or self._store.list_open(self._host):
            return None
        pruned = self._store.prune_some(older_than_s=self._keep_s)
        if pruned is None:
            self._next_s = self._clock() + PAUSE_S
        elif pruned.num_sweeps:
            logger.info("idle: pruned the raw samples of a sweep, %d bytes", pruned.freed_bytes)
        return pruned
