"""Join keys, and the hosts that join with them.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.access.caller import Caller
from profiler_service.access.join_keys import JoinKey, JoinTerms, split_join_key, write_join_key
from profiler_service.access.tokens import create_secret, digest_of, is_secret
from profiler_service.errors import ConflictError, JoinKeyRefusedError, UnknownJoinKeyError
from profiler_service.storage import audit, roles, rows
from profiler_service.storage import hosts as stored_hosts
from profiler_service.storage.leases import is_held
from profiler_service.storage.records import Host, HostStatus, Joined, Joining, Page
from profiler_service.storage.statements import fetch_page, raise_generation, read_now
from profiler_service.storage.tables import hosts, installation, join_keys


def create_join_key(
    connection: Connection, terms: JoinTerms, *, lifetime_s: float
) -> tuple[JoinKey, str]:
    """The new key and its text, which can't be read again.

    Raises ConflictError on SQLite, which only one machine can use; InvalidRequestError for a name
    that a host can't have.
    """
    _refuse_sqlite(connection)
    if terms.name is not None:
        stored_hosts.check_name(terms.name, hint="choose another one")
    retire_silent(connection)
    now = read_now(connection)
    secret = create_secret()
    key = JoinKey(
        id=rows.create_id(now),
        terms=terms,
        created_at=now,
        expires_at=now + dt.timedelta(seconds=lifetime_s),
    )
    connection.execute(
        sa.insert(join_keys).values(
            id=key.id,
            digest=digest_of(secret),
            name=terms.name,
            labels=dict(terms.labels),
            is_approved=terms.is_approved,
            is_ephemeral=terms.is_ephemeral,
            is_reusable=terms.is_reusable,
            created_at=now,
            expires_at=key.expires_at,
        )
    )
    return key, write_join_key(_read_installation(connection), key.id, secret)


def revoke_join_key(connection: Connection, key_id: str, *, by: Caller) -> JoinKey:
    """The key, which lets nobody in any more. Raises UnknownJoinKeyError."""
    now = read_now(connection)
    revoked = connection.execute(
        sa.update(join_keys)
        .where(join_keys.c.id == key_id, join_keys.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    found = connection.execute(sa.select(join_keys).where(join_keys.c.id == key_id)).one_or_none()
    if found is None:
        raise UnknownJoinKeyError(
            f"there is no join key {key_id[:80]!r}", hint="`lhp hosts keys` lists them"
        )
    if revoked.rowcount:
        details = {} if found.name is None else {"name": found.name}
        audit.add_entry(connection, by, "host.key.revoke", key_id, details)
    return _key_of(found)


def list_join_keys(connection: Connection, *, cursor: str | None, limit: int) -> Page[JoinKey]:
    """Keys, newest first, also those that let nobody in any more."""
    return fetch_page(
        connection, sa.select(join_keys), join_keys.c.id, _key_of, cursor=cursor, limit=limit
    )


def join(connection: Connection, key: str, joining: Joining) -> Joined:
    """The machine as a host, with the credentials of its new role in PostgreSQL.

    A machine that joins again, with a key that it may use, gets new credentials; those from before
    are void. So it may ask again with its one-off key while its host is pending.

    Raises JoinKeyRefusedError; ConflictError if the name belongs to another machine, and on SQLite;
    InvalidRequestError for a name that a host can't have.
    """
    _refuse_sqlite(connection)
    retire_silent(connection)
    terms = _redeem(connection, key, joining)
    name = terms.name or joining.name
    stored_hosts.check_name(name, hint="choose another one with --name")
    before = stored_hosts.find_host(connection, name, lock=True)
    now = read_now(connection)
    is_new = before is None or before.status is HostStatus.RETIRED
    if before is not None and not is_new:
        _check_machine(connection, before, joining)
    status = HostStatus.APPROVED if terms.is_approved else HostStatus.PENDING
    if joining.findings:
        status = HostStatus.QUARANTINED
    if before is not None and not is_new:
        # What was decided meanwhile counts, and not what the key said.
        status = before.status
    values: dict[str, Any] = {
        "protocol_key": joining.protocol_key,
        "dtypes": list(joining.dtypes),
        "backends": {each: list(dtypes) for each, dtypes in joining.backends.items()},
        "status": status,
        "machine": joining.machine,
        "findings": dict(joining.findings),
        "is_ephemeral": terms.is_ephemeral,
    }
    if is_new:
        values |= {"platform_key": joining.platform.key, "offered_platform_key": None}
        values |= {"labels": dict(terms.labels), "registered_at": now, "last_seen_at": now}
    if before is not None and before.role is not None:
        roles.shut_out(connection, before.role)
    values["role"], password = roles.create_role(
        connection,
        _read_installation(connection),
        may_log_in=status not in (HostStatus.PENDING, HostStatus.QUARANTINED),
    )
    stored_hosts.register_platform(connection, joining.platform)
    if before is None:
        connection.execute(sa.insert(hosts).values(name=name, **values))
    else:
        connection.execute(sa.update(hosts).where(hosts.c.name == name).values(**values))
    connection.execute(
        sa.update(join_keys)
        .where(join_keys.c.id == _split(key)[1])
        .values(used_at=now, used_by=f"{name} {joining.machine}")
    )
    raise_generation(connection)
    host = stored_hosts.get_host(connection, name)
    return Joined(host=host, role=values["role"], password=password)


def retire_silent(connection: Connection) -> None:
    """Removes the ephemeral hosts that have been silent for too long, with their roles' rights."""
    for host in stored_hosts.list_hosts(connection):
        if host.is_ephemeral and host.status is HostStatus.RETIRED and host.role is not None:
            stored_hosts.remove_host(connection, host.name)


def _redeem(connection: Connection, text: str, joining: Joining) -> JoinTerms:
    """What the key allows, which nobody else can use until this transaction ends."""
    installation_id, key_id, secret = _split(text)
    ours = _read_installation(connection)
    if installation_id != ours:
        raise JoinKeyRefusedError(
            f"this key is of installation {installation_id}; this is installation {ours}",
            hint="join at the service that gave the key, or make a key here: `lhp hosts add`",
        )
    row = connection.execute(
        sa.select(join_keys).where(join_keys.c.id == key_id).with_for_update()
    ).one_or_none()
    if row is None or not is_secret(secret, row.digest):
        raise JoinKeyRefusedError("this is no join key of this installation", hint=_NEW_KEY)
    if row.revoked_at is not None:
        raise JoinKeyRefusedError(
            f"this key was revoked at {row.revoked_at:%F %T} UTC", hint=_NEW_KEY
        )
    if row.used_by is not None and not row.is_reusable:
        name, _, machine = row.used_by.rpartition(" ")
        if machine != joining.machine or not _is_pending(connection, name):
            raise JoinKeyRefusedError(
                f"this key was used at {row.used_at:%F %T} UTC, by host {name!r}", hint=_NEW_KEY
            )
    elif row.expires_at <= read_now(connection):
        raise JoinKeyRefusedError(f"this key expired at {row.expires_at:%F %T} UTC", hint=_NEW_KEY)
    return _key_of(row).terms


def _key_of(row: rows.Row) -> JoinKey:
    return JoinKey(
        id=row.id,
        terms=JoinTerms(
            name=row.name,
            labels=row.labels,
            is_approved=row.is_approved,
            is_ephemeral=row.is_ephemeral,
            is_reusable=row.is_reusable,
        ),
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
        used_by=None if row.used_by is None else row.used_by.rpartition(" ")[0],
        revoked_at=row.revoked_at,
    )


_NEW_KEY = "ask an operator for a new one: `lhp hosts add`"


def _is_pending(connection: Connection, name: str) -> bool:
    """Whether the host waits for an operator, or was let in and has never been heard of."""
    host = stored_hosts.find_host(connection, name)
    if host is None:
        return False
    is_unheard = host.last_seen_at == host.registered_at and host.status.takes_sweeps
    return is_unheard or host.status in (HostStatus.PENDING, HostStatus.QUARANTINED)


def _split(text: str) -> tuple[str, str, str]:
    found = split_join_key(text)
    if found is None:
        raise JoinKeyRefusedError(
            "this is no join key", hint="copy the whole command that `lhp hosts add` printed"
        )
    return found


def _check_machine(connection: Connection, host: Host, joining: Joining) -> None:
    """Returns if the host is this machine. Raises ConflictError."""
    is_same = host.machine == joining.machine and host.machine != ""
    is_free = host.role is None and not host.machine and not is_held(connection, host.name)
    if not (is_same or is_free):
        raise ConflictError(
            f"host {host.name!r} is machine {_short(host.machine)}; this one is machine"
            f" {_short(joining.machine)} ({joining.node})",
            hint="join with another name (--name), or remove that host first:"
            f" `lhp hosts rm {host.name}`",
            see="/hosts",
        )


def _short(machine: str) -> str:
    return machine[:12] or "without an identity"


def _read_installation(connection: Connection) -> str:
    return str(connection.execute(sa.select(installation.c.value)).scalar_one())


def _refuse_sqlite(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        raise ConflictError(
            "this installation keeps its data in a SQLite file, which only this machine can use",
            hint="for several machines, use PostgreSQL: LHP_DATABASE_URL=postgresql://…",
        )


def find_joined_name(connection: Connection) -> str | None:
    """The name of the host whose role this connection has; None if it is no host's role."""
    if connection.dialect.name == "sqlite":
        return None
    name: str | None = connection.scalar(
        sa.select(hosts.c.name).where(hosts.c.role == sa.text("current_user"))
    )
    return name
