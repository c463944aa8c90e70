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
from profiler_service.storage.records import (
    EPHEMERAL_SILENCE_S,
    Host,
    HostStatus,
    Joined,
    Joining,
    Page,
)
from profiler_service.storage.statements import (
    fetch_page,
    raise_generation,
    read_installation,
    read_now,
)
from profiler_service.storage.tables import hosts, join_keys


def create_join_key(
    connection: Connection, terms: JoinTerms, *, lifetime_s: float, by: Caller | None = None
) -> tuple[JoinKey, str]:
    """The new key and its text, which can't be read again.

    Raises InvalidRequestError for a name that a host can't have.
    """
    if terms.name is not None:
        stored_hosts.check_name(terms.name, hint="choose another one")
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
    if by is not None:
        details = {
            "approve": str(terms.is_approved),
            "ephemeral": str(terms.is_ephemeral),
            "reusable": str(terms.is_reusable),
            "expires_at": key.expires_at.isoformat(),
        }
        named = {} if terms.name is None else {"name": terms.name}
        audit.add_entry(connection, by, "host.key", key.id, named | details)
    return key, write_join_key(read_installation(connection), key.id, secret)


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


def read_text(text: str) -> tuple[str, str, str]:
    """The installation, the id and the secret in a key's text. Raises JoinKeyRefusedError."""
    found = split_join_key(text)
    if found is None:
        raise JoinKeyRefusedError(
            "this is no join key", hint="copy the whole command that `lhp hosts add` printed"
        )
    return found


def find_key(connection: Connection, text: str) -> JoinKey:
    """The key with that text, whether or not it still lets somebody in. Changes and locks nothing.

    Raises JoinKeyRefusedError if this installation has no such key.
    """
    installation_id, key_id, secret = read_text(text)
    ours = read_installation(connection)
    if installation_id != ours:
        raise JoinKeyRefusedError(
            f"this key is of installation {installation_id}; this is installation {ours}",
            hint="join at the service that gave the key, or make a key here: `lhp hosts add`",
        )
    row = connection.execute(sa.select(join_keys).where(join_keys.c.id == key_id)).one_or_none()
    if row is None or not is_secret(secret, row.digest):
        raise JoinKeyRefusedError("this is no join key of this installation", hint=_NEW_KEY)
    return _key_of(row)


def join(
    connection: Connection, key_id: str, joining: Joining, *, by: Caller | None = None
) -> Joined:
    """The machine as a host. If it may measure, with the credentials of its new role in PostgreSQL.

    A machine asks again with its one-off key until its host is let in. As long as it waits, that
    changes nothing. Credentials from before are void as soon as there are new ones. A host that an
    operator has removed is let in by an operator only, whatever the key says.

    Raises JoinKeyRefusedError; ConflictError if the name belongs to another machine, or a worker
    measures under it; InvalidRequestError for a name that a host can't have.
    """
    terms = _redeem(connection, key_id, joining)
    name = terms.name or joining.name
    stored_hosts.check_name(name, hint="choose another one with --name")
    before = stored_hosts.find_host(connection, name, lock=True)
    now = read_now(connection)
    is_new = before is None or before.status is HostStatus.RETIRED
    if before is None or is_new:
        status = _first_status(connection, name, terms, joining)
    else:
        _check_machine(connection, before, joining)
        # What was decided meanwhile counts, and not what the key said.
        status = before.status
        if not status.is_admitted:
            return Joined(host=before)
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
    void_role = "" if before is None else before.role or ""
    if void_role:
        roles.shut_out(connection, void_role)
    role = password = ""
    if status.is_admitted:
        role, password = roles.create_role(connection, read_installation(connection))
    stored_hosts.register_platform(connection, joining.platform)
    if before is None:
        connection.execute(sa.insert(hosts).values(name=name, role=role, **values))
    else:
        changed = sa.update(hosts).where(hosts.c.name == name).values(role=role, **values)
        connection.execute(changed)
    connection.execute(
        sa.update(join_keys)
        .where(join_keys.c.id == key_id)
        .values(used_at=now, used_by=f"{name} {joining.machine}")
    )
    raise_generation(connection)
    if by is not None:
        details = {"key": key_id, "machine": joining.machine, "status": status.value}
        audit.add_entry(connection, by, "host.join", name, details)
    host = stored_hosts.get_host(connection, name)
    return Joined(host=host, role=role, password=password, void_role=void_role)


def retire_silent(connection: Connection) -> list[str]:
    """The roles of the ephemeral hosts that have been silent for too long; these have none now.

    Nobody can log in as them any more, and the hosts' open sweeps fail.
    """
    since = read_now(connection) - dt.timedelta(seconds=EPHEMERAL_SILENCE_S)
    silent = connection.execute(
        sa.select(hosts.c.name, hosts.c.role)
        .where(hosts.c.is_ephemeral, hosts.c.last_seen_at < since, hosts.c.role != "")
        .where(hosts.c.status != HostStatus.RETIRED)
        # Another one that does the same takes care of those that it has locked.
        .with_for_update(skip_locked=True)
    ).all()
    for row in silent:
        roles.shut_out(connection, row.role)
        stored_hosts.fail_sweeps(connection, row.name)
        # Their status stays: no operator has removed them, so a key may let them in again.
        connection.execute(sa.update(hosts).where(hosts.c.name == row.name).values(role=""))
    if silent:
        raise_generation(connection)
    return [row.role for row in silent]


def _redeem(connection: Connection, key_id: str, joining: Joining) -> JoinTerms:
    """What the key allows, which nobody else can use until this transaction ends."""
    row = connection.execute(
        sa.select(join_keys).where(join_keys.c.id == key_id).with_for_update()
    ).one()
    if row.revoked_at is not None:
        raise JoinKeyRefusedError(
            f"this key was revoked at {row.revoked_at:%F %T} UTC", hint=_NEW_KEY
        )
    has_expired = row.expires_at <= read_now(connection)
    if row.used_by is not None and not row.is_reusable:
        name, machine = _split_user(row.used_by)
        is_same = (name, machine) == (row.name or joining.name, joining.machine)
        if not (is_same and _may_ask_again(connection, name, has_expired=has_expired)):
            raise JoinKeyRefusedError(
                f"this key was used at {row.used_at:%F %T} UTC, by host {name!r}", hint=_NEW_KEY
            )
    elif has_expired:
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
        used_by=None if row.used_by is None else _split_user(row.used_by)[0],
        revoked_at=row.revoked_at,
    )


_NEW_KEY = "ask an operator for a new one: `lhp hosts add`"


def _split_user(used_by: str) -> tuple[str, str]:
    """The host and the machine that used a key. A machine's identity has no space."""
    name, _, machine = used_by.rpartition(" ")
    return name, machine


def _may_ask_again(connection: Connection, name: str, *, has_expired: bool) -> bool:
    """Whether the host that used a key waits for credentials, or may have missed them.

    Once it was given any, only until the key expires.
    """
    host = stored_hosts.find_host(connection, name)
    if host is None or host.status is HostStatus.RETIRED:
        return False
    is_unheard = host.last_seen_at == host.registered_at
    return is_unheard and not (has_expired and host.role)


def _first_status(
    connection: Connection, name: str, terms: JoinTerms, joining: Joining
) -> HostStatus:
    """The status of a host that is new, or comes back."""
    if joining.findings:
        return HostStatus.QUARANTINED
    stored = connection.scalar(sa.select(hosts.c.status).where(hosts.c.name == name))
    may_measure = terms.is_approved and stored != HostStatus.RETIRED
    return HostStatus.APPROVED if may_measure else HostStatus.PENDING


def _check_machine(connection: Connection, host: Host, joining: Joining) -> None:
    """Returns if the host is this machine, and nobody measures as it. Raises ConflictError."""
    is_same = host.machine == joining.machine and host.machine != ""
    is_free = host.role is None and not host.machine
    if not (is_same or is_free):
        raise ConflictError(
            f"host {host.name!r} is machine {_short(host.machine)}; this one is machine"
            f" {_short(joining.machine)} ({joining.node})",
            hint="join with another name (--name), or remove that host first:"
            f" `lhp hosts rm {host.name}`",
            see="/hosts",
        )
    if is_held(connection, host.name):
        raise ConflictError(
            f"host {host.name!r}, machine {_short(host.machine)}, has a running worker; this one is"
            f" {joining.node}",
            hint="if this disk is a copy of that machine's, give this machine an identity of its"
            " own (machine-id) and another name; otherwise stop that worker first",
            see="/hosts",
        )


def _short(machine: str) -> str:
    return machine[:12] or "without an identity"


def find_joined_name(connection: Connection) -> str | None:
    """The name of the host whose role this connection has; None if it is no host's role."""
    if connection.dialect.name == "sqlite":
        return None
    name: str | None = connection.scalar(
        sa.select(hosts.c.name).where(hosts.c.role == sa.text("current_user"))
    )
    return name
