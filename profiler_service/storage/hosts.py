"""Hosts and platforms in the database.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.errors import InvalidRequestError, UnknownHostError, UnknownPlatformError
from profiler_service.host_name import check_host_name
from profiler_service.storage import rows
from profiler_service.storage.leases import check_lease
from profiler_service.storage.records import Host, WorkerIdentity
from profiler_service.storage.statements import (
    database_now,
    insert_or_ignore,
    raise_generation,
    read_now,
)
from profiler_service.storage.tables import hosts, platforms

logger = logging.getLogger(__name__)


def register_host(
    connection: Connection,
    name: str,
    platform: Platform,
    *,
    protocol: TimingProtocol,
    dtypes: Sequence[str],
    backends: Mapping[str, Sequence[str]] | None,
    worker: WorkerIdentity | None,
) -> Host:
    """The host `name`, now on `platform` and seen just now; registers both if new.

    Raises InvalidRequestError for a name that a host can't have; HostTakenError.
    """
    try:
        check_host_name(name)
    except ValueError as error:
        raise InvalidRequestError(str(error), hint="choose another one in LHP_HOST") from error
    check_lease(connection, name, worker)
    now = read_now(connection)
    facts = {
        "platform_key": platform.key,
        "protocol_key": protocol.key,
        "dtypes": list(dtypes),
        "backends": None
        if backends is None
        else {name: list(having) for name, having in backends.items()},
    }
    register_platform(connection, platform)
    new = insert_or_ignore(
        connection,
        hosts,
        {"name": name, **facts, "registered_at": now, "last_seen_at": now},
    )
    host = get_host(connection, name, lock=True)
    if host.platform_key != platform.key:
        earlier = get_platform(connection, host.platform_key)
        logger.warning(
            "the platform of host %s has changed, so its earlier curves are stale: %s",
            name,
            "; ".join(earlier.describe_change(platform)),
        )
    connection.execute(
        sa.update(hosts).where(hosts.c.name == name).values(**facts, last_seen_at=now)
    )
    latest = get_host(connection, name)
    if new or replace(latest, last_seen_at=host.last_seen_at) != host:
        raise_generation(connection)
    return latest


def touch_host(connection: Connection, name: str, *, worker: WorkerIdentity | None) -> None:
    """Records a heartbeat. Raises UnknownHostError, HostTakenError."""
    check_lease(connection, name, worker)
    touched = connection.execute(
        sa.update(hosts).where(hosts.c.name == name).values(last_seen_at=read_now(connection))
    )
    if touched.rowcount == 0:
        raise _unknown_host(name)


def get_host(connection: Connection, name: str, *, lock: bool = False) -> Host:
    """The host. If `lock` is true, nobody else can change it until this transaction ends.

    Raises UnknownHostError.
    """
    query = _select_hosts(connection).where(hosts.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise _unknown_host(name)
    return rows.host_from_row(row)


def list_hosts(connection: Connection) -> list[Host]:
    """Every host, by name."""
    found = connection.execute(_select_hosts(connection).order_by(hosts.c.name))
    return [rows.host_from_row(row) for row in found]


def register_platform(connection: Connection, platform: Platform) -> None:
    """Stores the platform unless it is stored already."""
    insert_or_ignore(
        connection,
        platforms,
        {
            "key": platform.key,
            "fields": platform.to_json(),
            "registered_at": read_now(connection),
        },
    )


def get_platform(connection: Connection, key: str) -> Platform:
    """The platform with `key`. Raises UnknownPlatformError."""
    fields = connection.scalar(sa.select(platforms.c.fields).where(platforms.c.key == key))
    if fields is None:
        raise UnknownPlatformError(
            f"there is no platform {key!r}",
            hint="ask for one that a host has registered",
            see="/platforms",
        )
    return Platform.from_json(fields)


def list_platforms(connection: Connection) -> list[Platform]:
    """Every platform ever registered, oldest first."""
    found = connection.scalars(
        sa.select(platforms.c.fields).order_by(platforms.c.registered_at, platforms.c.key)
    )
    return [Platform.from_json(fields) for fields in found]


def _select_hosts(connection: Connection) -> sa.Select[Any]:
    return sa.select(hosts, database_now(connection).label("now"))


def _unknown_host(name: str) -> UnknownHostError:
    return UnknownHostError(
        f"there is no host {name!r}", hint="ask for one that has registered", see="/hosts"
    )
