"""Facts in the database: confirmed pairs, each with what it repeats and what overrules it.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.storage import rows
from profiler_service.storage.records import Fact, FactFilter, Page, Sweep, WorkerIdentity
from profiler_service.storage.statements import fetch_page, read_now
from profiler_service.storage.tables import facts, hosts


def keep_facts(
    connection: Connection,
    curve: LatencyCurve,
    *,
    curve_id: str,
    sweep: Sweep,
    worker: WorkerIdentity | None,
) -> None:
    """Keeps the curve's confirmed pairs, and marks earlier facts that they overrule."""
    for pair in curve.confirmed:
        if pair.low <= 0 or pair.high == math.inf:
            continue  # too few pairs for an interval say nothing
        values = rows.fact_to_values(pair, now=read_now(connection))
        same_pair = sa.and_(
            facts.c.workload_key == curve.workload.key,
            facts.c.platform_key == curve.platform.key,
            facts.c.protocol_key == curve.protocol.key,
            facts.c.dims == values["dims"],
            facts.c.rival == values["rival"],
        )
        found = connection.execute(sa.select(facts).where(same_pair).order_by(facts.c.id))
        earlier = [rows.fact_from_row(row) for row in found]
        values |= {
            "curve_id": curve_id,
            "sweep_id": sweep.id,
            "host": sweep.host,
            "workload_key": curve.workload.key,
            **rows.workload_to_values(curve.workload),
            "platform_key": curve.platform.key,
            "protocol_key": curve.protocol.key,
            "tau": sweep.spec.tau if pair.tau is None else pair.tau,
            "worker": "" if worker is None else worker.id,
            "measured_at": curve.measured_at,
            "repeats": earlier[-1].id if earlier else None,
        }
        connection.execute(sa.insert(facts).values(values))
        overruled = [
            fact.id for fact in earlier if fact.overruled_by is None and pair.overrules(fact.pair)
        ]
        connection.execute(
            sa.update(facts).where(facts.c.id.in_(overruled)).values(overruled_by=values["id"])
        )


def find_facts(
    connection: Connection,
    workload_key: str,
    platform_key: str,
    protocol_key: str,
    dims: Sequence[int],
    *,
    limit: int,
) -> list[Fact]:
    """The newest such facts whose queried point is `dims`, the oldest of them first."""
    found = connection.execute(
        sa.select(facts)
        .where(facts.c.workload_key == workload_key)
        .where(facts.c.platform_key == platform_key)
        .where(facts.c.protocol_key == protocol_key)
        .where(facts.c.dims == rows.dims_to_text(dims))
        .order_by(facts.c.id.desc())
        .limit(limit)
    )
    return [rows.fact_from_row(row) for row in found][::-1]


def find_repeats(
    connection: Connection, kind: str, platform_key: str, protocol_key: str, *, limit: int
) -> list[tuple[Fact, Fact]]:
    """The newest such facts that repeat another worker's, each after the fact that it repeats."""
    before = facts.alias("before")
    newest = connection.execute(
        sa.select(facts)
        .join(before, before.c.id == facts.c.repeats)
        .where(facts.c.kind == kind)
        .where(facts.c.platform_key == platform_key)
        .where(facts.c.protocol_key == protocol_key)
        .where(facts.c.repeats.is_not(None))
        .where(facts.c.worker != before.c.worker, before.c.worker != "")
        .order_by(facts.c.id.desc())
        .limit(limit)
    )
    later = [rows.fact_from_row(row) for row in newest]
    found = connection.execute(
        sa.select(facts).where(facts.c.id.in_({fact.repeats for fact in later}))
    )
    earlier = {row.id: rows.fact_from_row(row) for row in found}
    return [(earlier[fact.repeats], fact) for fact in later if fact.repeats is not None]


def find_stalest(
    connection: Connection,
    host: str,
    platform_key: str,
    protocol_key: str,
    *,
    but_not: Collection[str],
) -> Fact | None:
    """The oldest fact by that host that a pair is faster, and that none about the pair follows."""
    later = facts.alias("later")
    followed = (
        sa.select(later.c.id)
        .where(later.c.workload_key == facts.c.workload_key)
        .where(later.c.platform_key == facts.c.platform_key)
        .where(later.c.protocol_key == facts.c.protocol_key)
        .where(later.c.dims == facts.c.dims)
        .where(later.c.id > facts.c.id)
        .where(later.c.rival == facts.c.rival)
    )
    row = connection.execute(
        sa.select(facts)
        .where(facts.c.host == host)
        .where(facts.c.platform_key == platform_key)
        .where(facts.c.protocol_key == protocol_key)
        .where(facts.c.verdict == "faster")
        .where(facts.c.id.not_in(but_not))
        .where(~followed.exists())
        .order_by(facts.c.id)
        .limit(1)
    ).one_or_none()
    return None if row is None else rows.fact_from_row(row)


def find_overruled(connection: Connection, by: Collection[str]) -> dict[str, list[str]]:
    """Id of each of the facts `by` that overrules earlier ones → the ids of those."""
    overruled: dict[str, list[str]] = {}
    for row in connection.execute(
        sa.select(facts.c.id, facts.c.overruled_by)
        .where(facts.c.overruled_by.in_(by))
        .order_by(facts.c.id)
    ):
        overruled.setdefault(row.overruled_by, []).append(row.id)
    return overruled


def list_facts(
    connection: Connection, wanted: FactFilter, *, cursor: str | None, limit: int
) -> Page[Fact]:
    """Facts, newest first."""
    query = sa.select(facts)
    for column, value in (
        (facts.c.kind, wanted.kind),
        (facts.c.workload_key, wanted.workload_key),
        (facts.c.platform_key, wanted.platform_key),
        (facts.c.host, wanted.host),
        (facts.c.dims, None if wanted.dims is None else rows.dims_to_text(wanted.dims)),
        (facts.c.verdict, wanted.verdict),
    ):
        if value is not None:
            query = query.where(column == value)
    if (since := wanted.since) is not None:
        # What is kept later than that has a larger id: the search ends there.
        query = query.where(facts.c.measured_at >= since, facts.c.id >= rows.least_id(since))
    return fetch_page(connection, query, facts.c.id, rows.fact_from_row, cursor=cursor, limit=limit)


def find_newest_noise(connection: Connection, host_names: Collection[str]) -> list[Fact]:
    """The facts with a noise of the newest race on each of these hosts that has any."""
    newest = (
        sa.select(facts.c.curve_id)
        .where(facts.c.host == hosts.c.name)
        .where(facts.c.noise.is_not(None))
        .order_by(facts.c.id.desc())
        .limit(1)
    )
    races = connection.scalars(
        sa.select(newest.correlate(hosts).scalar_subquery()).where(hosts.c.name.in_(host_names))
    ).all()
    found = connection.execute(
        sa.select(facts)
        .where(facts.c.curve_id.in_([each for each in races if each is not None]))
        .where(facts.c.noise.is_not(None))
        .order_by(facts.c.id)
    )
    return [rows.fact_from_row(row) for row in found]
