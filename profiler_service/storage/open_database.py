"""The store's connections: opened and closed, checked, and a transaction for each use.

Knows no table, except for the one number that says whether the database can be read.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from profiler_service.errors import (
    SchemaTooOldError,
    StoreNotWritableError,
    StoreUnavailableError,
)
from profiler_service.storage import schema
from profiler_service.storage.database import (
    create_database_engine,
    database_errors,
    describe,
    find_sqlite_path,
    parse_url,
    write_access,
)
from profiler_service.storage.records import WorkerIdentity
from profiler_service.storage.sqlite_files import SqliteFiles
from profiler_service.storage.statements import check_tables, is_read_only, read_generation

TRANSACTION_TIMEOUT_S = 4.0
"""Longest time to connect, and to wait for an answer or for another's lock."""
FAILED_WRITE_S = 30.0
"""For so long, what couldn't be kept says that nothing can, unless something was kept since."""


class OpenDatabase:
    """A database in use, by a worker or by anybody else. Safe to share between threads."""

    def __init__(
        self,
        engine: Engine,
        files: SqliteFiles | None = None,
        *,
        timeout_s: float = TRANSACTION_TIMEOUT_S,
        worker: WorkerIdentity | None = None,
    ) -> None:
        self._engine = engine
        self._timeout_s = timeout_s
        self._worker = worker
        self._writing_engine = write_access(engine)
        self._files = files
        self._failed_write: tuple[float, StoreNotWritableError] | None = None

    @classmethod
    def open(
        cls,
        url: str,
        *,
        timeout_s: float = TRANSACTION_TIMEOUT_S,
        worker: WorkerIdentity | None = None,
    ) -> Self:
        """The store at `url`, its schema checked. No wait takes longer than `timeout_s`.

        `worker` is the worker that opens it, if any.

        Raises:
            StoreUnavailableError: the database can't be reached, or `url` is malformed.
            SchemaTooOldError: `lhp db upgrade` must be run first (also on an empty database).
            SchemaTooNewError: a newer version wrote the schema.
        """
        parsed = parse_url(url)
        path = find_sqlite_path(parsed)
        files = None if path is None else SqliteFiles(path)
        engine = create_database_engine(parsed, timeout_s=timeout_s, files=files)
        try:
            schema.check(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, files, timeout_s=timeout_s, worker=worker)

    @property
    def shared_pool(self) -> Engine | None:
        """PostgreSQL's connections, for others of this process that use the same database.

        None for SQLite.
        """
        return self._engine if self._files is None else None

    def close(self) -> None:
        """Releases every connection."""
        self._engine.dispose()

    def ping(self) -> None:
        """Returns when the database answers. Raises StoreUnavailableError."""
        with self._read() as connection:
            connection.execute(sa.select(1))

    def check_usable(self) -> None:
        """Returns if the database answers and something could be kept now. Changes nothing.

        Raises StoreUnavailableError: StoreLostError, or StoreNotWritableError.
        """
        with self._read() as connection:
            read_generation(connection)
            check_tables(connection, for_worker=self._worker is not None)
            if is_read_only(connection):
                raise StoreNotWritableError(
                    f"{describe(self._engine.url)} is read-only",
                    hint="see that it is no replica, and that its user may write",
                )
        if self._files is not None:
            self._files.check_writable(timeout_s=self._timeout_s)
        if self._failed_write is not None:
            failed_at_s, failed = self._failed_write
            if time.monotonic() - failed_at_s < FAILED_WRITE_S:
                raise failed

    def refuse_newer_schema(self) -> None:
        """Returns if the schema is one that this version can use, or if it can't be asked now.

        Raises SchemaTooNewError if an upgrade has left this version behind since it started.
        """
        with contextlib.suppress(StoreUnavailableError, SchemaTooOldError):
            schema.check(self._engine)

    def _get_worker(self) -> WorkerIdentity:
        if self._worker is None:
            raise ValueError("this store was opened without a worker's identity")
        return self._worker

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with database_errors(self._engine.url), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        try:
            with database_errors(self._engine.url), self._writing_engine.begin() as connection:
                yield connection
        except StoreNotWritableError as error:
            self._failed_write = (time.monotonic(), error)
            raise
        if self._files is not None:
            self._files.check()  # it may have been lost since the transaction began
        self._failed_write = None
