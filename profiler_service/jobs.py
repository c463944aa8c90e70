"""Durable sweeps: an enqueued sweep is run to its end, even if processes die meanwhile.

Only this module uses the job engine (DBOS). It knows neither planners nor measuring nor curves:
it calls `run_batch(sweep_id)` until the sweep has ended. The store holds the state of a sweep;
the engine only remembers that the sweep must go on. See
docs/decisions/0002-durable-sweeps-on-dbos.md.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import NoReturn

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer
from dbos._serialization import DefaultSerializer

from profiler_service.errors import StoreLostError, StoreUnavailableError, StoreUnusableError
from profiler_service.plan.spec import SweepState
from profiler_service.settings import Settings
from profiler_service.storage.database import (
    create_database_engine,
    describe,
    find_sqlite_path,
    is_spoilt,
    parse_url,
)
from profiler_service.storage.sqlite_files import SqliteFiles
from profiler_service.storage.store import Store, Sweep

logger = logging.getLogger(__name__)

APPLICATION = "lhp"
APPLICATION_VERSION = "1"
"""Pinned, because the engine resumes only jobs of its own version. Our jobs can survive an
upgrade: a job holds only the id of its sweep."""
SCHEMA = "dbos"
WORKFLOW = "run_sweep"
STEP = "run_batch"
STEP_S = 0.25
"""Batches that are shorter share a step of the engine, which writes each of its steps down."""
POLLING_INTERVAL_S = 0.05
CONNECT_TIMEOUT_S = 5
LEAVE_S = 0.5
MAX_RESTARTS = 100
"""How often a new worker may resume a job before its sweep fails."""

_WAITING = ("ENQUEUED", "DELAYED")
_PENDING = "PENDING"
"""The states of a job that a process has taken. That process may have ended since."""
_GIVEN_UP = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"


def _refuse_pickle(self: DefaultSerializer, serialized_data: str) -> NoReturn:
    raise TypeError("a row of the job engine's tables holds a pickle, which is never loaded")


# Whatever serializer is configured, the engine reads a row as the row itself says. A pickle runs
# code when it is loaded, so whoever can write to the tables could run code in every process. In the
# engine, only this method loads one.
DefaultSerializer.deserialize = _refuse_pickle  # type: ignore[method-assign, assignment]


def queue_name(host: str) -> str:
    """Name of the queue that the worker of `host` serves."""
    return f"sweeps@{host}"


def engine_url(database_url: str) -> sa.URL:
    """The URL of the job engine's tables.

    For SQLite, a file `NAME.jobs.sqlite` beside ours. For PostgreSQL, the same database (schema
    `dbos`), with a limit on the time to connect. Raises StoreUnavailableError for a URL that can't
    be used.
    """
    url = parse_url(database_url)
    if (path := find_sqlite_path(url)) is not None:
        return url.set(database=str(path.with_name(f"{path.stem}.jobs.sqlite")))
    if "connect_timeout" in url.query:
        return url
    return url.update_query_dict({"connect_timeout": str(CONNECT_TIMEOUT_S)})


def upgrade(settings: Settings) -> None:
    """Creates the job engine's tables, or brings them up to date. Safe to repeat.

    Run it before anything is enqueued. Raises StoreUnavailableError.
    """
    _log_through_logging()
    url = engine_url(settings.database_url)
    with _engine_errors(url):
        if (path := find_sqlite_path(url)) is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The file keeps this setting. With it, the frequent polling never waits for a writer.
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
        DBOS.migrate(_text(url), schema=SCHEMA)


class JobClient:
    """Enqueues sweeps from any process. Safe to share between threads; connects when used."""

    def __init__(self, settings: Settings) -> None:
        """Raises StoreUnavailableError for a URL that can't be used."""
        _log_through_logging()
        self._host = settings.host
        self._timeout_s = settings.database_timeout_s
        self._url = engine_url(settings.database_url)
        self._engine, self._files = _create_engine(settings)
        sa.event.listen(self._engine, "handle_error", _refuse_locked)
        self._client = _create_client(self._engine)
        self._abandoned: set[str] = set()

    def enqueue(self, sweep: Sweep) -> None:
        """Queues the sweep for its host's worker, even if none runs yet. Safe to repeat.

        Raises StoreUnavailableError.
        """
        self.check_files()
        with _engine_errors(self._url):
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
        with _engine_errors(self._url):
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
        with _engine_errors(self._url):
            schema = None if self._files is not None else SCHEMA
            if sa.inspect(self._engine).has_table("workflow_status", schema=schema):
                return False
        logger.error("the job engine's tables in %s were dropped", describe(self._url))
        return True

    def reconcile(self, store: Store, running: Collection[str]) -> None:
        """Makes the engine's jobs agree with the store's sweeps of this host.

        Only the host's worker calls it, every few seconds. `running` holds the sweeps that the
        worker runs now, as `run_jobs` gives them. An open sweep without a job gets one: its
        process died before it made the job. A job that nobody runs is run again: the database
        was away for a moment. A job that ended before its sweep is made anew. A sweep fails if
        too many workers have ended during it. Jobs of sweeps that have ended are deleted. Raises
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
                    sweep.id, f"its worker ended more than {MAX_RESTARTS} times while measuring it"
                )
            elif status != _PENDING:
                # Not run again as it is: what the engine keeps of it may be what ended it.
                with _engine_errors(self._url):
                    self._client.delete_workflows([sweep.id])
                self.enqueue(sweep)
            elif sweep.id not in self._abandoned:
                abandoned.add(sweep.id)  # it may just be starting: look again next time
            else:
                with _engine_errors(self._url):
                    self._client.resume_workflow(sweep.id, queue_name=queue_name(self._host))
        self._abandoned = abandoned
        ended = [sweep_id for sweep_id, s in jobs.items() if s not in (*_WAITING, _PENDING)]
        if ended:
            with _engine_errors(self._url):
                self._client.delete_workflows(ended)

    def list_jobs(self) -> dict[str, str]:
        """The engine's status of this host's jobs, by sweep id. Raises StoreUnavailableError."""
        with _engine_errors(self._url):
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
        self._engine.dispose()


class _LeaveJob(BaseException):
    """Ends a job's thread so that the engine doesn't notice. The job stays and can be resumed."""


@contextlib.contextmanager
def run_jobs(settings: Settings, run_batch: Callable[[str], bool]) -> Iterator[Collection[str]]:
    """In this context, the sweeps enqueued for `settings.host` run, one after the other.

    Gives the set of sweep ids that run at the moment, for `JobClient.reconcile`. Calls
    `run_batch(sweep_id)` in a thread until it returns True (the sweep has ended). Jobs that an
    earlier process left unfinished come first.

    If `run_batch` raises StoreUnavailableError, or something that is no Exception (such as
    SystemExit), the job stays: `reconcile` or the next process resumes it. Any other Exception
    ends the job, and `reconcile` starts it again if the sweep is still open. To leave, make
    `run_batch` raise SystemExit: leaving waits a short time for the current job. `upgrade` must
    have run before. Raises StoreUnavailableError.
    """
    _log_through_logging()
    url = engine_url(settings.database_url)
    engine, files = _create_engine(settings)
    config: DBOSConfig = {
        "name": APPLICATION,
        "application_version": APPLICATION_VERSION,
        "executor_id": settings.host,
        "system_database_url": _text(url),
        "system_database_engine": engine,
        "dbos_system_schema": SCHEMA,
        "serializer": DBOSPortableJSONSerializer(),
        "run_migrations": False,
        "enable_otlp": False,
        "log_level": "ERROR",
    }
    running: set[str] = set()
    busy = threading.Lock()
    try:
        with _engine_errors(url):
            # Before the launch, because the engine looks for new queues only once a second.
            client = _create_client(engine)
            try:
                client.register_queue(
                    queue_name(settings.host),
                    worker_concurrency=1,
                    polling_interval_sec=POLLING_INTERVAL_S,
                )
            finally:
                client.destroy()
            DBOS(config=config)

            @DBOS.step(name=STEP)
            def step(sweep_id: str) -> bool:
                try:
                    if files is not None:
                        files.check()
                    ends_at_s = time.monotonic() + STEP_S
                    while not (has_ended := run_batch(sweep_id)):
                        if time.monotonic() >= ends_at_s:
                            break
                    return has_ended
                except StoreUnavailableError as error:
                    logger.warning("sweep %s is put off: %s", sweep_id, error)
                    raise _LeaveJob from error

            @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=MAX_RESTARTS)
            def run_sweep(sweep_id: str) -> None:
                with busy:
                    running.add(sweep_id)
                    try:
                        while not step(sweep_id):
                            pass
                    finally:
                        running.discard(sweep_id)

            DBOS.listen_queues([queue_name(settings.host)])
            DBOS.launch()
        yield running
    finally:
        busy.acquire(timeout=LEAVE_S)
        # From here on, the engine's threads may report closed connections. That is no error.
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        DBOS.destroy(destroy_registry=True)
        engine.dispose()


def _create_engine(settings: Settings) -> tuple[sa.Engine, SqliteFiles | None]:
    """Connections for the job engine that wait for a limited time, and their SQLite files."""
    url = engine_url(settings.database_url)
    path = find_sqlite_path(url)
    files = None if path is None else SqliteFiles(path)
    engine = create_database_engine(
        url, timeout_s=settings.database_timeout_s, files=files, driver_begins=True
    )
    return engine, files


def _refuse_locked(context: sa.ExceptionContext) -> None:
    """Raises StoreUnavailableError if SQLite's file is locked. The engine would try for ever."""
    error = context.original_exception
    if isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
        raise StoreUnavailableError(
            f"the job engine's tables can't be used: {error}",
            hint="another program has locked their file: end it",
        ) from error


def _create_client(engine: sa.Engine) -> DBOSClient:
    """The engine's client. It connects when it is used, and raises an error instead of waiting."""
    return DBOSClient(
        system_database_engine=engine,
        dbos_system_schema=SCHEMA,
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
        lazy=True,
        retry_connection_errors=False,
    )


def _list_sweeps(store: Store, host: str, state: SweepState) -> Iterator[Sweep]:
    cursor = None
    while True:
        page = store.list_sweeps(host=host, state=state, cursor=cursor)
        yield from page.items
        if (cursor := page.next_cursor) is None:
            return


def _text(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)


@contextlib.contextmanager
def _engine_errors(url: sa.URL) -> Iterator[None]:
    """Turns every failure of the engine's database into StoreUnavailableError."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        if is_spoilt(error):
            raise StoreUnusableError(
                f"the job engine's tables in {describe(url)} can't be used: {reason}",
                hint="stop the service and its workers, and move that file away: no measurement is"
                " in it, and `lhp db upgrade` makes a new one",
            ) from error
        raise StoreUnavailableError(
            f"the job engine's tables in {describe(url)} can't be used: {reason}",
            hint="check that the database can be reached and written, then run `lhp db upgrade`",
        ) from error


def _log_through_logging() -> None:
    """Stops the engine from writing to the console, and reduces what it logs.

    While the database is away, its warnings repeat at every poll; the worker reports that itself.
    """
    engine_logger = logging.getLogger("dbos")
    if not engine_logger.handlers:
        engine_logger.addHandler(logging.NullHandler())
    engine_logger.setLevel(logging.ERROR)
