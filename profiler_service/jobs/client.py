"""Enqueues sweeps, and makes the engine's jobs agree with the store."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Collection, Iterator, MutableSet

import sqlalchemy as sa

from profiler_service.errors import StoreLostError, StoreUnavailableError
from profiler_service.jobs import engine
from profiler_service.jobs.engine import (
    APPLICATION_VERSION,
    SCHEMA,
    WORKFLOW,
    create_client,
    create_engine,
    engine_errors,
    engine_url,
    log_through_logging,
    queue_name,
)
from profiler_service.plan.spec import SweepState
from profiler_service.settings import Settings
from profiler_service.storage.database import describe
from profiler_service.storage.store import Store, Sweep

logger = logging.getLogger(__name__)

_TABLE = "workflow_status"
_WAITING = ("ENQUEUED", "DELAYED")
_PENDING = "PENDING"
"""The states of a job that a process has taken. That process may have ended since."""
_GIVEN_UP = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"


class JobClient:
    """Enqueues sweeps from any process. Safe to share between threads; connects when used."""

    def __init__(self, settings: Settings, *, pool: sa.Engine | None = None) -> None:
        """`pool` is the store's, if it may be shared: then this object opens no connection.

        Raises StoreUnavailableError for a URL that can't be used.
        """
        log_through_logging()
        self._host = settings.host
        self._timeout_s = settings.database_timeout_s
        self._url = engine_url(settings.database_url)
        self._engine, self._files = create_engine(settings) if pool is None else (pool, None)
        self._owns_engine = pool is None
        sa.event.listen(self._engine, "handle_error", _refuse_locked)
        self._client = create_client(self._engine)
        self._abandoned: set[str] = set()

    def enqueue(self, sweep: Sweep) -> None:
        """Queues the sweep for its host's worker, even if none runs yet. Safe to repeat.

        Raises StoreUnavailableError.
        """
        self.check_files()
        with engine_errors(self._url):
            self._client.enqueue(
                {
                    "workflow_name": WORKFLOW,
                    "queue_name": queue_name(sweep.host),
                    "workflow_id": sweep.id,
                    "app_version": APPLICATION_VERSION,
                },
                sweep.id,
            )

    def check_files(self) -> None:
        """Returns if the engine's SQLite file is the one that was opened, or if it has none.

        If it is another one, this object uses that one from the next call on. Nothing is lost with
        such a file that the store doesn't know, too. Raises StoreLostError; StoreUnavailableError
        if there is none.
        """
        if self._files is not None:
            try:
                self._files.check()
            except StoreLostError:
                self._engine.dispose()
                raise

    def check_usable(self) -> None:
        """Returns if a sweep could be queued now. Changes nothing. Raises StoreUnavailableError.

        Whether PostgreSQL can keep anything is the store's check: the tables are in its database.
        """
        self.check_files()
        with engine_errors(self._url):
            self._client.list_workflows(limit=1, load_input=False, load_output=False)
        if self._files is not None:
            self._files.check_writable(timeout_s=self._timeout_s)

    def has_lost_tables(self) -> bool:
        """Whether the engine's tables are gone, with their file or without. The log then says it.

        `upgrade` makes them anew. Raises StoreUnavailableError if that can't be told.
        """
        try:
            self.check_files()
        except StoreLostError as error:
            logger.error("%s", error)
            return True
        with engine_errors(self._url):
            if self._files is not None:
                is_there = sa.inspect(self._engine).has_table(_TABLE)
            else:
                # Idle workers ask this all the time: one statement, without a transaction.
                with self._engine.connect() as connection:
                    connection.execution_options(isolation_level="AUTOCOMMIT")
                    found = sa.select(sa.func.to_regclass(f"{SCHEMA}.{_TABLE}"))
                    is_there = connection.scalar(found) is not None
            if is_there:
                return False
        logger.error("the job engine's tables in %s were dropped", describe(self._url))
        return True

    def reconcile(
        self, store: Store, running: Collection[str], put_off: MutableSet[str] | None = None
    ) -> None:
        """Makes the engine's jobs agree with the store's sweeps of this host.

        Only the host's worker calls it, every few seconds. `running` holds the sweeps that the
        worker runs now, and `put_off` those that it left because the database went away, as
        `JobRunner` has them. The latter are resumed at once, and taken out. An open sweep without a
        job gets one: its process died before it made the job. Any other job that nobody runs is
        resumed the next time. A job that ended before its sweep is made anew. A sweep fails if too
        many workers have ended during it. Jobs of sweeps that have ended are deleted. Raises
        StoreError.
        """
        # Sweeps are read before jobs. A sweep that ends in between still seems open, which is
        # harmless.
        open_sweeps = [
            sweep
            for state in (SweepState.RUNNING, SweepState.QUEUED)
            for sweep in _list_sweeps(store, self._host, state)
        ]
        jobs = self.list_jobs()
        abandoned = set()
        left: MutableSet[str] = set() if put_off is None else put_off
        for sweep in open_sweeps:
            status = jobs.pop(sweep.id, None)
            if status in _WAITING or sweep.id in running:
                continue
            if store.get_sweep(sweep.id).state.is_final:
                continue
            if status is None:
                self.enqueue(sweep)
            elif status == _GIVEN_UP:
                store.fail_sweep(
                    sweep.id,
                    f"its worker ended more than {engine.MAX_RESTARTS} times while measuring it",
                )
            elif status != _PENDING:
                # Not run again as it is: what the engine keeps of it may be what ended it.
                with engine_errors(self._url):
                    self._client.delete_workflows([sweep.id])
                self.enqueue(sweep)
            elif sweep.id not in self._abandoned and sweep.id not in left:
                abandoned.add(sweep.id)  # it may just be starting: look again next time
            else:
                with engine_errors(self._url):
                    self._client.resume_workflow(sweep.id, queue_name=queue_name(self._host))
            left.discard(sweep.id)
        for sweep_id in {*left} - {sweep.id for sweep in open_sweeps}:
            left.discard(sweep_id)
        self._abandoned = abandoned
        ended = [sweep_id for sweep_id, s in jobs.items() if s not in (*_WAITING, _PENDING)]
        if ended:
            with engine_errors(self._url):
                self._client.delete_workflows(ended)

    def list_jobs(self) -> dict[str, str]:
        """The engine's status of this host's jobs, by sweep id. Raises StoreUnavailableError."""
        with engine_errors(self._url):
            found = self._client.list_workflows(name=WORKFLOW, load_input=False, load_output=False)
        # A job that failed too often is in no queue any more, but still names its last worker.
        return {
            job.workflow_id: job.status
            for job in found
            if job.queue_name == queue_name(self._host)
            or (job.queue_name is None and job.executor_id == self._host)
        }

    def close(self) -> None:
        """Releases every connection."""
        self._client.destroy()
        if self._owns_engine:
            self._engine.dispose()


def _refuse_locked(context: sa.ExceptionContext) -> None:
    """Raises StoreUnavailableError if SQLite's file is locked. The engine would try for ever."""
    error = context.original_exception
    if isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
        raise StoreUnavailableError(
            f"the job engine's tables can't be used: {error}",
            hint="another program has locked their file: end it",
        ) from error


def _list_sweeps(store: Store, host: str, state: SweepState) -> Iterator[Sweep]:
    cursor = None
    while True:
        page = store.list_sweeps(host=host, state=state, cursor=cursor)
        yield from page.items
        if (cursor := page.next_cursor) is None:
            return
