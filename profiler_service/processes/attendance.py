"""A worker's signs of life, and the sleep of its job engine while it has nothing to measure.

An idle worker on PostgreSQL uses one connection, and two statements a second at most.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from profiler_service.errors import HostTakenError, StoreUnavailableError
from profiler_service.jobs import JobClient, JobRunner
from profiler_service.storage.store import HostStatus, Store

HEARTBEAT_S = 5.0
AWAY_S = 1.0
"""How often a worker tries a database that is away."""
LATE_S = 2.5
"""If a heartbeat is later than this, a thread renews the lease in its stead."""
LOOK_S = 0.5
"""How often that thread looks."""


class Lease:
    """The lease of a host, taken for the store's worker: it is the only one on any machine."""

    def __init__(self, store: Store, host: str) -> None:
        """Takes the lease. Raises HostTakenError."""
        self._store = store
        self._host = host
        self._renewed_s = time.monotonic()
        store.take_lease(host)

    def note_renewed(self) -> None:
        """Says that a heartbeat has renewed it."""
        self._renewed_s = time.monotonic()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """In this context, a thread renews the lease whenever the heartbeats are late.

        A worker may take longer to start than the lease lasts. If the lease is lost nevertheless,
        the store refuses whatever this worker does, its next heartbeat included.
        """
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(ended,), name="lease", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()
            with contextlib.suppress(StoreUnavailableError):
                self._store.release_lease(self._host)

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(LOOK_S):
            if time.monotonic() - self._renewed_s < HEARTBEAT_S + LATE_S:
                continue
            try:
                self._store.renew_lease(self._host)
            except StoreUnavailableError:
                continue  # the heartbeat says so
            except HostTakenError:
                return
            self.note_renewed()


class Attendance:
    """Records the host's heartbeats, and wakes the job engine when there is a sweep."""

    def __init__(
        self, store: Store, lease: Lease, host: str, *, client: JobClient, runner: JobRunner
    ) -> None:
        self._store = store
        self._lease = lease
        self._host = host
        self._client = client
        self._runner = runner
        self._has_sweep = False
        """At the last heartbeat."""
        self._needed_s: float | None = None
        """When the host last had a sweep to measure."""

    def beat(self) -> HostStatus:
        """The host's status. Records a heartbeat. Raises StoreError, HostRefusedError."""
        status, has_sweep = self._store.touch_host_at_work(self._host)
        self._lease.note_renewed()
        self._has_sweep = has_sweep
        if has_sweep:
            self._needed_s = time.monotonic()
        return status

    def tend_engine(self, *, sleep_after_s: float) -> None:
        """Wakes the engine for a sweep that the last heartbeat saw, or lets it sleep without one.

        It sleeps once there has been no sweep for `sleep_after_s`; on SQLite never, where nothing
        could wake it. Raises StoreError.
        """
        is_idle = (
            self._store.shared_pool is not None
            and not self._has_sweep
            and (self._needed_s is None or time.monotonic() - self._needed_s > sleep_after_s)
        )
        if not is_idle:
            self._runner.wake()
        if self._runner.is_awake:
            self._client.reconcile(self._store, self._runner.running, self._runner.put_off)
        if is_idle:
            self._runner.sleep()

    def wait(self, platform_changed: threading.Event, *, is_away: bool = False) -> bool:
        """Whether the platform has changed. Returns when it is time for the next heartbeat.

        That is at once when a sweep is asked for while the engine sleeps, and soon if the database
        `is_away`, or was when a sweep was put off.
        """
        if not (self._runner.is_awake or is_away):
            try:
                self._store.wait_for_sweep(self._host, HEARTBEAT_S)
            except StoreUnavailableError:
                is_away = True  # the next heartbeat says so
            else:
                return platform_changed.is_set()
        next_s = time.monotonic() + HEARTBEAT_S
        while (left_s := next_s - time.monotonic()) > 0:
            if platform_changed.wait(min(AWAY_S, left_s)):
                return True
            if is_away or self._runner.put_off:
                break
        return platform_changed.is_set()
