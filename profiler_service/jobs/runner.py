"""Runs a host's jobs in the worker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer

from profiler_service.errors import StoreUnavailableError
from profiler_service.jobs import engine as engines
from profiler_service.jobs.engine import (
    APPLICATION,
    APPLICATION_VERSION,
    SCHEMA,
    STEP,
    WORKFLOW,
    create_client,
    create_engine,
    engine_errors,
    engine_url,
    log_through_logging,
    queue_name,
    to_text,
)
from profiler_service.settings import Settings

logger = logging.getLogger(__name__)

STEP_S = 0.25
"""Batches that are shorter share a step of the engine, which writes each of its steps down."""
POLLING_INTERVAL_S = 0.05
LEAVE_S = 0.5
"""How long a worker waits for a job, or for the engine's threads, to end. The engine itself would
wait 10 s for each of its threads, and meanwhile the host would be silent."""


class _LeaveJob(BaseException):
    """Ends a job's thread so that the engine doesn't notice. The job stays and can be resumed."""


class JobRunner:
    """Runs the sweeps enqueued for `settings.host`, one after the other, while it is awake.

    Awake, the engine looks for jobs twenty times a second, and keeps several connections. Asleep,
    it does nothing at all.
    """

    _ending: threading.Thread | None = None
    """Ends the engine that was awake before. There is one engine in a process, whoever runs it."""

    def __init__(
        self,
        settings: Settings,
        run_batch: Callable[[str], bool],
        *,
        pool: sa.Engine | None = None,
    ) -> None:
        """`pool` is the store's, if it may be shared.

        Calls `run_batch(sweep_id)` in a thread until it returns True (the sweep has ended). If it
        raises StoreUnavailableError, or something that is no Exception (such as SystemExit), the
        job stays: `reconcile`, or the next time the engine wakes, resumes it. Any other Exception
        ends the job, and `reconcile` starts it again if the sweep is still open.
        """
        self._settings = settings
        self._run_batch = run_batch
        self._url = engine_url(settings.database_url)
        self._engine, self._files = create_engine(settings) if pool is None else (pool, None)
        self._owns_engine = pool is None
        self._busy = threading.Lock()
        self._asleep: threading.Event | None = None
        """Set for the jobs of an engine that was awake; None before the engine wakes first."""
        self.running: set[str] = set()
        """The sweeps that run at the moment, for `JobClient.reconcile`."""
        self.put_off: set[str] = set()
        """The sweeps whose jobs were left because the database went away. `JobClient.reconcile`
        resumes them at once: nobody runs them."""

    @property
    def is_awake(self) -> bool:
        """Whether the engine looks for jobs."""
        return self._asleep is not None and not self._asleep.is_set()

    def wake(self) -> None:
        """Makes the engine look for jobs from now on; those left unfinished come first.

        It stays asleep if its threads of before still haven't ended: call it again later. `upgrade`
        must have run before. Raises StoreUnavailableError.
        """
        if self.is_awake or not self._has_ended():
            return
        log_through_logging()
        self._asleep = threading.Event()
        if not self._owns_engine:
            # The engine's listener would take the connection that waited, and log what it hears.
            self._engine.dispose()
        try:
            with engine_errors(self._url):
                self._launch(self._asleep)
        except BaseException:
            self._leave()
            raise

    def sleep(self) -> None:
        """Makes the engine do nothing until it is woken, unless it runs a job now.

        Of the connections, one at most is kept. Others are opened again when needed.
        """
        if self.is_awake:
            if not self._busy.acquire(blocking=False):
                return
            try:
                self._leave()
            finally:
                self._busy.release()
        elif not isinstance(self._engine.pool, sa.QueuePool) or self._engine.pool.checkedin() <= 1:
            return
        # While the engine ends, its threads have connections that they must give back first.
        if self._has_ended(0):
            self._engine.dispose()

    def close(self) -> None:
        """Ends the engine, after a short wait for the current job.

        To leave sooner, make `run_batch` raise SystemExit.
        """
        if self.is_awake:
            is_free = self._busy.acquire(timeout=LEAVE_S)
            self._leave()
            if is_free:
                self._busy.release()
        if self._ending is not None:
            self._ending.join()
        if self._owns_engine:
            self._engine.dispose()

    def _leave(self) -> None:
        assert self._asleep is not None
        self._asleep.set()
        # From here on, the engine's threads may report closed connections. That is no error.
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        JobRunner._ending = threading.Thread(
            target=DBOS.destroy, kwargs={"destroy_registry": True}, name="engine-end", daemon=True
        )
        JobRunner._ending.start()
        self._has_ended()

    @classmethod
    def _has_ended(cls, wait_s: float = LEAVE_S) -> bool:
        """Whether the engine that was awake before has ended, at once or after `wait_s`."""
        if cls._ending is not None:
            cls._ending.join(wait_s)
            if cls._ending.is_alive():
                return False
            cls._ending = None
        return True

    def _launch(self, asleep: threading.Event) -> None:
        queue = queue_name(self._settings.host)
        # Before the launch, because the engine looks for new queues only once a second.
        client = create_client(self._engine)
        try:
            client.register_queue(
                queue, worker_concurrency=1, polling_interval_sec=POLLING_INTERVAL_S
            )
        finally:
            client.destroy()
        config: DBOSConfig = {
            "name": APPLICATION,
            "application_version": APPLICATION_VERSION,
            "executor_id": self._settings.host,
            "system_database_url": to_text(self._url),
            "system_database_engine": self._engine,
            "dbos_system_schema": SCHEMA,
            "serializer": DBOSPortableJSONSerializer(),
            "run_migrations": False,
            "enable_otlp": False,
            "log_level": "ERROR",
        }
        DBOS(config=config)

        @DBOS.step(name=STEP)
        def step(sweep_id: str) -> bool:
            try:
                if self._files is not None:
                    self._files.check()
                ends_at_s = time.monotonic() + STEP_S
                while not (has_ended := self._run_batch(sweep_id)):
                    if time.monotonic() >= ends_at_s:
                        break
                return has_ended
            except StoreUnavailableError as error:
                logger.warning("sweep %s is put off: %s", sweep_id, error)
                raise _LeaveJob from error

        @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=engines.MAX_RESTARTS)
        def run_sweep(sweep_id: str) -> None:
            with self._busy:
                if asleep.is_set():
                    raise _LeaveJob  # taken just before
                self.put_off.discard(sweep_id)
                self.running.add(sweep_id)
                try:
                    while not step(sweep_id):
                        pass
                except _LeaveJob:
                    self.put_off.add(sweep_id)
                    raise
                finally:
                    self.running.discard(sweep_id)

        DBOS.listen_queues([queue])
        DBOS.launch()
