"""Hosts and platforms in the database.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.errors import (
    ConflictError,
    HostRefusedError,
    HostTakenError,
    InvalidRequestError,
    UnknownHostError,
    UnknownPlatformError,
)
from profiler_service.host_name import check_host_name
from profiler_service.plan.spec import SweepState
from profiler_service.storage import rows
from profiler_service.storage.leases import check_lease, is_held, renew_lease
from profiler_service.storage.platform_changes import record_change
from profiler_service.storage.records import Host, HostStatus, WorkerIdentity
from profiler_service.storage.roles import let_log_in, shut_out
from profiler_service.storage.statements import (
    database_now,
    insert_or_ignore,
    raise_generation,
    read_now,
)
from profiler_service.storage.tables import hosts, leases, metadata, platforms, sweeps

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
    quarantine_changed: bool = False,
) -> Host:
    """The host `name`, now on `platform` and seen just now; registers both if new.

    A host that joined with a key keeps the platform that was approved: it is quarantined while it
    offers another one. With `quarantine_changed`, so does any other host. Raises
    InvalidRequestError for a name that a host can't have; HostTakenError, also for another machine
    than the one that joined; HostRefusedError.
    """
    check_name(name, hint="choose another one in LHP_HOST")
    check_lease(connection, name, worker)
    now = read_now(connection)
    values = {
        "platform_key": platform.key,
        "protocol_key": protocol.key,
        "dtypes": list(dtypes),
        "backends": None
        if backends is None
        else {name: list(having) for name, having in backends.items()},
        "last_seen_at": now,
        "clock_skew_s": _find_skew_s(now),
    }
    if worker is not None:
        values["machine"] = worker.machine
    register_platform(connection, platform)
    before = find_host(connection, name, lock=True)
    if before is None:
        new = {"name": name, **values, "registered_at": now}
        if insert_or_ignore(connection, hosts, new):
            raise_generation(connection)
            return get_host(connection, name)
        before = get_host(connection, name, lock=True)
    _check_machine(before, worker)
    if before.status is HostStatus.RETIRED:
        raise _refused(name, before.status)
    is_other = before.platform_key != platform.key
    if is_other:
        earlier = get_platform(connection, before.platform_key)
        logger.warning(
            "the platform of host %s has changed, so its earlier curves are stale: %s",
            name,
            "; ".join(earlier.describe_change(platform)),
        )
    if before.role is not None:
        # What was approved is the operators' to change.
        del values["machine"]
    if before.role is not None or quarantine_changed:
        del values["platform_key"]
        values["offered_platform_key"] = platform.key if is_other else None
    else:
        values["offered_platform_key"] = None
        if is_other:
            record_change(connection, name, before.platform_key, platform.key, protocol.key)
    connection.execute(sa.update(hosts).where(hosts.c.name == name).values(values))
    latest = get_host(connection, name)
    if replace(latest, last_seen_at=before.last_seen_at) != before:
        raise_generation(connection)
    return latest


def touch_host(
    connection: Connection, name: str, *, worker: WorkerIdentity | None
) -> tuple[HostStatus, float]:
    """Records a heartbeat. The host's status, and how far this clock is ahead, seconds.

    A worker's also renews its lease. Raises UnknownHostError, HostTakenError; HostRefusedError if
    the host's worker may not go on.
    """
    if worker is None:
        check_lease(connection, name, worker)
        now = read_now(connection)
    else:
        now = renew_lease(connection, name, worker)
    skew_s = _find_skew_s(now)
    touched = connection.execute(
        sa.update(hosts)
        .where(hosts.c.name == name)
        .values(last_seen_at=now, clock_skew_s=skew_s)
        .returning(hosts.c.status, hosts.c.offered_platform_key)
    ).one_or_none()
    if touched is None:
        raise _unknown_host(name)
    status = HostStatus(touched.status)
    if status is HostStatus.APPROVED and touched.offered_platform_key is not None:
        status = HostStatus.QUARANTINED
    if not status.may_run:
        raise _refused(name, status)
    return status, skew_s


def _find_skew_s(now: dt.datetime) -> float:
    """How far this machine's clock is ahead of the database's, which reads `now`, seconds."""
    return round((dt.datetime.now(dt.UTC) - now).total_seconds(), 1)


def _check_machine(host: Host, worker: WorkerIdentity | None) -> None:
    """Returns if the worker runs on the machine that joined as the host. Raises HostTakenError."""
    if host.role is None or worker is None or host.machine == worker.machine:
        return
    raise HostTakenError(
        f"host {host.name!r} is machine {host.machine[:12]}; this one is machine"
        f" {worker.machine[:12] or 'without an identity'} ({worker.description})",
        hint="a name belongs to the machine that joined with it: this disk may be a copy. Join this"
        " machine with a key of its own (`lhp hosts add`); if the machine was set up anew, remove"
        " the host and join again",
    )


def _refused(name: str, status: HostStatus) -> HostRefusedError:
    if status is HostStatus.QUARANTINED:
        return HostRefusedError(
            f"host {name!r} is quarantined: its machine isn't what was approved, or isn't fit",
            hint="`lhp hosts` says why; `lhp hosts approve` lets it measure as it is now, and `lhp"
            " hosts split` as another host, if its platform has changed",
        )
    return HostRefusedError(
        f"host {name!r} has been removed",
        hint="an operator lets it in again with `lhp hosts approve`, or with a new key from"
        " `lhp hosts add`",
    )


def set_labels(connection: Connection, name: str, labels: Mapping[str, str]) -> Host:
    """The host, which has these labels and no others from now on. Raises UnknownHostError."""
    return _change(connection, name, labels=dict(labels))


def set_status(connection: Connection, name: str, status: HostStatus) -> Host:
    """The host in that status.

    Approving a host whose platform has changed accepts the new platform. Raises UnknownHostError;
    ConflictError if it shall drain and was never let in.
    """
    host = get_host(connection, name, lock=True)
    changes: dict[str, Any] = {"status": status}
    if status is HostStatus.DRAINING and not host.status.is_admitted:
        raise ConflictError(
            f"host {name!r} is {host.status}, so it has no sweeps to end",
            hint=f"let it in with `lhp hosts approve {name}`, or remove it: `lhp hosts rm {name}`",
        )
    if status is HostStatus.APPROVED:
        changes["findings"] = {}  # whoever approves has seen them
        if host.role:
            let_log_in(connection, host.role)
    if status is HostStatus.APPROVED and (offered := host.offered_platform_key) is not None:
        changes |= {"platform_key": offered, "offered_platform_key": None}
        record_change(connection, name, host.platform_key, offered, host.protocol_key)
    return _change(connection, name, **changes)


def rename_host(connection: Connection, name: str, new_name: str) -> Host:
    """The host under its new name, with everything that it has measured.

    Raises UnknownHostError; InvalidRequestError for a name that a host can't have; ConflictError if
    another host has it, or while a worker measures or sweeps wait under the old name.
    """
    check_name(new_name, hint="choose another one")
    host = get_host(connection, name, lock=True)
    if new_name == name:
        return host
    if is_held(connection, name):
        raise ConflictError(
            f"host {name!r} has a running worker",
            hint="stop the worker, rename the host, and start the worker again",
        )
    is_open = sweeps.c.state.in_((SweepState.QUEUED, SweepState.RUNNING))
    if connection.scalar(sa.select(sa.exists().where(sweeps.c.host == name, is_open))):
        raise ConflictError(
            f"host {name!r} has sweeps that haven't ended",
            hint="drain it first and let them end, or cancel them",
        )
    _copy_host(connection, name, new_name)
    for table in metadata.sorted_tables:
        if "host" in table.c and table is not leases:
            moved = sa.update(table).where(table.c.host == name).values(host=new_name)
            connection.execute(moved)
    connection.execute(sa.delete(hosts).where(hosts.c.name == name))
    raise_generation(connection)
    return get_host(connection, new_name)


def split_host(connection: Connection, name: str, new_name: str) -> Host:
    """The new host that the host's machine is from now on, on the platform that it has changed to.

    The one before is retired with its platform and all that it measured, and its open sweeps fail.
    The machine keeps its credentials, with which its worker finds its new name.

    Raises UnknownHostError; InvalidRequestError for a name that a host can't have; ConflictError if
    another host has it, or if no other platform was offered.
    """
    check_name(new_name, hint="choose another one")
    host = get_host(connection, name, lock=True)
    if host.offered_platform_key is None:
        raise ConflictError(
            f"the platform of host {name!r} hasn't changed, so there is nothing to split",
            hint="`lhp hosts` says which host is quarantined, and why",
        )
    _copy_host(connection, name, new_name)
    fail_sweeps(connection, name)
    retired = {"status": HostStatus.RETIRED, "offered_platform_key": None, "role": ""}
    connection.execute(sa.update(hosts).where(hosts.c.name == name).values(retired))
    now = read_now(connection)
    # Approving accepts what was offered.
    set_status(connection, new_name, HostStatus.APPROVED)
    return _change(connection, new_name, registered_at=now, last_seen_at=now)


def _copy_host(connection: Connection, name: str, new_name: str) -> None:
    """Makes a second host with all that is known of the first. Raises ConflictError."""
    if connection.scalar(sa.select(sa.exists().where(hosts.c.name == new_name))):
        raise ConflictError(
            f"there is a host {new_name!r} already", hint="choose another name", see="/hosts"
        )
    columns = [each for each in hosts.c if each.name != "name"]
    copied = sa.select(sa.literal(new_name), *columns).where(hosts.c.name == name)
    connection.execute(
        sa.insert(hosts).from_select(["name", *(each.name for each in columns)], copied)
    )


def remove_host(connection: Connection, name: str) -> Host:
    """The host, which is retired: its open sweeps fail, and its role can't log in any more.

    What it measured stays. Raises UnknownHostError.
    """
    host = get_host(connection, name, lock=True)
    if host.role:
        shut_out(connection, host.role)
    fail_sweeps(connection, name)
    return _change(connection, name, status=HostStatus.RETIRED, offered_platform_key=None)


def fail_sweeps(connection: Connection, name: str) -> None:
    """Ends the open sweeps of a host that is removed."""
    connection.execute(
        sa.update(sweeps)
        .where(sweeps.c.host == name)
        .where(sweeps.c.state.in_((SweepState.QUEUED, SweepState.RUNNING)))
        .values(
            state=SweepState.FAILED,
            error=f"host {name!r} was removed",
            finished_at=read_now(connection),
        )
    )


def _change(connection: Connection, name: str, **values: Any) -> Host:
    changed = connection.execute(sa.update(hosts).where(hosts.c.name == name).values(**values))
    if changed.rowcount == 0:
        raise _unknown_host(name)
    raise_generation(connection)
    return get_host(connection, name)


def get_host(connection: Connection, name: str, *, lock: bool = False) -> Host:
    """The host. If `lock` is true, nobody else can change it until this transaction ends.

    Raises UnknownHostError.
    """
    host = find_host(connection, name, lock=lock)
    if host is None:
        raise _unknown_host(name)
    return host


def find_host(connection: Connection, name: str, *, lock: bool = False) -> Host | None:
    """The host as `get_host` gives it; None if there is none of that name."""
    query = _select_hosts(connection).where(hosts.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else rows.host_from_row(row)


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


def check_name(name: str, *, hint: str) -> None:
    """Returns if a host may be called so. Raises InvalidRequestError."""
    try:
        check_host_name(name)
    except ValueError as error:
        raise InvalidRequestError(str(error), hint=hint) from error


def _unknown_host(name: str) -> UnknownHostError:
    return UnknownHostError(
        f"there is no host {name!r}", hint="ask for one that has registered", see="/hosts"
    )
