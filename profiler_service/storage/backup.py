"""Backups of the whole database, made while it is in use, and put back.

SQLite's are copies by its online backup, PostgreSQL's are made by its own `pg_dump`. A backup of
PostgreSQL is put back as SQL, which may do all that the database's role may do. The job engine's
tables aren't in backups: workers make those anew.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.errors import ConflictError, LhpError
from profiler_service.storage import schema
from profiler_service.storage.database import (
    PLAIN_PARAMETERS,
    connection_errors,
    create_database_engine,
    describe,
    find_sqlite_path,
    parse_url,
    write_access,
)
from profiler_service.storage.leases import find_holders
from profiler_service.storage.readers import VIEWS_SCHEMA
from profiler_service.storage.statements import read_now
from profiler_service.storage.tables import (
    curves,
    generation,
    hosts,
    join_keys,
    metadata,
    sweeps,
    tokens,
)

_JOBS_SCHEMA = "dbos"
_KINDS = {b"SQLite format 3\0": "SQLite", b"PGDMP": "PostgreSQL"}
"""First bytes of a backup → the database that it is of."""


class BackupError(LhpError):
    """A backup can't be made, read or put back."""


@dataclass(frozen=True, kw_only=True)
class LetIn:
    """Who a restored database lets in: also those that were kept out only after the backup."""

    tokens: Sequence[tuple[str, str]]
    """Id and name of each valid token."""
    join_keys: Sequence[tuple[str, str | None]]
    """Id of each key that lets a machine in, and the name that the host would have."""


def back_up(url: str, file: Path) -> None:
    """Returns when `file` is a backup of the database. Others may use it meanwhile.

    The file appears whole or not at all, and only its owner can read it.

    Raises:
        BackupError: the file is there already, or PostgreSQL's programs are missing or fail.
        StoreError: the database can't be used, or has no schema.
    """
    parsed = parse_url(url)
    if schema.current_revision(url) is None:
        raise BackupError(f"{describe(parsed)} has nothing to back up", hint="see LHP_DATABASE_URL")
    if file.exists():
        raise BackupError(f"{file} is there already", hint="choose another name, or delete it")
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name[:32]}-") as directory:
        part = Path(directory) / "part"
        path = find_sqlite_path(parsed)
        if path is not None:
            with connection_errors(parsed):
                _copy_sqlite(path, part)
                with contextlib.closing(_open_sqlite(part, "rw")) as copy:
                    # Otherwise reading it would make more files beside it.
                    copy.execute("PRAGMA journal_mode = DELETE")
        else:
            _run(
                parsed,
                ["pg_dump", "--format=custom", "--no-owner", "--no-privileges"],
                [f"--exclude-schema={_JOBS_SCHEMA}", f"--file={part}"],
            )
        part.chmod(0o600)
        os.link(part, file)  # unlike renaming, this never replaces a file


def restore(url: str, file: Path, *, replace: bool) -> LetIn:
    """Who is let in, once the database holds what the backup holds, with this version's schema.

    All or nothing. What the database held is lost, which `replace` allows.

    Raises:
        BackupError: the file is no backup of such a database, is damaged, or programs are missing.
        ConflictError: the database isn't empty, or a worker uses it.
        SchemaTooNewError: a newer version made the backup, and this one can't use it.
        StoreError: the database can't be used.
    """
    parsed = parse_url(url)
    path = find_sqlite_path(parsed)
    _check_kind(file, "PostgreSQL" if path is None else "SQLite")
    if path is not None:
        _check_sqlite_backup(file)
    before = -1
    grants: list[str] = []
    if schema.current_revision(url) is not None:
        with _connect(url) as connection:
            _refuse_use(connection, parsed, replace=replace)
            before = connection.scalar(sa.select(generation.c.value)) or 0
            if path is None:
                grants = _read_grants(connection)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with connection_errors(parsed):
            _copy_sqlite(file, path)
    else:
        _restore_postgres(parsed, file)
    schema.upgrade(url)
    with _connect(url) as connection:
        for grant in grants:
            connection.exec_driver_sql(grant)
        # Whoever keeps answers in memory sees that everything may have changed.
        after = connection.scalar(sa.select(generation.c.value)) or 0
        connection.execute(sa.update(generation).values(value=max(before, after) + 1))
        return _find_let_in(connection)


def _find_let_in(connection: Connection) -> LetIn:
    now = read_now(connection)
    token, key = tokens.c, join_keys.c
    lasts = token.expires_at.is_(None) | (token.expires_at > now)
    valid = sa.select(token.id, token.name).where(token.revoked_at.is_(None), lasts)
    unused = key.is_reusable | key.used_by.is_(None)
    lets_in = key.revoked_at.is_(None) & (key.expires_at > now)
    open_keys = sa.select(key.id, key.name).where(unused, lets_in)
    return LetIn(
        tokens=[(row.id, row.name) for row in connection.execute(valid.order_by(token.id))],
        join_keys=[(row.id, row.name) for row in connection.execute(open_keys.order_by(key.id))],
    )


@contextlib.contextmanager
def _connect(url: str) -> Iterator[Connection]:
    parsed = parse_url(url)
    engine = create_database_engine(parsed)
    try:
        with connection_errors(parsed), write_access(engine).begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _refuse_use(connection: Connection, url: sa.URL, *, replace: bool) -> None:
    """Raises ConflictError if the database holds something, or if a worker uses it."""
    holders = find_holders(connection)
    if holders:
        raise ConflictError(
            f"{describe(url)} is in use: {', '.join(holders)} measures",
            hint="stop every service and worker first",
        )
    for table in (hosts, sweeps, curves):
        row = connection.scalar(sa.select(sa.literal(1)).select_from(table).limit(1))
        if row is not None and not replace:
            raise ConflictError(
                f"{describe(url)} isn't empty: it has {table.name}",
                hint="restore into another database, or replace all that is in it with --replace",
            )


def _check_kind(file: Path, wanted: str) -> None:
    """Returns if the file begins as a backup of such a database. Raises BackupError."""
    with file.open("rb") as opened:
        start = opened.read(16)
    kind = next((name for first, name in _KINDS.items() if start.startswith(first)), None)
    if kind is None:
        raise BackupError(f"{file} is no backup", hint="give a file that `lhp db backup` has made")
    if kind != wanted:
        raise BackupError(
            f"{file} is a backup of {kind}, and the database is {wanted}",
            hint="move curves from one to the other with `lhp db export` and `lhp db import`",
        )


def _check_sqlite_backup(file: Path) -> None:
    """Returns if the file is whole and its schema can be used. Raises BackupError, StoreError."""
    try:
        with contextlib.closing(_open_sqlite(file, "ro")) as connection:
            [(found,)] = connection.execute("PRAGMA integrity_check(1)").fetchall()
            if found != "ok":
                raise BackupError(f"{file} is damaged: {found}", hint="use another backup")
            tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
            if ("alembic_version",) not in tables:
                raise BackupError(
                    f"{file} is no backup of this service", hint="see which file you gave"
                )
            [(revision,)] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
            oldest = None
            if ("compatibility",) in tables:
                [(oldest,)] = connection.execute("SELECT oldest FROM compatibility").fetchall()
    except (sqlite3.Error, ValueError) as error:
        raise BackupError(f"{file} is damaged: {error}", hint="use another backup") from error
    schema.check_revision(str(revision), oldest, where=str(file))


def _copy_sqlite(source: Path, target: Path) -> None:
    """Makes `target` hold what `source` holds now, in one transaction of each."""
    with (
        contextlib.closing(_open_sqlite(source, "ro")) as reading,
        contextlib.closing(_open_sqlite(target, "rwc")) as writing,
    ):
        reading.backup(writing)
        [(found,)] = writing.execute("PRAGMA integrity_check(1)").fetchall()
        if found != "ok":
            raise BackupError(f"{source} is damaged: {found}", hint="save what can be read of it")


def _open_sqlite(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)


def _restore_postgres(url: sa.URL, file: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="lhp-restore-") as directory:
        # Reading the whole backup first shows whether it is damaged.
        script = Path(directory) / "restore.sql"
        _run(None, ["pg_restore", "--no-owner", "--no-privileges"], [f"--file={script}", str(file)])
        tables = ", ".join([*metadata.tables, "alembic_version"])
        bare = url.set(drivername="postgresql").render_as_string(hide_password=False)
        try:
            with psycopg.connect(bare) as connection, script.open("rb") as lines:
                connection.execute(f"DROP SCHEMA IF EXISTS {VIEWS_SCHEMA} CASCADE".encode())
                connection.execute(f"DROP TABLE IF EXISTS {tables} CASCADE".encode())
                _run_script(connection, lines)
        except psycopg.Error as error:
            reason = " ".join(str(error).split())[-500:]
            raise BackupError(
                f"the backup can't be restored: {reason}", hint="nothing was changed"
            ) from error


def _run_script(connection: psycopg.Connection[Any], lines: Iterator[bytes]) -> None:
    """Runs what `pg_restore` wrote, in the transaction of the connection. Raises BackupError.

    `psql` would also obey lines that begin with a backslash, and one of these starts a shell.
    """
    statements: list[bytes] = []
    with connection.cursor() as cursor:
        for line in lines:
            if line.startswith(b"COPY ") and line.rstrip().endswith(b" FROM stdin;"):
                cursor.execute(b"".join(statements))
                statements.clear()
                with cursor.copy(line) as copy:
                    for row in itertools.takewhile(lambda each: each != b"\\.\n", lines):
                        copy.write(row)
            elif not line.startswith(b"\\"):
                statements.append(line)
            elif not line.startswith((rb"\restrict ", rb"\unrestrict ")):  # for psql alone
                raise BackupError(
                    "the backup has commands that aren't SQL",
                    hint="nothing was changed; `lhp db backup` writes none: whose backup is it?",
                )
        cursor.execute(b"".join(statements))


def _read_grants(connection: Connection) -> list[str]:
    """The statements that give others the rights on tables that they have now."""
    quote = connection.dialect.identifier_preparer.quote
    found = connection.exec_driver_sql(
        "SELECT privilege_type, table_name, grantee FROM information_schema.role_table_grants"
        " WHERE table_schema = current_schema() AND grantee NOT IN (current_user, 'PUBLIC')"
    )
    return [
        f"GRANT {privilege} ON {quote(table)} TO {quote(grantee)}"
        for privilege, table, grantee in found
        if table in metadata.tables or table == "alembic_version"
    ]


def _run(url: sa.URL | None, *arguments: Sequence[str]) -> None:
    """Runs one of PostgreSQL's programs, on that database. Raises BackupError."""
    command = [word for part in arguments for word in part]
    if shutil.which(command[0]) is None:
        raise BackupError(
            f"{command[0]} isn't installed here",
            hint="install PostgreSQL's client programs (pg_dump and pg_restore), of the"
            " server's version or a newer one",
        )
    environment = dict(os.environ)
    with contextlib.ExitStack() as stack:
        if url is not None:
            # Secrets aren't among the arguments, which every user of the machine can read.
            if url.password is not None:
                environment["PGPASSWORD"] = str(url.password)
            plain = {name: url.query[name] for name in url.query if name in PLAIN_PARAMETERS}
            secret = {name: url.query[name] for name in url.query if name not in plain}
            if secret:
                file = stack.enter_context(tempfile.NamedTemporaryFile("w", prefix="lhp-"))
                file.write("\n".join(["[lhp]", *(f"{name}={secret[name]}" for name in secret), ""]))
                file.flush()
                environment["PGSERVICEFILE"] = file.name
                plain["service"] = "lhp"
            bare = url.set(drivername="postgresql", password=None, query=plain)
            command.append(f"--dbname={bare.render_as_string(hide_password=False)}")
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
    if done.returncode != 0:
        reason = " ".join(done.stderr.decode(errors="replace").split())[-500:]
        raise BackupError(
            f"{command[0]} failed: {reason}",
            hint="nothing was changed; see what it says, and that its version is the server's or"
            " newer",
        )
