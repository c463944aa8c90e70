"""Curves that leave and enter the database, with where they come from.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.plan.modes import MODES
from profiler_service.plan.spec import SweepState
from profiler_service.storage import rows
from profiler_service.storage.curve_file import ImportRefusedError
from profiler_service.storage.curve_record import CurveRecord
from profiler_service.storage.curves import get_curve_row
from profiler_service.storage.hosts import register_platform
from profiler_service.storage.records import HostStatus
from profiler_service.storage.statements import (
    insert_or_ignore,
    raise_generation,
    read_installation,
    read_now,
)
from profiler_service.storage.tables import curve_arrays, curves, hosts, sweeps

_MAX_AHEAD = dt.timedelta(days=1)
"""A curve that was measured later than so long from now is refused: it would never grow old."""


def read_record(connection: Connection, curve_id: str) -> CurveRecord:
    """The curve with where it comes from. Raises UnknownCurveError."""
    row = get_curve_row(connection, curve_id)
    none = sa.null().label("curve_id")
    sweep_row = connection.execute(sa.select(sweeps, none).where(sweeps.c.id == row.sweep_id)).one()
    origin = row.origin or {}
    return CurveRecord(
        curve_id=row.id,
        sweep_id=row.sweep_id,
        installation=origin.get("installation") or read_installation(connection),
        host=origin.get("host") or row.host,
        spec=rows.sweep_from_row(sweep_row).spec,
        created_at=sweep_row.created_at,
        curve=rows.curve_from_row(row),
    )


def check_import(connection: Connection, record: CurveRecord) -> bool:
    """Whether the curve is new here and may be imported. Changes nothing.

    Raises ImportRefusedError if it contradicts what is here.
    """
    if connection.scalar(sa.select(curves.c.id).where(curves.c.id == record.curve_id)) is not None:
        return False
    measured_at = record.curve.measured_at
    if measured_at > read_now(connection) + _MAX_AHEAD:
        raise ImportRefusedError(
            f"curve {record.curve_id} was measured at {measured_at}, in the future",
            hint="see the clock of this machine, or of the one that measured it",
        )
    if connection.scalar(sa.select(sweeps.c.id).where(sweeps.c.id == record.sweep_id)) is not None:
        raise ImportRefusedError(
            f"sweep {record.sweep_id} is here already, without curve {record.curve_id}",
            hint="two files claim the same sweep: import the one that you trust",
        )
    return True


def import_curve(connection: Connection, record: CurveRecord) -> bool:
    """Whether the curve is new here. Then it is kept, with where it comes from.

    Its host is a retired one of its own, unless the file says that this installation measured it.
    Raises ImportRefusedError.
    """
    if not check_import(connection, record):
        return False
    now = read_now(connection)
    curve, spec = record.curve, record.spec
    host, origin = _find_host(connection, record, now)
    register_platform(connection, curve.platform)
    insert_or_ignore(
        connection,
        hosts,
        {
            "name": host,
            "platform_key": curve.platform.key,
            "protocol_key": curve.protocol.key,
            "dtypes": [],
            "registered_at": now,
            "last_seen_at": curve.measured_at,
            "status": HostStatus.RETIRED,
        },
    )
    connection.execute(
        sa.insert(sweeps).values(
            rows.sweep_to_values(spec, host=host, demand=None, now=now)
            | {
                "id": record.sweep_id,
                "state": SweepState.DONE,
                "created_at": record.created_at,
                "finished_at": curve.measured_at,
                # It comes without raw samples.
                "pruned_to": 0,
                "pruned_at": now,
            }
        )
    )
    is_race = MODES[spec.mode].is_race
    values = rows.curve_to_values(curve, now=now) | {
        "id": record.curve_id,
        "sweep_id": record.sweep_id,
        "host": host,
        "mode": spec.mode,
        "raced_from": rows.dims_to_text(curve.grid.first) if is_race else None,
        "origin": origin,
        "generation": 0,
    }
    connection.execute(sa.insert(curves).values(values))
    arrays = rows.curve_arrays_to_values(curve)
    connection.execute(sa.insert(curve_arrays).values(curve_id=record.curve_id, **arrays))
    connection.execute(
        sa.update(curves)
        .where(curves.c.id == record.curve_id)
        .values(generation=raise_generation(connection))
    )
    return True


def _find_host(
    connection: Connection, record: CurveRecord, now: dt.datetime
) -> tuple[str, rows.Values]:
    """The name of the curve's host here, and its `origin`: what the file says, and when it came."""
    origin = {
        "installation": record.installation,
        "host": record.host,
        "imported_at": now.isoformat(),
    }
    if record.installation == read_installation(connection):
        return record.host, origin
    # A host of that name here is another machine. One host has one platform.
    of = f" ({record.installation}/{record.curve.platform.key})"
    return record.host[: 255 - len(of)] + of, origin
