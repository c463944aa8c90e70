"""Sweeps of several hosts in the database: one parent, and an ordinary sweep for each host.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.errors import UnknownSweepError
from profiler_service.plan.spec import SweepSpec
from profiler_service.plan.turns import Demand
from profiler_service.storage import rows, sweeps
from profiler_service.storage.records import FleetSweep, Page
from profiler_service.storage.statements import fetch_page, read_now
from profiler_service.storage.tables import fleet_sweep_hosts, fleet_sweeps, unfinished
from profiler_service.storage.tables import sweeps as all_sweeps


def create_fleet_sweep(
    connection: Connection,
    label: str,
    parts: Sequence[tuple[str, SweepSpec, Demand]],
    *,
    max_open: int | None,
    max_open_of_client: int | None,
) -> tuple[FleetSweep, bool]:
    """The sweep of these hosts, and whether it is new. All of it is there, or nothing.

    If an equal one of the same label still has an unfinished sweep, it is that one. `parts` are the
    host, the spec and the demand of each. Raises as `sweeps.create_sweep`.
    """
    spec_key = parts[0][1].key
    of_equal = (
        sa.select(fleet_sweeps.c.id)
        .join(fleet_sweep_hosts, fleet_sweep_hosts.c.fleet_sweep_id == fleet_sweeps.c.id)
        .join(all_sweeps, all_sweeps.c.id == fleet_sweep_hosts.c.sweep_id)
        .where(fleet_sweeps.c.label == label, fleet_sweeps.c.spec_key == spec_key)
        .where(unfinished)
        .order_by(fleet_sweeps.c.id.desc())
        .limit(1)
    )
    equal = connection.scalar(of_equal)
    if equal is not None:
        return get_fleet_sweep(connection, equal), False
    now = read_now(connection)
    new_id = rows.create_id(now)
    connection.execute(
        sa.insert(fleet_sweeps).values(id=new_id, label=label, spec_key=spec_key, created_at=now)
    )
    for host, spec, demand in parts:
        sweep, _ = sweeps.create_sweep(
            connection,
            spec,
            host=host,
            demand=demand,
            max_open=max_open,
            max_open_of_client=max_open_of_client,
        )
        connection.execute(
            sa.insert(fleet_sweep_hosts).values(fleet_sweep_id=new_id, sweep_id=sweep.id)
        )
    return get_fleet_sweep(connection, new_id), True


def get_fleet_sweep(connection: Connection, fleet_sweep_id: str) -> FleetSweep:
    """The sweep with that id, and those of its hosts. Raises UnknownSweepError."""
    query = sa.select(fleet_sweeps).where(fleet_sweeps.c.id == fleet_sweep_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UnknownSweepError(
            f"there is no fleet sweep {fleet_sweep_id!r}",
            hint="ids are listed with the fleet sweeps",
            see="/fleet-sweeps",
        )
    return _read(connection, row)


def list_fleet_sweeps(
    connection: Connection, *, cursor: str | None, limit: int
) -> Page[FleetSweep]:
    """Sweeps of several hosts, newest first."""
    return fetch_page(
        connection,
        sa.select(fleet_sweeps),
        fleet_sweeps.c.id,
        lambda row: _read(connection, row),
        cursor=cursor,
        limit=limit,
    )


def request_cancel(connection: Connection, fleet_sweep_id: str) -> FleetSweep:
    """The sweep; those of its hosts that haven't ended are marked to be cancelled.

    Raises UnknownSweepError.
    """
    for each in get_fleet_sweep(connection, fleet_sweep_id).sweeps:
        if not each.state.is_final:
            sweeps.request_cancel(connection, each.id)
    return get_fleet_sweep(connection, fleet_sweep_id)


def _read(connection: Connection, row: rows.Row) -> FleetSweep:
    ids = connection.scalars(
        sa.select(fleet_sweep_hosts.c.sweep_id).where(fleet_sweep_hosts.c.fleet_sweep_id == row.id)
    ).all()
    found = sweeps.find_sweeps(connection, ids)
    return FleetSweep(
        id=row.id,
        label=row.label,
        created_at=row.created_at,
        sweeps=tuple(sorted(found, key=lambda each: (each.host, each.id))),
    )
