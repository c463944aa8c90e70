"""An idle worker measures its host's canaries again and again.

Knows neither what they are compared with nor how a sweep is measured.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from profiler_service.answering.canaries import CANARY_WORKLOAD, list_canaries, plan_canary
from profiler_service.errors import InvalidRequestError
from profiler_service.processes.idle_races import IdleRaces
from profiler_service.settings import Settings
from profiler_service.storage.store import Host, Store, Sweep

logger = logging.getLogger(__name__)


class Canaries:
    """Starts the race of the canary that has been due for longest, if the host is idle.

    A canary is due `Settings.canary_every_s` after the host measured it last, for whomever. Call
    `consider` at intervals.
    """

    def __init__(
        self,
        store: Store,
        host: Host,
        enqueue: Callable[[Sweep], None],
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`enqueue` gives a sweep to the host."""
        self._store = store
        self._host = host
        self._settings = settings
        self._clock = clock
        self._races = IdleRaces(store, host, enqueue, share=settings.canary_share, clock=clock)
        points = list_canaries(settings) if settings.canary_every_s else ()
        self._due_s = dict.fromkeys(points, clock())

    def consider(self) -> Sweep | None:
        """The race that was started, if one was due. Raises StoreError."""
        dims = min(self._due_s, key=self._due_s.__getitem__, default=None)
        if dims is None or not self._races.is_within_share():
            return None
        now_s = self._clock()
        if now_s < self._due_s[dims] or not self._races.may_start():
            return None
        every_s = self._settings.canary_every_s
        age_s = self._store.find_race_age(self._host, CANARY_WORKLOAD.key, dims)
        if age_s is not None and age_s < every_s:
            self._due_s[dims] = now_s + every_s - max(age_s, 0.0)
            return None
        # Also if it fails: otherwise it would be tried all the time.
        self._due_s[dims] = now_s + every_s
        wanted = ",".join(map(str, dims))
        try:
            spec = plan_canary(self._store, self._host, dims, self._settings)
        except InvalidRequestError as error:
            logger.warning("the canary %s isn't measured: %s", wanted, error)
            return None
        sweep = self._races.start(spec)
        logger.info("idle: measuring the canary %s", wanted)
        return sweep
