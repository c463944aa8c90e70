"""What monitoring wants to know of all hosts at once, by a few statements that read few rows.

However many sweeps, batches and curves there are: what has happened is counted as it happens, and
what is now is found by indexes. Every function runs in the transaction of the `connection` that it
is given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from profiler_service.storage import rows
from profiler_service.storage.records import FleetStatus, Host, HostStatus
from profiler_service.storage.statements import database_now
from profiler_service.storage.tables import counts, curves, grids, hosts, sweeps, unfinished
from profiler_service.workload import Dims

Subject = Literal["sweeps", "discarded"]
"""What is counted: sweeps that ended, by mode and state; and discarded samples."""


def count(
    connection: Connection,
    subject: Subject,
    number: int = 1,
    *,
    host: str,
    mode: str = "",
    state: str = "",
) -> None:
    """Adds `number` to a host's count."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    insert = dialect.insert(counts).values(
        host=host, subject=subject, mode=mode, state=state, value=number
    )
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=[counts.c.host, counts.c.subject, counts.c.mode, counts.c.state],
            set_={"value": counts.c.value + insert.excluded.value},
        )
    )


def read_status(
    connection: Connection,
    *,
    kinds: Collection[str],
    max_hosts: int,
    canaries: Collection[tuple[str, Dims]],
) -> FleetStatus:
    """The hosts that aren't retired, at most `max_hosts`, with what monitoring wants to know.

    If there are more, those that were heard of last. `kinds` are the workload kinds to look for,
    `canaries` keys of workloads with a point each.
    """
    found = [
        rows.host_from_row(row)
        for row in connection.execute(
            sa.select(hosts, database_now(connection).label("now"))
            .where(hosts.c.status != HostStatus.RETIRED)
            .order_by(hosts.c.last_seen_at.desc(), hosts.c.name)
            .limit(max_hosts)
        )
    ]
    names = [host.name for host in found]
    open_sweeps = connection.execute(
        sa.select(sweeps.c.host, sa.func.count().label("number"))
        .where(unfinished)
        .group_by(sweeps.c.host)
    )
    counted = connection.execute(sa.select(counts).where(counts.c.host.in_(names))).all()
    return FleetStatus(
        hosts=found,
        num_open={row.host: row.number for row in open_sweeps},
        num_ended={
            (row.host, row.mode, row.state): row.value for row in counted if row.subject == "sweeps"
        },
        num_discarded={row.host: row.value for row in counted if row.subject == "discarded"},
        redundancy=_read_redundancy(connection, names, kinds),
        canaries=_find_canaries(connection, names, canaries),
    )


def find_race_age(
    connection: Connection, host: Host, workload_key: str, dims: Sequence[int]
) -> float | None:
    """Seconds since the newest race from that point on the host as it is now; None without one.

    By the database's clock.
    """
    row = connection.execute(
        _newest_race(workload_key, dims)
        .add_columns(curves.c.measured_at, database_now(connection).label("now"))
        .where(curves.c.platform_key == host.platform_key)
        .where(curves.c.protocol_key == host.protocol_key)
        .where(curves.c.host == host.name)
    ).one_or_none()
    return None if row is None else (row.now - row.measured_at).total_seconds()


def _newest_race(workload_key: str, dims: Sequence[int]) -> sa.Select[Any]:
    """The id of the newest curve of a race from that point; say on which host and how measured."""
    return (
        sa.select(curves.c.id)
        .where(curves.c.workload_key == workload_key)
        .where(curves.c.raced_from == rows.dims_to_text(dims))
        .order_by(curves.c.generation.desc())
        .limit(1)
    )


def _find_canaries(
    connection: Connection, names: Collection[str], canaries: Collection[tuple[str, Dims]]
) -> Mapping[tuple[str, Dims], str]:
    found: dict[tuple[str, Dims], str] = {}
    for workload_key, dims in canaries:
        newest = (
            _newest_race(workload_key, dims)
            .where(curves.c.platform_key == hosts.c.platform_key)
            .where(curves.c.protocol_key == hosts.c.protocol_key)
            .where(curves.c.host == hosts.c.name)
        )
        read = connection.execute(
            sa.select(
                hosts.c.name, newest.correlate(hosts).scalar_subquery().label("curve_id")
            ).where(hosts.c.name.in_(names))
        )
        found |= {(row.name, dims): row.curve_id for row in read if row.curve_id is not None}
    return found


def _read_redundancy(
    connection: Connection, names: Collection[str], kinds: Collection[str]
) -> Mapping[tuple[str, str], float]:
    """Redundancy of each host's newest grid of each kind: one step in an index for each pair."""
    newest_ids: list[str] = []
    for kind in kinds:
        newest: sa.Select[Any] = (
            sa.select(curves.c.id)
            .where(curves.c.host == hosts.c.name)
            .where(curves.c.kind == kind)
            .where(grids)
            .order_by(curves.c.id.desc())
            .limit(1)
        )
        found = connection.scalars(
            sa.select(newest.correlate(hosts).scalar_subquery()).where(hosts.c.name.in_(names))
        )
        newest_ids += [each for each in found if each is not None]
    c = curves.c
    read = connection.execute(
        sa.select(c.host, c.kind, c.num_lhps, c.num_measured).where(c.id.in_(newest_ids))
    )
    return {
        (row.host, row.kind): 1 - row.num_lhps / row.num_measured
        for row in read
        if row.num_measured
    }
