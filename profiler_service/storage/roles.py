"""Roles in PostgreSQL: each host that joins has its own, with what a worker needs and no more.

The rights belong to one role of the installation, which the hosts' roles are members of. A worker
reads and writes rows. It makes and changes no table, sees neither tokens nor join keys, and can't
change what operators decide about hosts.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

import logging
import re
import secrets

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.errors import ConflictError
from profiler_service.storage.database import ROLE_PREFIX
from profiler_service.storage.tables import metadata

logger = logging.getLogger(__name__)

JOBS_SCHEMA = "dbos"
"""Where the job engine has its tables."""
_LOCK_NUMBER = 0x6C687072  # "lhpr": the advisory lock of whoever makes roles and grants rights
RIGHTS = {
    "hosts": "SELECT, UPDATE (protocol_key, dtypes, backends, last_seen_at, offered_platform_key,"
    " clock_skew_s)",
    "leases": "SELECT, INSERT, UPDATE, DELETE",
    "platforms": "SELECT, INSERT",
    "sweeps": "SELECT, INSERT, UPDATE",
    "batches": "SELECT, INSERT, UPDATE, DELETE",
    "curves": "SELECT, INSERT, UPDATE (generation)",
    "curve_arrays": "SELECT, INSERT",
    "point_arrays": "SELECT, INSERT",
    "kernel_names": "SELECT, INSERT",
    "facts": "SELECT, INSERT, UPDATE",
    "platform_changes": "SELECT, INSERT, UPDATE",
    "replayed_facts": "SELECT, INSERT, UPDATE",
    "generation": "SELECT, UPDATE",
    "counts": "SELECT, INSERT, UPDATE",
    "latency_models": "SELECT, INSERT, UPDATE",
    "scores": "SELECT, INSERT",
}
"""Table → what a worker may do. It reads every other table that is for workers."""


def renew_rights(connection: Connection, installation: str) -> None:
    """Gives the hosts' roles, if there are any, the rights that a worker of this version needs."""
    group = f"lhp_workers_{installation}"
    wait_for_others(connection)
    if exists(connection, group):
        _grant(connection, group)


def create_role(connection: Connection, installation: str) -> tuple[str, str]:
    """The name and the password of a new role for a host, which may log in.

    Raises ConflictError if the service's own role may not create roles.
    """
    group = f"lhp_workers_{installation}"
    is_superuser = check_may_create(connection, "hosts")
    wait_for_others(connection)
    if not exists(connection, group):
        connection.exec_driver_sql(f"CREATE ROLE {group} NOLOGIN")
    _grant(connection, group)
    name = f"{ROLE_PREFIX}{secrets.token_hex(8)}"
    password = secrets.token_urlsafe(32)
    verifier = make_verifier(connection, name, password)
    connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN IN ROLE {group} PASSWORD '{verifier}'")
    if not is_superuser:
        # Whoever isn't a superuser may end only sessions of roles that it is a member of.
        connection.exec_driver_sql(f"GRANT {name} TO CURRENT_USER")
    return name, password


def check_may_create(connection: Connection, users: str) -> bool:
    """Whether the service's own role is a superuser. It may create roles for those users, anyhow.

    Raises ConflictError if it may not.
    """
    is_superuser, may_create = connection.execute(
        sa.text("SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user")
    ).one()
    if not (is_superuser or may_create):
        user = connection.engine.url.username
        raise ConflictError(
            f"the service's role {user!r} in PostgreSQL may not create roles for {users}",
            hint=f"let it: ALTER ROLE {user} CREATEROLE",
        )
    return bool(is_superuser)


def make_verifier(connection: Connection, role: str, password: str) -> str:
    """What PostgreSQL keeps of the password. Send only this: the server may log statements."""
    driver = connection.connection.driver_connection
    assert driver is not None
    verifier = driver.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    return str(verifier.decode())


def let_log_in(connection: Connection, role: str) -> None:
    """Lets the role log in. A role that is gone stays gone: its machine joins again."""
    _alter(connection, role, "LOGIN")


def shut_out(connection: Connection, role: str) -> None:
    """Keeps the role from logging in, from when this transaction is committed."""
    _alter(connection, role, "NOLOGIN")


def _alter(connection: Connection, role: str, option: str) -> None:
    # A database that was restored on another server names roles that aren't there.
    if exists(connection, role):
        connection.exec_driver_sql(f"ALTER ROLE {_check(role)} {option}")


def end_sessions(connection: Connection, role: str) -> None:
    """Ends the role's connections. Shut it out before: whoever may log in comes back at once."""
    connection.execute(
        sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :role"),
        {"role": _check(role)},
    )


def wait_for_others(connection: Connection) -> None:
    """Returns when no other transaction makes roles: PostgreSQL refuses two grants at once."""
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_NUMBER)))


def drop_role(connection: Connection, role: str) -> None:
    """Ends the role's connections, and drops it with all that it owns. Shut it out before.

    A role that owns something in another database stays, and can't log in.
    """
    end_sessions(connection, role)
    wait_for_others(connection)
    if not exists(connection, role):
        return
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"DROP OWNED BY {role}")
            connection.exec_driver_sql(f"DROP ROLE {role}")
    except (sa.exc.InternalError, sa.exc.ProgrammingError) as error:
        reason = " ".join(str(error.orig).split())
        logger.warning("the role %s can't log in, but stays in PostgreSQL: %s", role, reason)


def _grant(connection: Connection, group: str) -> None:
    """Gives the group the rights that a worker of this version needs. Safe to repeat."""
    for table in metadata.sorted_tables:
        if table.info.get("for_workers", True):
            _grant_on(connection, group, table.name, RIGHTS.get(table.name, "SELECT"))
    _grant_on(connection, group, "alembic_version", "SELECT")
    close_public_schema(connection)
    has_jobs = sa.text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
    if connection.scalar(has_jobs, {"name": JOBS_SCHEMA}) is not None:
        for right in (
            f"USAGE ON SCHEMA {JOBS_SCHEMA}",
            f"SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {JOBS_SCHEMA}",
            f"USAGE ON ALL SEQUENCES IN SCHEMA {JOBS_SCHEMA}",
            f"EXECUTE ON ALL FUNCTIONS IN SCHEMA {JOBS_SCHEMA}",
        ):
            connection.exec_driver_sql(f"GRANT {right} TO {group}")


def close_public_schema(connection: Connection) -> None:
    """Takes the right to make tables in `public` from everybody: PostgreSQL 14 still gives it.

    Only the schema's owner can. It keeps the right itself.
    """
    is_open = sa.text(
        "SELECT 1 FROM pg_namespace WHERE nspname = 'public' AND pg_has_role(nspowner, 'USAGE')"
        " AND has_schema_privilege('public', oid, 'CREATE')"
    )
    if connection.scalar(is_open) is not None:
        connection.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")


def _grant_on(connection: Connection, group: str, table: str, rights: str) -> None:
    connection.exec_driver_sql(f"GRANT {rights} ON {table} TO {group}")


def exists(connection: Connection, role: str) -> bool:
    """Whether the server has a role of that name."""
    found = sa.text("SELECT 1 FROM pg_roles WHERE rolname = :role")
    return connection.scalar(found, {"role": role}) is not None


def _check(role: str) -> str:
    """The role, if it has the form of those made here: statements about roles take no values."""
    if not re.fullmatch(f"{ROLE_PREFIX}[0-9a-z]+", role):
        raise ValueError(f"{role!r} is no role of a host")
    return role
