"""The job engine: its tables, its connections, and its errors as ours."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer
from dbos import _sys_db as engine_database
from dbos._error import DBOSInitializationError
from dbos._serialization import DefaultSerializer

from profiler_service.errors import StoreUnavailableError, StoreUnusableError
from profiler_service.settings import Settings
from profiler_service.storage.database import (
    create_database_engine,
    describe,
    find_sqlite_path,
    is_spoilt,
    parse_url,
)
from profiler_service.storage.sqlite_files import SqliteFiles

APPLICATION = "lhp"
APPLICATION_VERSION = "1"
"""Pinned, because the engine resumes only jobs of its own version. Our jobs can survive an
upgrade: a job holds only the id of its sweep."""
SCHEMA = "dbos"
WORKFLOW = "run_sweep"
STEP = "run_batch"
CONNECT_TIMEOUT_S = 5
MAX_RESTARTS = 100
"""How often a new worker may resume a job before its sweep fails."""
LONGEST_PAUSE_S = 1.0
"""When its database is away, the engine tries again after so long at most."""


class _ShortPauses:
    """The module `time`, except that a pause takes `LONGEST_PAUSE_S` at most."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """Returns after so many seconds, or sooner."""
        time.sleep(min(seconds, LONGEST_PAUSE_S))


# The engine doubles its pauses, from a second to a minute, and has no setting for that. After an
# outage of half a minute, a job would stand still for another half.
engine_database.time = _ShortPauses()  # type: ignore[assignment, attr-defined]


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
    log_through_logging()
    url = engine_url(settings.database_url)
    with engine_errors(url):
        if (path := find_sqlite_path(url)) is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The file keeps this setting. With it, the frequent polling never waits for a writer.
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
        DBOS.migrate(to_text(url), schema=SCHEMA)


def create_engine(settings: Settings) -> tuple[sa.Engine, SqliteFiles | None]:
    """Connections for the job engine that wait for a limited time, and their SQLite files."""
    url = engine_url(settings.database_url)
    path = find_sqlite_path(url)
    files = None if path is None else SqliteFiles(path)
    engine = create_database_engine(
        url, timeout_s=settings.database_timeout_s, files=files, driver_begins=True
    )
    return engine, files


def create_client(engine: sa.Engine) -> DBOSClient:
    """The engine's client. It connects when it is used, and raises an error instead of waiting."""
    return DBOSClient(
        system_database_engine=engine,
        dbos_system_schema=SCHEMA,
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
        lazy=True,
        retry_connection_errors=False,
    )


def to_text(url: sa.URL) -> str:
    """The URL with its password, as the engine takes it."""
    return url.render_as_string(hide_password=False)


@contextlib.contextmanager
def engine_errors(url: sa.URL) -> Iterator[None]:
    """Turns every failure of the engine's database into StoreUnavailableError."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError, DBOSInitializationError) as error:
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


def log_through_logging() -> None:
    """Stops the engine from writing to the console, and reduces what it logs.

    While the database is away, its warnings repeat at every poll; the worker reports that itself.
    """
    engine_logger = logging.getLogger("dbos")
    if not engine_logger.handlers:
        engine_logger.addHandler(logging.NullHandler())
    engine_logger.setLevel(logging.ERROR)
