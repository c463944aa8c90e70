"""Roles in PostgreSQL that only read the views for dashboards.

The rights belong to one role of the installation, which the readers are members of. A reader sees
the views of one schema, and no table: neither tokens nor join keys, audit nor raw samples.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.errors import ConflictError, InvalidRequestError
from profiler_service.storage import roles

VIEWS_SCHEMA = "dashboards"
"""Where the views are."""
STATEMENT_TIMEOUT_S = 30
"""A reader's statement that takes longer is broken off."""


def renew_rights(connection: Connection, installation: str) -> None:
    """Gives the readers, if there are any, the right to read all views, new ones included."""
    group = _group(installation)
    roles.wait_for_others(connection)
    if roles.exists(connection, group):
        _grant(connection, group)


def add_reader(connection: Connection, installation: str, name: str, password: str) -> bool:
    """Whether the role is new. Now it may log in with that password, and read the views.

    Raises ConflictError if there is a role of that name that isn't a reader of this installation,
    or if the service's own role may not create roles; InvalidRequestError for a name that no role
    can have.
    """
    _check(name)
    roles.check_may_create(connection, "dashboards")
    roles.wait_for_others(connection)
    group = _group(installation)
    if not roles.exists(connection, group):
        connection.exec_driver_sql(f"CREATE ROLE {group} NOLOGIN")
    _grant(connection, group)
    is_new = not roles.exists(connection, name)
    verifier = roles.make_verifier(connection, name, password)
    if is_new:
        connection.exec_driver_sql(
            f"CREATE ROLE \"{name}\" LOGIN IN ROLE {group} PASSWORD '{verifier}'"
        )
    else:
        _refuse_others(connection, group, name)
        connection.exec_driver_sql(f"ALTER ROLE \"{name}\" PASSWORD '{verifier}'")
    for setting in (
        f"search_path = {VIEWS_SCHEMA}",
        "default_transaction_read_only = on",
        f"statement_timeout = '{STATEMENT_TIMEOUT_S}s'",
    ):
        connection.exec_driver_sql(f'ALTER ROLE "{name}" SET {setting}')
    return is_new


def remove_reader(connection: Connection, installation: str, name: str) -> None:
    """Drops the reader. Its open connections end with their next statement.

    Raises ConflictError if it isn't a reader of this installation.
    """
    _check(name)
    roles.wait_for_others(connection)
    _refuse_others(connection, _group(installation), name)
    connection.exec_driver_sql(f'DROP ROLE "{name}"')


def _group(installation: str) -> str:
    return f"lhp_readers_{installation}"


def _grant(connection: Connection, group: str) -> None:
    roles.close_public_schema(connection)
    connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {VIEWS_SCHEMA} TO {group}")
    connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA {VIEWS_SCHEMA} TO {group}")


def _refuse_others(connection: Connection, group: str, name: str) -> None:
    """Returns if the role is a member of the group."""
    is_member = sa.text(
        "SELECT 1 FROM pg_auth_members AS m JOIN pg_roles AS g ON g.oid = m.roleid"
        " JOIN pg_roles AS r ON r.oid = m.member"
        " WHERE g.rolname = :group AND r.rolname = :name"
    )
    if connection.scalar(is_member, {"group": group, "name": name}) is None:
        raise ConflictError(
            f"the role {name!r} is no reader that `lhp db add-reader` has made",
            hint="choose another name",
        )


def _check(name: str) -> None:
    """Returns if statements can name the role as it is: they take no values."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name) or name.startswith(("pg_", "lhp_")):
        raise InvalidRequestError(
            f"{name[:80]!r} is no name for a reader",
            hint="use at most 63 small letters, digits and underscores, not beginning with a digit,"
            " pg_ or lhp_",
        )
