"""How much room the tables take, and the pruning of raw samples.

Of a pruned sweep, the first sample of each point stays, with everything that isn't a raw sample:
its batches' numbers and failures, its curve, its facts.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from profiler_service.plan.modes import MODES
from profiler_service.plan.spec import SweepState
from profiler_service.storage import blobs
from profiler_service.storage.records import Prunable, Pruned, TableSize
from profiler_service.storage.statements import read_now
from profiler_service.storage.tables import batches, metadata, sweeps

BATCHES_PER_STEP = 50
"""Most batches that one transaction prunes: others who write wait for less than a second."""

_ENDED = [state for state in SweepState if state.is_final]
_PRUNED_MODES = [name for name, mode in MODES.items() if mode.answers_for != "kernels"]
"""Answers about kernels are read from their samples, so those stay."""


def measure_sizes(connection: Connection) -> list[TableSize]:
    """The rows and bytes of each table of the schema, indexes included, the largest first."""
    sizes = _read_sizes(connection)
    found = [
        TableSize(
            name=table.name,
            num_rows=int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0),
            size_bytes=sizes.get(table.name),
        )
        for table in metadata.sorted_tables
    ]
    return sorted(found, key=lambda table: (-(table.size_bytes or 0), table.name))


def _read_sizes(connection: Connection) -> dict[str, int]:
    """Table → bytes on disk. Empty if this SQLite can't tell."""
    if connection.dialect.name != "sqlite":
        statement = "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r'"
    else:
        statement = (
            "SELECT m.tbl_name, sum(s.pgsize) FROM dbstat('main', 1) s"
            " JOIN sqlite_master m ON m.name = s.name GROUP BY m.tbl_name"
        )
    try:
        rows = connection.exec_driver_sql(statement).all()
    except exc.OperationalError:
        return {}
    return {str(name): int(size) for name, size in rows}


def find_prunable(connection: Connection, *, older_than_s: float) -> Prunable:
    """What pruning the sweeps that ended so long ago would take away, at most."""
    size = sa.func.length(batches.c.arrays)
    row = connection.execute(
        sa.select(
            sa.func.count(sa.distinct(sweeps.c.id)).label("num_sweeps"),
            sa.func.coalesce(sa.func.sum(size), 0).label("size_bytes"),
        )
        .join_from(sweeps, batches)
        .where(*_is_prunable(connection, older_than_s))
    ).one()
    return Prunable(num_sweeps=int(row.num_sweeps), size_bytes=int(row.size_bytes))


def prune_some(connection: Connection, *, older_than_s: float) -> Pruned | None:
    """What was pruned of the oldest such sweep: `BATCHES_PER_STEP` batches. None: nothing is left.

    What a process that ended in between has left is taken up by the next step.
    """
    sweep = connection.execute(
        sa.select(sweeps.c.id, sweeps.c.pruned_to)
        .where(*_is_prunable(connection, older_than_s))
        .order_by(sweeps.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # several workers may prune at once
    ).one_or_none()
    if sweep is None:
        return None
    begin = sweep.pruned_to or 0
    stored = sa.select(batches.c.number, batches.c.arrays).where(batches.c.sweep_id == sweep.id)
    seen = np.zeros(0, dtype=np.int32)
    for row in connection.execute(stored.where(batches.c.number < begin)):
        seen = np.union1d(seen, blobs.unpack(row.arrays)["point"])
    chosen = stored.where(batches.c.number >= begin).order_by(batches.c.number)
    found = connection.execute(chosen.limit(BATCHES_PER_STEP)).all()
    freed_bytes = 0
    for row in found:
        columns = blobs.unpack(row.arrays)
        point = columns["point"]
        first = np.zeros(len(point), dtype=np.bool_)
        first[np.unique(point, return_index=True)[1]] = True
        first &= ~np.isin(point, seen)
        seen = np.union1d(seen, point)
        arrays = blobs.pack({name: column[first] for name, column in columns.items()})
        freed_bytes += len(row.arrays) - len(arrays)
        connection.execute(
            sa.update(batches)
            .where(batches.c.sweep_id == sweep.id, batches.c.number == row.number)
            .values(arrays=arrays)
        )
    is_whole = len(found) < BATCHES_PER_STEP
    connection.execute(
        sa.update(sweeps)
        .where(sweeps.c.id == sweep.id)
        .values(
            pruned_to=found[-1].number + 1 if found else begin,
            pruned_at=read_now(connection) if is_whole else None,
        )
    )
    return Pruned(num_sweeps=int(is_whole), num_batches=len(found), freed_bytes=freed_bytes)


def _is_prunable(connection: Connection, older_than_s: float) -> list[sa.ColumnElement[Any]]:
    ended_before = read_now(connection) - dt.timedelta(seconds=older_than_s)
    return [
        sweeps.c.state.in_(_ENDED),
        sweeps.c.mode.in_(_PRUNED_MODES),
        sweeps.c.finished_at < ended_before,
        sweeps.c.pruned_at.is_(None),
    ]
