"""Connections: makes engines from URLs, sets up databases, and turns their errors into ours.

Knows no table. A URL's password, or a query that may hold one, never appears in an error.
"""

from __future__ import annotations

import functools
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.pool import ConnectionPoolEntry

from profiler_service.errors import (
    HostRefusedError,
    StoreNotWritableError,
    StoreUnavailableError,
    StoreUnusableError,
)
from profiler_service.storage.postgres import bound_connections, connect_arguments
from profiler_service.storage.sqlite_files import SqliteFiles

URL_FORMS = "write it as sqlite:////absolute/path or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
ROLE_PREFIX = "lhp_host_"
"""How the roles of hosts that have joined begin."""
PLAIN_PARAMETERS = frozenset(
    (
        *("host", "port", "dbname", "target_session_attrs", "load_balance_hosts", "options"),
        *("sslmode", "sslrootcert", "sslnegotiation", "ssl_min_protocol_version"),
        *("channel_binding", "gssencmode", "require_auth", "connect_timeout"),
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    )
)
"""Parameters of a PostgreSQL URL that everybody may see. Others may be passwords or keys."""
BUSY_TIMEOUT_S = 15.0
"""Default time that a SQLite connection waits for another's write to end."""
POOL_TIMEOUT_S = 1.0
"""How long to wait for a connection if all of them are in use."""
NOT_WRITABLE_SQLITE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR_WRITE)
NOT_WRITABLE_POSTGRES = ("53100", "25006")  # disk_full, read_only_sql_transaction
NOT_SET_UP_POSTGRES = ("42P01", "42703", "3F000", "42501")
"""undefined_table, undefined_column, invalid_schema_name, insufficient_privilege"""
NOT_SET_UP_SQLITE = r"no such (table|column)|table \S+ has no column"


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
    # What follows a question mark wouldn't be part of the path, even if it is no option.
    if parsed.database in (None, "", ":memory:") or "?" in url:
        raise StoreUnusableError(
            "the SQLite URL names no plain file, which several processes could share",
            hint=f"{URL_FORMS}; the path has no question mark",
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


def create_database_engine(
    url: sa.URL,
    *,
    timeout_s: float | None = None,
    files: SqliteFiles | None = None,
    driver_begins: bool = False,
) -> Engine:
    """An engine that connects on first use.

    Every connection begins its transactions itself. With `write_access`, a transaction takes the
    write lock at once, so it never has to change from reading to writing.

    Args:
        url: as `parse_url` gives it.
        timeout_s: longest time to connect, and to wait for an answer or for another's lock. None
            is for upgrades, which may take long.
        files: every transaction begins by checking that they are still those of the database.
        driver_begins: SQLite's driver begins transactions, with the first statement that writes.
    """
    is_sqlite = url.get_backend_name() == "sqlite"
    engine = sa.create_engine(
        url,
        connect_args={"timeout": BUSY_TIMEOUT_S if timeout_s is None else timeout_s}
        if is_sqlite
        else connect_arguments(url, timeout_s),
        # PostgreSQL refuses NaN in JSON and SQLite doesn't: refuse it on both.
        json_serializer=functools.partial(json.dumps, allow_nan=False),
        pool_pre_ping=not is_sqlite,
        pool_size=5,
        max_overflow=35,  # more than the threads that serve requests
        pool_timeout=POOL_TIMEOUT_S,
        hide_parameters=True,
    )
    if not is_sqlite:
        if timeout_s is not None:
            bound_connections(engine, timeout_s)
        return engine
    if driver_begins:
        event.listen(engine, "connect", _set_up_sqlite_driver)
    else:
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    if files is not None:
        _watch_files(engine, files)
    return engine


def _watch_files(engine: Engine, files: SqliteFiles) -> None:
    # Before connecting, because that would make a new file if the old one is gone.
    event.listen(engine, "do_connect", lambda *_: files.check())
    event.listen(engine, "connect", lambda *_: files.keep())
    event.listen(engine, "begin", lambda _: files.check())
    event.listen(engine, "engine_disposed", lambda _: files.forget())


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


def _set_up_sqlite_driver(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = "IMMEDIATE"
    cursor = connection.cursor()
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
        is_away = error.connection_invalidated or _is_not_set_up(error.orig)
        if isinstance(error, exc.ProgrammingError) and not is_away:
            raise
        raise explain_failure(error, url) from error
    except (exc.TimeoutError, sqlite3.Error) as error:
        raise explain_failure(error, url) from error


def explain_failure(error: Exception, url: sa.URL) -> StoreUnavailableError:
    """The error of SQLAlchemy or of a driver as ours, with what to do about it."""
    if isinstance(error, exc.TimeoutError):
        return _unavailable(url, "every connection is in use")
    reason: Any = getattr(error, "orig", None) or error
    if is_spoilt(error):
        hint = _SPOILT_FILE[reason.sqlite_errorcode & 0xFF]
        return StoreUnusableError(f"{describe(url)} can't be used: {reason}", hint=hint)
    if _is_not_writable(reason):
        return StoreNotWritableError(
            f"nothing can be kept in {describe(url)}: {reason}",
            hint="make room on its disk, and see that it may be written",
        )
    if _is_shut_out(url, str(reason)):
        return HostRefusedError(
            "this host has been removed, or waits for approval: its role can't log in",
            hint="`lhp hosts --all` shows its state; an operator lets it in with"
            " `lhp hosts approve`, or with a new key from `lhp hosts add`",
        )
    if _is_not_set_up(reason):
        return StoreUnavailableError(
            f"{describe(url)} can't be used: {' '.join(str(reason).split())}",
            hint="run `lhp db upgrade` with this version, and see that the user may use the tables;"
            " if a newer version has upgraded the database, install that one here",
        )
    return _unavailable(url, str(reason))


def _is_shut_out(url: sa.URL, reason: str) -> bool:
    """Whether the user is a host's role that can't log in, or that is no more."""
    role = url.username or ""
    signs = ("not permitted to log in", f'role "{role}" does not exist', "password authentication")
    return role.startswith(ROLE_PREFIX) and any(each in reason for each in signs)


_SPOILT_FILE = {
    sqlite3.SQLITE_NOTADB: "give another path in LHP_DATABASE_URL, or move the file away",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: put a backup in its place, or save what can be"
    " read with `sqlite3 FILE .recover`; or move it away to start with an empty one",
}
"""What to do about a file that no repetition makes readable, by SQLite's code."""


def is_spoilt(error: Exception) -> bool:
    """Whether the error says that a SQLite file is damaged, or is a file of another kind."""
    code = getattr(getattr(error, "orig", None) or error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _SPOILT_FILE


@contextmanager
def connection_errors(url: sa.URL) -> Iterator[None]:
    """As `database_errors`, for a first connection: refused options count as failures."""
    with database_errors(url):
        try:
            yield
        except exc.ProgrammingError as error:
            raise _unavailable(url, str(error.orig)) from error


def _is_not_writable(reason: object) -> bool:
    code = getattr(reason, "sqlite_errorcode", None)
    return (
        code in NOT_WRITABLE_SQLITE
        or (code is not None and code & 0xFF in NOT_WRITABLE_SQLITE)
        or getattr(reason, "sqlstate", None) in NOT_WRITABLE_POSTGRES
    )


def has_changed(error: StoreUnavailableError) -> bool:
    """Whether the error says that tables or rights aren't those that this version needs."""
    return _is_not_set_up(getattr(error.__cause__, "orig", None))


def _is_not_set_up(reason: object) -> bool:
    """Whether somebody has changed the tables or a user's rights since the start."""
    if isinstance(reason, sqlite3.OperationalError):
        return re.match(NOT_SET_UP_SQLITE, str(reason)) is not None
    return getattr(reason, "sqlstate", None) in NOT_SET_UP_POSTGRES


def _unavailable(url: sa.URL, reason: str) -> StoreUnavailableError:
    if url.get_backend_name() == "sqlite":
        hint = "see that the file and its directory can be written, and that the disk isn't full"
    else:
        hint = "see that PostgreSQL runs there, and check host, port, user, password and database"
    return StoreUnavailableError(
        f"{describe(url)} can't be used: {' '.join(reason.split())}", hint=hint
    )
