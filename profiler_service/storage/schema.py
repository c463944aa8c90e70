"""The schema's revision: finds the one that a database has, checks it, and upgrades it.

Migrations first only add. So a version can use a newer schema than its own until a later migration
takes away what that version needs, which the table `compatibility` says. Knows no other table: the
migrations make them.
"""

from __future__ import annotations

import functools
import importlib.resources

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

from profiler_service.errors import SchemaTooNewError, SchemaTooOldError, StoreUnavailableError
from profiler_service.storage import readers, roles
from profiler_service.storage.database import (
    connection_errors,
    create_database_engine,
    describe,
    find_sqlite_path,
    parse_url,
    write_access,
)
from profiler_service.storage.tables import compatibility, installation

_LOCK_NUMBER = 0x6C6870  # "lhp": the PostgreSQL advisory lock that one upgrade at a time holds


def upgrade(url: str) -> None:
    """Returns when the database at `url` has this version's schema; makes it if needed.

    One transaction, so an error changes nothing. If several processes ask, only one does the work.
    A newer schema that this version can use stays as it is.

    Raises:
        StoreUnavailableError: the database can't be reached, or `url` is malformed.
        SchemaTooNewError: a newer version wrote the schema, and this one can't use it.
    """
    parsed = parse_url(url)
    path = find_sqlite_path(parsed)
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailableError(
                f"{path.parent} can't be made: {error.strerror}",
                hint="choose a directory that you may write to in LHP_DATABASE_URL",
            ) from error
    engine = create_database_engine(parsed)
    try:
        with connection_errors(parsed), write_access(engine).begin() as connection:
            if path is None:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_NUMBER)))
            config = _alembic_config()
            revision = _find_revision(connection)
            if revision is not None and not _is_known(revision):
                _check_newer(connection, revision, parsed)
                return
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def renew_rights(url: str) -> None:
    """Gives the roles of joined hosts, and of readers, their rights on all that is new.

    Does nothing in SQLite. Run it after upgrading this schema and the job engine's. Raises
    StoreUnavailableError.
    """
    parsed = parse_url(url)
    if find_sqlite_path(parsed) is not None:
        return
    engine = create_database_engine(parsed)
    try:
        with connection_errors(parsed), engine.begin() as connection:
            value = connection.execute(sa.select(installation.c.value)).scalar_one()
            roles.renew_rights(connection, value)
            readers.renew_rights(connection, value)
    finally:
        engine.dispose()


def current_revision(url: str) -> str | None:
    """The schema revision of the database at `url`; None if it has no schema yet.

    Raises StoreUnavailableError.
    """
    parsed = parse_url(url)
    path = find_sqlite_path(parsed)
    if path is not None and not path.exists():
        return None  # connecting would make an empty file
    engine = create_database_engine(parsed)
    try:
        with connection_errors(parsed), engine.connect() as connection:
            return _find_revision(connection)
    finally:
        engine.dispose()


def check(engine: Engine) -> None:
    """Returns if the schema is this version's, or a newer one that this version can use.

    Raises:
        StoreUnavailableError: the database can't be reached.
        SchemaTooOldError: `lhp db upgrade` must be run first (also on an empty database).
        SchemaTooNewError: a newer version wrote the schema, and this one can't use it.
    """
    path = find_sqlite_path(engine.url)
    if path is not None and not path.exists():
        raise SchemaTooOldError(
            f"{describe(engine.url)} doesn't exist yet", hint=_explain_upgrade(engine.url)
        )
    with connection_errors(engine.url), engine.connect() as connection:
        revision = _find_revision(connection)
        if revision is not None and not _is_known(revision):
            _check_newer(connection, revision, engine.url)
            return
    if revision is None:
        raise SchemaTooOldError(
            f"{describe(engine.url)} has no schema yet", hint=_explain_upgrade(engine.url)
        )
    if revision != (head := _head()):
        raise SchemaTooOldError(
            f"{describe(engine.url)} has schema {revision}; this version needs {head}",
            hint=_explain_upgrade(engine.url),
        )


def _explain_upgrade(url: sa.URL) -> str:
    """What to do about a schema that is too old."""
    if find_sqlite_path(url) is not None:
        return "run `lhp db upgrade`"
    return (
        "run `lhp db upgrade` with this version, on the machine of the service: hosts that have"
        " joined may not change the schema"
    )


def _alembic_config() -> Config:
    config = Config()
    location = str(importlib.resources.files("profiler_service.migrations").joinpath())
    config.set_main_option("script_location", location.replace("%", "%%"))
    return config


def _find_revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


@functools.cache
def _known_revisions() -> tuple[str, ...]:
    """The revisions that this version knows, the newest first. Imports every migration, once."""
    script = ScriptDirectory.from_config(_alembic_config())
    return tuple(known.revision for known in script.walk_revisions())


def _head() -> str:
    """The newest revision that this version knows."""
    return _known_revisions()[0]


def _is_known(revision: str) -> bool:
    return revision in _known_revisions()


def _check_newer(connection: Connection, revision: str, url: sa.URL) -> None:
    """Returns if this version can use a schema that it doesn't know. Raises SchemaTooNewError."""
    oldest = None
    if sa.inspect(connection).has_table(compatibility.name):
        oldest = connection.scalar(sa.select(compatibility.c.oldest))
    check_revision(revision, oldest, where=describe(url))


def check_revision(revision: str, oldest: str | None, *, where: str) -> None:
    """Returns if this version can use or upgrade a schema of that revision.

    `oldest` is what the schema says in `compatibility`, if it has that table. Raises
    SchemaTooNewError.
    """
    # Revisions are numbers of four digits, so their texts have the same order.
    if not _is_known(revision) and (oldest is None or _head() < oldest):
        raise SchemaTooNewError(
            f"{where} has schema {revision}, which this version can't use",
            hint="a newer version wrote it: install that version here, or use another database",
        )
