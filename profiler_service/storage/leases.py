"""What the database holds of leases: the one worker that measures for each host.

A worker takes the lease of its host's name, and renews it. Another one gets it when it has run
out by the database's clock, or was given back. What a worker changes, it changes only while it
holds the lease: see docs/decisions/0010-one-measurer.md.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

import datetime as dt
from typing import cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.errors import HostTakenError
from profiler_service.storage.records import WorkerIdentity
from profiler_service.storage.statements import database_now, insert_or_ignore, read_now
from profiler_service.storage.tables import leases

LEASE_S = 15.0
"""How long a lease lasts that isn't renewed. The same for all workers, so it is no setting."""


def take_lease(connection: Connection, host: str, worker: WorkerIdentity) -> None:
    """Returns when the worker holds the host's lease. Raises HostTakenError."""
    values = {
        "worker": worker.id,
        "description": worker.description,
        "device_lock": worker.device_lock,
    }
    while True:
        renewed = {**values, "renewed_at": read_now(connection)}
        if insert_or_ignore(connection, leases, {"host": host, **renewed}):
            return
        held = connection.execute(
            sa.select(leases).where(leases.c.host == host).with_for_update()
        ).one_or_none()
        if held is not None:
            break
        # On PostgreSQL it may have been given back between the two statements.
    now = read_now(connection)
    # Of two times of one clock, the later one can only be the earlier one if that was set back.
    has_run_out = abs((now - held.renewed_at).total_seconds()) > LEASE_S
    # Two processes never hold the same lock: who held it before has ended.
    has_ended = held.device_lock == worker.device_lock
    if not (has_run_out or has_ended or held.worker == worker.id):
        raise HostTakenError(
            f"host {host!r} has a running worker already ({held.description}); this one"
            f" is {worker.description}",
            hint="if this machine is a copy of that one, or has its name by chance, give it another"
            " name with LHP_HOST; otherwise stop that worker, or wait:"
            f" {LEASE_S:g} s after it was last heard of, its place is free",
        )
    connection.execute(
        sa.update(leases).where(leases.c.host == host).values(**values, renewed_at=now)
    )


def renew_lease(connection: Connection, host: str, worker: WorkerIdentity) -> dt.datetime:
    """The database's time, from which on the worker's lease lasts anew.

    Raises HostTakenError if it is lost.
    """
    renewed_at = connection.scalar(
        sa.update(leases)
        .where(leases.c.host == host)
        .where(leases.c.worker == worker.id)
        .values(renewed_at=database_now(connection))
        .returning(leases.c.renewed_at)
    )
    if renewed_at is None:
        check_lease(connection, host, worker)
        return read_now(connection)
    return cast("dt.datetime", renewed_at)


def release_lease(connection: Connection, host: str, worker: WorkerIdentity) -> None:
    """Gives the lease back, if the worker holds it."""
    connection.execute(
        sa.delete(leases).where(leases.c.host == host).where(leases.c.worker == worker.id)
    )


def is_held(connection: Connection, host: str) -> bool:
    """Whether a worker holds the host's lease, which hasn't run out."""
    renewed_at = connection.scalar(sa.select(leases.c.renewed_at).where(leases.c.host == host))
    if renewed_at is None:
        return False
    silent_s = (read_now(connection) - renewed_at).total_seconds()
    return bool(abs(silent_s) <= LEASE_S)


def check_lease(connection: Connection, host: str, worker: WorkerIdentity | None) -> None:
    """Returns if `worker` holds the host's lease, which nobody takes until this transaction ends.

    None stands for no worker: it may change what no worker holds. Raises
    HostTakenError.
    """
    held = connection.execute(
        sa.select(leases.c.worker, leases.c.description)
        .where(leases.c.host == host)
        .with_for_update(read=True)
    ).one_or_none()
    holder = None if held is None else held.worker
    if holder == (None if worker is None else worker.id):
        return
    if held is None:
        raise HostTakenError(
            f"this worker no longer holds the lease of host {host!r}", hint="start it again"
        )
    raise HostTakenError(
        f"host {host!r} is measured by another worker now ({held.description})",
        hint="if both machines shall measure, give one of them another name with LHP_HOST",
    )


def find_holders(connection: Connection) -> list[str]:
    """The hosts whose leases haven't run out."""
    found = connection.execute(sa.select(leases.c.host, leases.c.renewed_at))
    now = read_now(connection)
    return [row.host for row in found if abs((now - row.renewed_at).total_seconds()) <= LEASE_S]
