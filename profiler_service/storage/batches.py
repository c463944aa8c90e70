"""Batches in the database: the raw samples of each sweep, in the order in which they were taken.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.analysis.samples import Samples
from profiler_service.errors import ConflictError
from profiler_service.plan.spec import Progress
from profiler_service.storage import rows
from profiler_service.storage.monitoring import count
from profiler_service.storage.records import WorkerIdentity
from profiler_service.storage.statements import insert_or_ignore, read_now
from profiler_service.storage.sweeps import get_sweep, lock_sweep
from profiler_service.storage.tables import batches, sweeps


def commit_batch(
    connection: Connection,
    sweep_id: str,
    index: int,
    values: rows.Values,
    progress: Progress,
    *,
    worker: WorkerIdentity | None,
) -> bool:
    """Stores the `values` of batch number `index`, and the progress; False if it is stored already.

    Raises UnknownSweepError; ConflictError for a new batch of a sweep that has ended;
    HostTakenError.
    """
    state = lock_sweep(connection, sweep_id, worker=worker)
    new = insert_or_ignore(
        connection,
        batches,
        {"sweep_id": sweep_id, "number": index, "measured_at": read_now(connection), **values},
    )
    if not new:
        return False
    if state.is_final:  # the exception rolls the batch back
        raise ConflictError(
            f"sweep {sweep_id} has already ended: {state}",
            hint="its curve is made: ask for a new sweep to measure more",
        )
    host = connection.scalar(
        sa.update(sweeps)
        .where(sweeps.c.id == sweep_id)
        .values(progress=rows.progress_to_json(progress), error="")
        .returning(sweeps.c.host)
    )
    if num_discarded := values["num_discarded"]:
        assert host is not None  # the sweep is locked
        count(connection, "discarded", num_discarded, host=host)
    return True


def load_batches(connection: Connection, sweep_id: str) -> list[Samples]:
    """Every stored batch of the sweep, ordered by index.

    Raises UnknownSweepError; ConflictError if its raw samples were pruned.
    """
    get_sweep(connection, sweep_id)
    pruned_to = connection.scalar(sa.select(sweeps.c.pruned_to).where(sweeps.c.id == sweep_id))
    if pruned_to is not None:
        raise ConflictError(
            f"the raw samples of sweep {sweep_id} were pruned",
            hint="its curve has what they said; measure again for new ones",
            see="/curves",
        )
    return read_batches(connection, sweep_id)


def read_batches(connection: Connection, sweep_id: str) -> list[Samples]:
    """What is stored of the sweep's batches: of a pruned one, the first sample of each point."""
    found = connection.execute(
        sa.select(batches).where(batches.c.sweep_id == sweep_id).order_by(batches.c.number)
    )
    return [rows.samples_from_row(row) for row in found]


def last_measured_at(connection: Connection, sweep_id: str) -> dt.datetime:
    """When the newest batch of the sweep was stored, in UTC. Without batches, when it was created.

    Raises UnknownSweepError.
    """
    newest = sa.select(sa.func.max(batches.c.measured_at))
    last = connection.scalar(newest.where(batches.c.sweep_id == sweep_id))
    return last or get_sweep(connection, sweep_id).created_at
