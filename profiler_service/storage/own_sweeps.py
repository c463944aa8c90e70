"""Sweeps of users' own code in the database: opened, fed and ended by the user's command.

They belong to a host of their own, `NAME (own code)`, which no worker measures for: neither the
worker of the machine nor the job engine sees them. That host is a retired one, as those of imported
curves are. Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.errors import ConflictError, TooManyRequestsError
from profiler_service.host_name import MAX_LENGTH
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.plan.turns import Demand
from profiler_service.storage import rows
from profiler_service.storage.hosts import check_name, get_platform, register_platform
from profiler_service.storage.records import HostStatus, Sweep
from profiler_service.storage.statements import insert_or_ignore, raise_generation, read_now
from profiler_service.storage.sweeps import get_sweep
from profiler_service.storage.tables import batches, hosts, sweeps
from profiler_service.workload import OWN_CODE

OWN: Final = " (own code)"
SILENCE_S: Final = 1800.0
"""A sweep of which no batch has come for so long is over: its command has ended."""
CANCELLED_SILENCE_S: Final = 90.0
"""The same for one that somebody has cancelled. A command that runs sees that after its batch."""
MAX_OPEN: Final = 64
"""Most sweeps of own code that may be open on one machine."""


def own_host(machine: str) -> str:
    """The host of the curves of users' own code that was measured on the machine."""
    return f"{machine[: MAX_LENGTH - len(OWN)]}{OWN}"


def open_own_sweep(
    connection: Connection,
    spec: SweepSpec,
    *,
    machine: str,
    platform: Platform,
    protocol: TimingProtocol,
    demand: Demand,
) -> Sweep:
    """A new sweep, which runs from now on, although an equal one may run already.

    Raises InvalidRequestError for a name that no host can have; ConflictError if another host has
    it; TooManyRequestsError.
    """
    host = own_host(machine)
    check_name(host, hint="choose another one in LHP_HOST")
    now = read_now(connection)
    register_platform(connection, platform)
    measured_on = {
        "platform_key": platform.key,
        "protocol_key": protocol.key,
        "last_seen_at": now,
    }
    new = {"name": host, "dtypes": [], "registered_at": now, "status": HostStatus.RETIRED}
    if insert_or_ignore(connection, hosts, new | measured_on):
        raise_generation(connection)
    else:
        before = connection.execute(
            sa.select(hosts).where(hosts.c.name == host).with_for_update()
        ).one()
        if before.status != HostStatus.RETIRED or before.dtypes:
            raise ConflictError(
                f"there is a host {host!r} already, which is measured by a worker",
                hint="give this machine another name in LHP_HOST",
            )
        connection.execute(sa.update(hosts).where(hosts.c.name == host).values(measured_on))
        if (before.platform_key, before.protocol_key) != (platform.key, protocol.key):
            raise_generation(connection)  # what was measured before is stale from now on
    values = rows.sweep_to_values(spec, host=host, demand=demand, now=now)
    connection.execute(
        sa.insert(sweeps).values(
            values
            | {
                # Two commands may measure the same: their samples are never one sweep's.
                "spec_key": values["id"],
                "state": SweepState.RUNNING,
                "started_at": now,
                "measured_as": f"{platform.key} {protocol.key}",
            }
        )
    )
    if (num_open := _count_open(connection, host)) > MAX_OPEN:  # raising takes it back
        raise TooManyRequestsError(
            f"{num_open - 1} sweeps of own code are open on {machine!r} already",
            hint="end them, or cancel those of commands that have ended",
            see="/sweeps",
        )
    return get_sweep(connection, str(values["id"]))


def get_conditions(connection: Connection, sweep_id: str) -> tuple[Platform, TimingProtocol]:
    """The platform and the protocol with which the sweep of own code was opened."""
    measured_as = connection.scalar(sa.select(sweeps.c.measured_as).where(sweeps.c.id == sweep_id))
    assert measured_as is not None
    platform_key, _, protocol_key = measured_as.partition(" ")
    timer, cache, version = protocol_key.rsplit("-", 2)
    protocol = TimingProtocol(timer=timer, cache=cache, version=int(version.removeprefix("v")))
    return get_platform(connection, platform_key), protocol


def count_batches(connection: Connection, sweep_id: str) -> int:
    """How many batches of the sweep are stored."""
    stored = sa.select(sa.func.count()).where(batches.c.sweep_id == sweep_id)
    return int(connection.scalar(stored) or 0)


def find_silent(connection: Connection) -> list[str]:
    """The open sweeps of own code whose command has been silent for too long."""
    last_at = sa.func.coalesce(sa.func.max(batches.c.measured_at), sweeps.c.created_at)
    now = read_now(connection)
    is_cancelled = sweeps.c.cancel_requested
    silent = (
        sa.select(sweeps.c.id)
        .outerjoin_from(sweeps, batches, batches.c.sweep_id == sweeps.c.id)
        .where(sweeps.c.kind == OWN_CODE)
        .where(sweeps.c.state == SweepState.RUNNING)
        .group_by(sweeps.c.id, sweeps.c.cancel_requested, sweeps.c.created_at)
        .having(
            sa.or_(
                last_at < now - dt.timedelta(seconds=SILENCE_S),
                sa.and_(is_cancelled, last_at < now - dt.timedelta(seconds=CANCELLED_SILENCE_S)),
            )
        )
    )
    return list(connection.scalars(silent))


def _count_open(connection: Connection, host: str) -> int:
    is_open = sweeps.c.state == SweepState.RUNNING
    counted = sa.select(sa.func.count()).where(sweeps.c.host == host).where(is_open)
    return int(connection.scalar(counted) or 0)
