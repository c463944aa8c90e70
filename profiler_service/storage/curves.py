"""Curves in the database: headers in one table, arrays in another.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.errors import UnknownCurveError
from profiler_service.plan.modes import MODES, Mode
from profiler_service.plan.spec import SweepState
from profiler_service.storage import rows
from profiler_service.storage.facts import keep_facts
from profiler_service.storage.hosts import register_platform
from profiler_service.storage.records import CurveHeader, WorkerIdentity
from profiler_service.storage.statements import raise_generation, read_now
from profiler_service.storage.sweeps import end_sweep, get_sweep, lock_sweep
from profiler_service.storage.tables import curve_arrays, curves, platforms
from profiler_service.workload import Dims


def finish_sweep(
    connection: Connection,
    sweep_id: str,
    curve: LatencyCurve | None,
    arrays: rows.Values | None,
    *,
    state: SweepState,
    worker: WorkerIdentity | None,
) -> str | None:
    """The id of the sweep's curve (if any), stored with its `arrays`; the sweep ends as `state`.

    If the sweep has already ended, the id that was stored then. Raises UnknownSweepError,
    HostTakenError.
    """
    if lock_sweep(connection, sweep_id, worker=worker).is_final:
        return get_sweep(connection, sweep_id).curve_id
    end_sweep(connection, sweep_id, state)
    if curve is None or arrays is None:
        return None
    sweep = get_sweep(connection, sweep_id)
    register_platform(connection, curve.platform)
    values = rows.curve_to_values(curve, now=read_now(connection))
    curve_id = str(values["id"])
    values |= {
        "sweep_id": sweep_id,
        "host": sweep.host,
        "mode": sweep.spec.mode,
        "generation": 0,
        "raced_from": rows.dims_to_text(curve.grid.first)
        if MODES[sweep.spec.mode].is_race
        else None,
    }
    connection.execute(sa.insert(curves).values(values))
    connection.execute(sa.insert(curve_arrays).values(curve_id=curve_id, **arrays))
    keep_facts(connection, curve, curve_id=curve_id, sweep=sweep, worker=worker)
    # Last: from here to the commit, every other process that writes has to wait.
    connection.execute(
        sa.update(curves)
        .where(curves.c.id == curve_id)
        .values(generation=raise_generation(connection))
    )
    return curve_id


def get_curve_header(connection: Connection, curve_id: str) -> CurveHeader:
    """The curve's header. Raises UnknownCurveError."""
    row = connection.execute(sa.select(curves).where(curves.c.id == curve_id)).one_or_none()
    if row is None:
        raise _unknown_curve(curve_id)
    return rows.header_from_row(row)


def get_curve_row(connection: Connection, curve_id: str) -> rows.Row:
    """The row that `rows.curve_from_row` turns into a curve. Raises UnknownCurveError."""
    row = connection.execute(
        sa.select(curves, curve_arrays, platforms.c.fields)
        .join_from(curves, curve_arrays)
        .join(platforms)
        .where(curves.c.id == curve_id)
    ).one_or_none()
    if row is None:
        raise _unknown_curve(curve_id)
    return row


def find_curves(
    connection: Connection,
    workload_key: str,
    platform_key: str,
    protocol_key: str,
    *,
    after_generation: int,
    limit: int | None,
) -> list[CurveHeader]:
    """Headers of such curves stored after that generation, the last stored first."""
    found = connection.execute(
        sa.select(curves)
        .where(curves.c.workload_key == workload_key)
        .where(curves.c.platform_key == platform_key)
        .where(curves.c.protocol_key == protocol_key)
        .where(curves.c.generation > after_generation)
        .order_by(curves.c.generation.desc())
        .limit(limit)
    )
    return [rows.header_from_row(row) for row in found]


def find_answering(
    connection: Connection,
    workload_key: str,
    platform_key: str,
    protocol_key: str,
    raced_from: Sequence[int] | None,
    *,
    limit: int,
) -> list[CurveHeader]:
    """Headers of the races from that point, or with None of all other curves, newest first."""
    raced_from_text = None if raced_from is None else rows.dims_to_text(raced_from)
    found = connection.execute(
        sa.select(curves)
        .where(curves.c.workload_key == workload_key)
        .where(curves.c.platform_key == platform_key)
        .where(curves.c.protocol_key == protocol_key)
        .where(curves.c.raced_from == raced_from_text)
        .order_by(curves.c.generation.desc())
        .limit(limit)
    )
    return [rows.header_from_row(row) for row in found]


def find_raced_points(
    connection: Connection, workload_key: str, platform_key: str, protocol_key: str, *, limit: int
) -> list[Dims]:
    """The points that such races began at, each once; at most `limit`."""
    found = connection.execute(
        sa.select(curves.c.raced_from)
        .distinct()
        .where(curves.c.workload_key == workload_key)
        .where(curves.c.platform_key == platform_key)
        .where(curves.c.protocol_key == protocol_key)
        .where(curves.c.raced_from.is_not(None))
        .limit(limit)
    )
    return [rows.dims_from_text(row.raced_from) for row in found]


def find_new_curves(
    connection: Connection, after_generation: int, *, limit: int
) -> list[CurveHeader]:
    """Headers of curves kept after that generation, the first one kept first."""
    found = connection.execute(
        sa.select(curves)
        .where(curves.c.generation > after_generation)
        .order_by(curves.c.generation)
        .limit(limit)
    )
    return [rows.header_from_row(row) for row in found]


def find_curves_of_kinds(
    connection: Connection, kinds: Sequence[str], *, mode: Mode, after_generation: int, limit: int
) -> list[CurveHeader]:
    """Headers of all such curves stored after that generation, the last stored first."""
    found = connection.execute(
        sa.select(curves)
        .where(curves.c.kind.in_(kinds))
        .where(curves.c.mode == mode)
        .where(curves.c.generation > after_generation)
        .order_by(curves.c.generation.desc())
        .limit(limit)
    )
    return [rows.header_from_row(row) for row in found]


def find_newest_protocol(
    connection: Connection, workload_key: str, platform_key: str
) -> str | None:
    """Key of the protocol of the last such curve stored; None if there is none."""
    return connection.scalar(
        sa.select(curves.c.protocol_key)
        .where(curves.c.workload_key == workload_key)
        .where(curves.c.platform_key == platform_key)
        .order_by(curves.c.generation.desc())
        .limit(1)
    )


def _unknown_curve(curve_id: str) -> UnknownCurveError:
    return UnknownCurveError(
        f"there is no curve {curve_id!r}", hint="ids are listed with the curves", see="/curves"
    )
