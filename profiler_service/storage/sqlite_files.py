"""Whether a SQLite database is still the file that was opened, and whether it can grow.

SQLite itself goes on with a file that was deleted, moved or replaced, and all that it writes is
gone with its last connection. Knows no table.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import threading
from pathlib import Path

from profiler_service.errors import StoreLostError, StoreNotWritableError, StoreUnavailableError

SPARE_BYTES = 1 << 20
"""Room that the database must have to grow: more than a batch of samples takes."""

_Identity = tuple[int, int]


class SqliteFiles:
    """The files of one SQLite database: itself, its write-ahead log, and the log's index.

    From the first connection on, a connection of its own keeps all three from being made anew: as
    long as it is open, a file that is missing or another one was lost. Safe to share between
    threads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._keeping: sqlite3.Connection | None = None
        self._known: dict[Path, _Identity] = {}

    def keep(self) -> None:
        """Remembers the files as they are. Does nothing if it has."""
        with self._lock:
            if self._keeping is not None:
                return
            keeping = self._connect(timeout_s=0)
            # Reading opens the log. It is no transaction, and holds no lock afterwards.
            keeping.execute("SELECT count(*) FROM sqlite_master").fetchall()
            known = {}
            for suffix in ("", "-wal", "-shm"):
                path = self._path.with_name(self._path.name + suffix)
                with contextlib.suppress(FileNotFoundError):  # no log: the mode can't be changed
                    known[path] = _identify(path.stat())
            self._keeping, self._known = keeping, known

    def forget(self) -> None:
        """Forgets the files: the next connection may find others."""
        with self._lock:
            if self._keeping is not None:
                self._keeping.close()
            self._keeping, self._known = None, {}

    def check(self) -> None:
        """Returns if the files are those that were opened, or can be. Takes some microseconds.

        Raises StoreLostError; StoreUnavailableError if nothing was opened and there is no file,
        or if the file system fails.
        """
        if not self._known and not self._path.exists():
            raise StoreUnavailableError(
                f"the SQLite database {self._path} doesn't exist",
                hint="run `lhp db upgrade`, or restart the service and its workers",
            )
        for path, identity in list(self._known.items()):
            try:
                found = path.stat()
            except FileNotFoundError:
                raise self._lost(path, "was deleted or moved away") from None
            except OSError as error:
                raise StoreUnavailableError(
                    f"{path} can't be looked at: {error.strerror}",
                    hint="see that the disk works and that the directory can be read",
                ) from error
            if _identify(found) != identity:
                raise self._lost(path, "was replaced by another file")
            if path == self._path and found.st_size == 0:
                raise self._lost(path, "was emptied")

    def check_writable(self, *, timeout_s: float) -> None:
        """Returns if something could be kept now. Changes nothing, and writes no page.

        It asks whether the file may be written, takes the lock of a writer, and asks the file
        system for `SPARE_BYTES` beside it. Raises StoreLostError,
        StoreNotWritableError; StoreUnavailableError if another keeps the lock for `timeout_s`.
        """
        self.check()
        # SQLite itself reuses descriptors from when the file could still be written.
        if not os.access(self._path, os.W_OK, effective_ids=True):
            raise self._not_writable("the file is read-only")
        try:
            with contextlib.closing(self._connect(timeout_s=timeout_s)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise StoreUnavailableError(
                    f"another program has kept the SQLite database {self._path} locked",
                    hint="end that program: nothing can be kept meanwhile",
                ) from error
            raise self._not_writable(str(error)) from error
        try:
            with tempfile.TemporaryFile(dir=self._path.parent) as spare:
                # At the offset of the database's end, because the size of files may be limited.
                size_bytes = self._path.stat().st_size
                written = os.pwrite(spare.fileno(), bytes(SPARE_BYTES), size_bytes)
        except OSError as error:
            raise self._not_writable(f"{self._path.parent}: {error.strerror}") from error
        if written < SPARE_BYTES:
            raise self._not_writable("its disk is full")

    def _connect(self, *, timeout_s: float) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",  # never makes the file
            uri=True,
            timeout=timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )

    def _not_writable(self, reason: str) -> StoreNotWritableError:
        return StoreNotWritableError(
            f"nothing can be kept in the SQLite database {self._path}: {reason}",
            hint="make room on its disk, and see that the file and its directory can be written",
        )

    def _lost(self, path: Path, how: str) -> StoreLostError:
        return StoreLostError(
            f"{path} {how} while it was in use: nothing is kept any more",
            hint="put the file back where it was, or restart the service and its workers",
        )


def _identify(found: os.stat_result) -> _Identity:
    return found.st_dev, found.st_ino
