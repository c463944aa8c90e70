"""Sweeps in the database: what was asked for, and the state of each.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.errors import (
    ConflictError,
    HostNotAdmittedError,
    PlatformMismatchError,
    TooManyRequestsError,
    UnknownSweepError,
)
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.plan.turns import Demand, OpenSweep
from profiler_service.storage import rows
from profiler_service.storage.hosts import get_host
from profiler_service.storage.leases import check_lease
from profiler_service.storage.monitoring import count
from profiler_service.storage.records import Page, Sweep, WorkerIdentity
from profiler_service.storage.statements import fetch_page, insert_or_ignore, read_now
from profiler_service.storage.tables import batches, curves, hosts, sweeps, unfinished
from profiler_service.workload import Workload

_SWEEPS = sa.select(sweeps, curves.c.id.label("curve_id")).outerjoin_from(
    sweeps, curves, curves.c.sweep_id == sweeps.c.id
)

NEW_SWEEP = "lhp_new_sweep"
"""The channel on which PostgreSQL tells the workers which host has a new sweep."""


def create_sweep(
    connection: Connection,
    spec: SweepSpec,
    *,
    host: str,
    demand: Demand | None,
    max_open: int | None,
    max_open_of_client: int | None,
) -> tuple[Sweep, bool]:
    """A queued sweep, or the unfinished one that it equals, and whether it is new.

    If it isn't new and a question waits for it from now on, it is stored so.

    Raises UnknownHostError; HostNotAdmittedError; TooManyRequestsError if it would be one more than
    `max_open` for the host, or than `max_open_of_client` for its client.
    """
    equal = (
        _SWEEPS.where(sweeps.c.host == host).where(sweeps.c.spec_key == spec.key).where(unfinished)
    )
    status = get_host(connection, host).status
    while True:
        # The unique index on unfinished sweeps decides which of two requests is first.
        values = rows.sweep_to_values(spec, host=host, demand=demand, now=read_now(connection))
        new = insert_or_ignore(connection, sweeps, values)
        row = connection.execute(equal).one_or_none()
        if row is not None:
            if new:  # raising takes the new one back
                if not status.takes_sweeps:
                    raise HostNotAdmittedError(
                        f"host {host!r} is {status}: it takes no new measurements",
                        hint="ask for another host; an operator lets it measure with"
                        " `lhp hosts approve`",
                        see="/hosts",
                    )
                if max_open is not None:
                    _refuse_more(connection, host, max_open)
                if max_open_of_client is not None and demand is not None and demand.client:
                    _refuse_more_of(connection, host, demand.client, max_open_of_client)
                _announce(connection, host)
            elif demand is not None and demand.is_awaited:
                connection.execute(
                    sa.update(sweeps).where(sweeps.c.id == row.id).values(is_awaited=True)
                )
            return rows.sweep_from_row(row), new
        # On PostgreSQL the other one may have ended between the two statements.


def _announce(connection: Connection, host: str) -> None:
    """Wakes the host's worker, on PostgreSQL, once the transaction is committed."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_notify(NEW_SWEEP, host)))


def has_open(connection: Connection, host: str) -> bool:
    """Whether a sweep of the host hasn't ended."""
    is_open = sweeps.c.state.in_([SweepState.QUEUED, SweepState.RUNNING])
    found = sa.exists().where(sweeps.c.host == host).where(is_open)
    return bool(connection.scalar(sa.select(found)))


def get_sweep(connection: Connection, sweep_id: str) -> Sweep:
    """The sweep with that id. Raises UnknownSweepError."""
    row = connection.execute(_SWEEPS.where(sweeps.c.id == sweep_id)).one_or_none()
    if row is None:
        raise _unknown_sweep(sweep_id)
    return rows.sweep_from_row(row)


def find_busy_hosts(connection: Connection) -> set[str]:
    """Names of the hosts that run a sweep."""
    running = sa.select(sweeps.c.host).where(sweeps.c.state == SweepState.RUNNING)
    return set(connection.scalars(running.distinct()))


def find_ended(connection: Connection, sweep_ids: Collection[str]) -> list[str]:
    """Those of the sweeps that have ended."""
    ended = [state for state in SweepState if state.is_final]
    return list(
        connection.scalars(
            sa.select(sweeps.c.id)
            .where(sweeps.c.id.in_(sweep_ids))
            .where(sweeps.c.state.in_(ended))
        )
    )


def find_sweeps(connection: Connection, sweep_ids: Collection[str]) -> list[Sweep]:
    """The sweeps with these ids; unknown ids are left out."""
    found = connection.execute(_SWEEPS.where(sweeps.c.id.in_(sweep_ids)))
    return [rows.sweep_from_row(row) for row in found]


def list_open(connection: Connection, host: str) -> list[OpenSweep]:
    """What the turns of the host's sweeps depend on that haven't ended."""
    c = sweeps.c
    query: sa.Select[Any] = (
        sa.select(c.id, c.mode, c.expected_s, c.is_awaited, c.progress, c.cancel_requested)
        .add_columns(c.request_id, c.traceparent)
        .where(c.state.in_([SweepState.QUEUED, SweepState.RUNNING]))
        .where(c.host == host)
    )
    return [rows.open_sweep_from_row(row) for row in connection.execute(query)]


def find_open_of(
    connection: Connection, host_names: Collection[str]
) -> dict[str, list[tuple[str, OpenSweep]]]:
    """The open sweeps of each of the hosts that has any, with their `SweepSpec.key`."""
    query = sa.select(sweeps).where(unfinished).where(sweeps.c.host.in_(host_names))
    found: dict[str, list[tuple[str, OpenSweep]]] = {}
    for row in connection.execute(query):
        found.setdefault(row.host, []).append((row.spec_key, rows.open_sweep_from_row(row)))
    return found


def find_unfinished_of_kinds(
    connection: Connection, kinds: Sequence[str]
) -> list[tuple[Workload, str, str]]:
    """The workload, platform's key and protocol's key of each unfinished sweep of such a kind."""
    found = connection.execute(
        sa.select(sweeps, hosts.c.platform_key, hosts.c.protocol_key)
        .join_from(sweeps, hosts, hosts.c.name == sweeps.c.host)
        .where(sweeps.c.kind.in_(kinds))
        .where(unfinished)
    )
    return [(rows.workload_from_row(row), row.platform_key, row.protocol_key) for row in found]


def lock_sweep(
    connection: Connection, sweep_id: str, *, worker: WorkerIdentity | None
) -> SweepState:
    """The sweep's state. Nobody else can change it until this transaction ends.

    Raises UnknownSweepError; HostTakenError unless `worker` measures for its host.
    """
    locked = _lock(connection, sweep_id)
    check_lease(connection, locked.host, worker)
    return SweepState(locked.state)


def list_sweeps(
    connection: Connection,
    *,
    host: str | None,
    state: SweepState | None,
    mode: str | None,
    oldest_first: bool,
    cursor: str | None,
    limit: int,
) -> Page[Sweep]:
    """Sweeps, newest or oldest first."""
    query = _SWEEPS
    for column, wanted in (
        (sweeps.c.host, host),
        (sweeps.c.state, state),
        (sweeps.c.mode, mode),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    return fetch_page(
        connection,
        query,
        sweeps.c.id,
        rows.sweep_from_row,
        oldest_first=oldest_first,
        cursor=cursor,
        limit=limit,
    )


def start_sweep(
    connection: Connection,
    sweep_id: str,
    *,
    measured_as: str | None,
    worker: WorkerIdentity | None,
) -> Sweep:
    """The sweep, changed from queued to running; in any other state it stays as it is.

    A sweep that another machine has begun begins anew. Raises UnknownSweepError;
    PlatformMismatchError if its stored batches were measured differently;
    HostTakenError.
    """
    state = lock_sweep(connection, sweep_id, worker=worker)
    if state == SweepState.QUEUED:
        connection.execute(
            sa.update(sweeps)
            .where(sweeps.c.id == sweep_id)
            .values(state=SweepState.RUNNING, started_at=read_now(connection))
        )
    if not state.is_final:
        if worker is not None and worker.machine:
            _set_machine(connection, sweep_id, worker.machine)
        if measured_as is not None:
            _set_measured_as(connection, sweep_id, measured_as)
    return get_sweep(connection, sweep_id)


def request_cancel(connection: Connection, sweep_id: str) -> Sweep:
    """The sweep, marked to be cancelled; a queued one is cancelled at once.

    Raises UnknownSweepError; ConflictError if it has already ended.
    """
    state = SweepState(_lock(connection, sweep_id).state)
    if state.is_final:
        raise ConflictError(
            f"sweep {sweep_id} has already ended: {state}",
            hint="there is nothing left to cancel",
        )
    connection.execute(
        sa.update(sweeps).where(sweeps.c.id == sweep_id).values(cancel_requested=True)
    )
    if state == SweepState.QUEUED:
        end_sweep(connection, sweep_id, SweepState.CANCELLED)
    return get_sweep(connection, sweep_id)


def fail_sweep(
    connection: Connection, sweep_id: str, error: str, *, worker: WorkerIdentity | None
) -> None:
    """Ends the sweep as failed; one that has ended stays as it is.

    Raises UnknownSweepError, HostTakenError.
    """
    if not lock_sweep(connection, sweep_id, worker=worker).is_final:
        end_sweep(connection, sweep_id, SweepState.FAILED, error=error)


def pause_sweep(
    connection: Connection, sweep_id: str, reason: str, *, worker: WorkerIdentity | None
) -> None:
    """Stores why the running sweep is paused.

    Raises UnknownSweepError, HostTakenError.
    """
    if lock_sweep(connection, sweep_id, worker=worker) == SweepState.RUNNING:
        connection.execute(sa.update(sweeps).where(sweeps.c.id == sweep_id).values(error=reason))


def end_sweep(connection: Connection, sweep_id: str, state: SweepState, *, error: str = "") -> None:
    """Ends the sweep, whatever its state, and counts it. The caller has locked it."""
    ended = connection.execute(
        sa.update(sweeps)
        .where(sweeps.c.id == sweep_id)
        .values(state=state, finished_at=read_now(connection), error=error)
        .returning(sweeps.c.host, sweeps.c.mode)
    ).one()
    count(connection, "sweeps", host=ended.host, mode=ended.mode, state=state)


def _lock(connection: Connection, sweep_id: str) -> sa.Row[str, str]:
    """The sweep's host and state. Nobody else can change it until this transaction ends."""
    row = connection.execute(
        sa.select(sweeps.c.host, sweeps.c.state).where(sweeps.c.id == sweep_id).with_for_update()
    ).one_or_none()
    if row is None:
        raise _unknown_sweep(sweep_id)
    return row


def _set_machine(connection: Connection, sweep_id: str, machine: str) -> None:
    """Stores which machine measures, and deletes what another one has measured of the sweep.

    Samples of two machines can't be mixed, even if their platforms are equal: one may be slower.
    """
    this_sweep = sweeps.c.id == sweep_id
    moved = connection.execute(
        sa.update(sweeps)
        .where(this_sweep)
        .where(sweeps.c.machine != machine)
        .values(measured_as=None, progress=None)
    )
    if moved.rowcount:
        connection.execute(sa.delete(batches).where(batches.c.sweep_id == sweep_id))
    connection.execute(sa.update(sweeps).where(this_sweep).values(machine=machine))


def _set_measured_as(connection: Connection, sweep_id: str, measured_as: str) -> None:
    otherwise = (
        sa.select(sweeps.c.id)
        .join_from(sweeps, batches)
        .where(sweeps.c.id == sweep_id)
        .where(sweeps.c.measured_as != measured_as)
    )
    if connection.execute(otherwise.limit(1)).first() is not None:
        raise PlatformMismatchError(
            "the host's platform or its way of timing has changed since the sweep began",
            hint="ask for a new sweep: samples of the two can't be mixed",
        )
    connection.execute(
        sa.update(sweeps).where(sweeps.c.id == sweep_id).values(measured_as=measured_as)
    )


def _refuse_more(connection: Connection, host: str, max_open: int) -> None:
    num_open = connection.scalar(
        sa.select(sa.func.count()).where(sweeps.c.host == host).where(unfinished)
    )
    if num_open is not None and num_open > max_open:
        raise TooManyRequestsError(
            f"host {host!r} has {max_open:,} sweeps to measure already",
            hint="ask again when some of them have ended, or cancel those that nobody needs",
            see="/sweeps",
        )


def _refuse_more_of(connection: Connection, host: str, client: str, max_open: int) -> None:
    num_open = connection.scalar(
        sa.select(sa.func.count())
        .where(sweeps.c.host == host)
        .where(sweeps.c.client == client)
        .where(unfinished)
    )
    if num_open is not None and num_open > max_open:
        raise TooManyRequestsError(
            f"{max_open:,} sweeps that you asked for wait on host {host!r} already",
            hint="ask again when some of them have ended, or cancel those that you don't need",
            see="/sweeps",
        )


def _unknown_sweep(sweep_id: str) -> UnknownSweepError:
    return UnknownSweepError(
        f"there is no sweep {sweep_id!r}", hint="ids are listed with the sweeps", see="/sweeps"
    )
