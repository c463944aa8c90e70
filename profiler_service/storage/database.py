"""Connections: makes engines from URLs, sets up databases, and turns their errors into ours.

Knows no table. A URL's password, or a query that may hold one, never appears in an error.
"""

from __future__ import annotations

import functools
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.pool import ConnectionPoolEntry

from profiler_service.errors import StoreUnavailableError, StoreUnusableError

URL_FORMS = "write it as sqlite:////absolute/path or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
CONNECT_TIMEOUT_S = 5
BUSY_TIMEOUT_S = 15
"""How long a SQLite connection waits for another's write to end."""


def parse_url(url: str) -> sa.URL:
    """The URL with its driver filled in. Raises StoreUnusableError if it can't be used."""
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError):
        # Its text may be anything, a password included: say nothing of it.
        raise StoreUnusableError("the database URL is malformed", hint=URL_FORMS) from None
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise StoreUnusableError(
            f"databases of the kind {parsed.drivername!r} aren't supported", hint=URL_FORMS
        )
    if parsed.host:
        raise StoreUnusableError("the SQLite URL lacks a slash", hint=URL_FORMS)
    if parsed.database in (None, "", ":memory:") or parsed.query:
        raise StoreUnusableError(
            "the SQLite URL names no plain file, which several processes could share",
            hint=URL_FORMS,
        )
    if str(parsed.database).startswith("~"):
        raise StoreUnusableError(
            f"the home directory isn't known, so {parsed.database} can't be found",
            hint="set LHP_DATABASE_URL to sqlite:////absolute/path, or set HOME or XDG_DATA_HOME",
        )
    return parsed


def find_sqlite_path(url: sa.URL) -> Path | None:
    """The file that a SQLite URL names; None for another database."""
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


def describe(url: sa.URL) -> str:
    """The database in words, without user, password and query."""
    path = find_sqlite_path(url)
    if path is not None:
        return f"the SQLite database {path}"
    where = f" on {url.host}:{url.port or 5432}" if url.host else ""
    return f"the PostgreSQL database {url.database!r}{where}"


def create_database_engine(url: sa.URL) -> Engine:
    """An engine that connects on first use.

    Every connection begins its transactions itself. With `write_access`, a transaction takes the
    write lock at once, so it never has to change from reading to writing.
    """
    is_sqlite = url.get_backend_name() == "sqlite"
    connect_args: dict[str, object] = {"timeout": BUSY_TIMEOUT_S}
    if not is_sqlite:
        connect_args = (
            {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_TIMEOUT_S}
        )
    engine = sa.create_engine(
        url,
        connect_args=connect_args,
        # PostgreSQL refuses NaN in JSON and SQLite doesn't: refuse it on both.
        json_serializer=functools.partial(json.dumps, allow_nan=False),
        pool_pre_ping=not is_sqlite,
        pool_size=5,
        max_overflow=35,  # the 40 threads that serve requests
        pool_timeout=CONNECT_TIMEOUT_S,
        hide_parameters=True,
    )
    if is_sqlite:
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def write_access(engine: Engine) -> Engine:
    """The same engine, and its pool, for transactions that write."""
    return engine.execution_options(lhp_write=True)


def _set_up_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # Otherwise the driver would begin transactions late, and never around schema changes.
    connection.isolation_level = None
    cursor = connection.cursor()
    _switch_to_wal(cursor)
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _switch_to_wal(cursor: DBAPICursor) -> None:
    # If two processes switch a new file at the same time, each holds a lock that the other needs.
    # SQLite then refuses one of them without waiting, and frees its lock. So the retry succeeds.
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline_s:
                raise
        time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("lhp_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def database_errors(url: sa.URL) -> Iterator[None]:
    """Turns failures of the database, but not misuse of it, into StoreUnavailableError."""
    try:
        yield
    except exc.DBAPIError as error:
        if isinstance(error, (exc.DataError, exc.IntegrityError, exc.NotSupportedError)):
            raise
        if isinstance(error, exc.ProgrammingError) and not error.connection_invalidated:
            raise
        raise explain_failure(error, url) from error
    except (exc.TimeoutError, sqlite3.Error) as error:
        raise explain_failure(error, url) from error


def explain_failure(error: Exception, url: sa.URL) -> StoreUnavailableError:
    """The error of SQLAlchemy or of a driver as ours, with what to do about it."""
    if isinstance(error, exc.TimeoutError):
        return _unavailable(url, "every connection is in use")
    reason = getattr(error, "orig", None) or error
    code = getattr(reason, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in _SPOILT_FILE:
        return StoreUnusableError(
            f"{describe(url)} can't be used: {reason}", hint=_SPOILT_FILE[code & 0xFF]
        )
    return _unavailable(url, str(reason))


_SPOILT_FILE = {
    sqlite3.SQLITE_NOTADB: "give another path in LHP_DATABASE_URL, or move the file away",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: put a backup in its place, or save what can be"
    " read with `sqlite3 FILE .recover`; or move it away to start with an empty one",
}
"""What to do about a file that no repetition makes readable, by SQLite's code."""


@contextmanager
def connection_errors(url: sa.URL) -> Iterator[None]:
    """As `database_errors`, for a first connection: refused options count as failures."""
    with database_errors(url):
        try:
            yield
        except exc.ProgrammingError as error:
            raise _unavailable(url, str(error.orig)) from error


def _unavailable(url: sa.URL, reason: str) -> StoreUnavailableError:
    if url.get_backend_name() == "sqlite":
        hint = "see that the file and its directory can be written, and that the disk isn't full"
    else:
        hint = "see that PostgreSQL runs there, and check host, port, user, password and database"
    return StoreUnavailableError(
        f"{describe(url)} can't be used: {' '.join(reason.split())}", hint=hint
    )
