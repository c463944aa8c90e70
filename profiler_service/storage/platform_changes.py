"""Changes of hosts' platforms in the database, and the facts that are measured again.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.analysis.platform_change import Agreement, Outcome, Pattern
from profiler_service.storage import rows
from profiler_service.storage.leases import check_lease
from profiler_service.storage.platform_change_records import (
    ChangeState,
    PlatformChange,
    ReplayedFact,
)
from profiler_service.storage.records import Fact, WorkerIdentity
from profiler_service.storage.statements import read_now
from profiler_service.storage.tables import (
    curves,
    facts,
    platform_changes,
    platforms,
    replayed_facts,
)


def record_change(
    connection: Connection, host: str, old_key: str, new_key: str, protocol_key: str
) -> None:
    """Keeps that the host's platform has changed. The caller has locked the host.

    A replay that is under way is interrupted; the next one compares with the platform that it
    compared with, about which more is known. The same change once more is the same record, whose
    replay goes on where it was interrupted, or begins if there was nothing to compare by.
    """
    now = read_now(connection)
    c = platform_changes.c
    interrupted = connection.execute(
        sa.update(platform_changes)
        .where(c.host == host, c.state == ChangeState.OPEN)
        .values(state=ChangeState.INTERRUPTED)
        .returning(c.old_platform_key)
    ).one_or_none()
    if interrupted is not None and interrupted.old_platform_key != new_key:
        old_key = interrupted.old_platform_key
    known = connection.execute(
        sa.select(c.id, c.state, c.num_contrasts)
        .where(c.host == host, c.old_platform_key == old_key, c.new_platform_key == new_key)
        .where(c.protocol_key == protocol_key)
    ).one_or_none()
    if known is not None:
        renewed: dict[str, Any] = {"changed_at": now}
        if known.state == ChangeState.INTERRUPTED or known.num_contrasts == 0:
            renewed |= {"state": ChangeState.OPEN, "finished_at": None}
        if known.num_contrasts == 0:
            renewed["num_contrasts"] = None
        connection.execute(sa.update(platform_changes).where(c.id == known.id).values(renewed))
        return
    measured_there = sa.exists().where(
        curves.c.host == host,
        curves.c.platform_key == new_key,
        curves.c.protocol_key == protocol_key,
    )
    is_back = bool(connection.scalar(sa.select(measured_there)))
    connection.execute(
        sa.insert(platform_changes).values(
            id=rows.create_id(now),
            host=host,
            old_platform_key=old_key,
            new_platform_key=new_key,
            protocol_key=protocol_key,
            changed_at=now,
            state=ChangeState.RETURNED if is_back else ChangeState.OPEN,
            finished_at=now if is_back else None,
            patterns=[],
        )
    )


def find_newest(connection: Connection, host_names: Collection[str]) -> dict[str, PlatformChange]:
    """The last change of each of these hosts that had one, by the host's name."""
    c = platform_changes.c
    found = connection.execute(
        sa.select(platform_changes).where(c.host.in_(host_names)).order_by(c.changed_at, c.id)
    )
    return {row.host: _change_from_row(row) for row in found}


def find_open(connection: Connection, host: str) -> PlatformChange | None:
    """The change of that host whose replay hasn't ended."""
    c = platform_changes.c
    row = connection.execute(
        sa.select(platform_changes).where(c.host == host, c.state == ChangeState.OPEN)
    ).one_or_none()
    return None if row is None else _change_from_row(row)


def find_predecessor(connection: Connection, platform_key: str) -> PlatformChange | None:
    """The change by which a host came to that platform from one that had been registered before.

    Of several, the last one whose replay has ended, or else the last one. As both ends are in the
    order in which they were registered, following predecessors never leads back.
    """
    before, after = platforms.alias("before"), platforms.alias("after")
    c = platform_changes.c
    row = connection.execute(
        sa.select(platform_changes)
        .join(before, before.c.key == c.old_platform_key)
        .join(after, after.c.key == c.new_platform_key)
        .where(c.new_platform_key == platform_key)
        .where(before.c.registered_at < after.c.registered_at)
        .where(c.state != ChangeState.RETURNED)
        .order_by((c.state == ChangeState.DONE).desc(), c.changed_at.desc(), c.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else _change_from_row(row)


def find_replayable(
    connection: Connection, platform_key: str, protocol_key: str, *, most_of_workload: int
) -> list[Fact]:
    """The newest such facts of each workload that none overrules, the newest first."""
    numbered = (
        sa.select(
            facts.c.id,
            sa.func.row_number()
            .over(partition_by=facts.c.workload_key, order_by=facts.c.id.desc())
            .label("number"),
        )
        .where(facts.c.platform_key == platform_key)
        .where(facts.c.protocol_key == protocol_key)
        .where(facts.c.overruled_by.is_(None))
        .subquery()
    )
    found = connection.execute(
        sa.select(facts)
        .join(numbered, numbered.c.id == facts.c.id)
        .where(numbered.c.number <= most_of_workload)
        .order_by(facts.c.id.desc())
    )
    return [rows.fact_from_row(row) for row in found]


def keep_contrasts(
    connection: Connection,
    change: PlatformChange,
    fact_ids: Sequence[str],
    *,
    worker: WorkerIdentity | None,
) -> None:
    """Keeps which facts are measured again, in that order; once for each change.

    Raises HostTakenError.
    """
    check_lease(connection, change.host, worker)
    chosen = connection.execute(
        sa.update(platform_changes)
        .where(platform_changes.c.id == change.id)
        .where(platform_changes.c.num_contrasts.is_(None))
        .values(num_contrasts=len(fact_ids))
    )
    if chosen.rowcount and fact_ids:
        connection.execute(
            sa.insert(replayed_facts),
            [
                {"change_id": change.id, "number": number, "fact_id": fact_id, "reason": ""}
                for number, fact_id in enumerate(fact_ids)
            ],
        )


def list_replayed(connection: Connection, change_id: str) -> list[ReplayedFact]:
    """The facts that are measured again after that change, in that order."""
    replayed = connection.execute(
        sa.select(replayed_facts)
        .where(replayed_facts.c.change_id == change_id)
        .order_by(replayed_facts.c.number)
    ).all()
    ids = {key for row in replayed for key in (row.fact_id, row.new_fact_id) if key is not None}
    found = connection.execute(sa.select(facts).where(facts.c.id.in_(ids)))
    by_id = {row.id: rows.fact_from_row(row) for row in found}
    return [
        ReplayedFact(
            number=row.number,
            before=by_id[row.fact_id],
            sweep_id=row.sweep_id,
            outcome=row.outcome,
            after=None if row.new_fact_id is None else by_id[row.new_fact_id],
            reason=row.reason,
        )
        for row in replayed
    ]


def begin_replayed(
    connection: Connection,
    change: PlatformChange,
    number: int,
    sweep_id: str,
    *,
    worker: WorkerIdentity | None,
) -> None:
    """Keeps which race measures that fact again. Raises HostTakenError."""
    check_lease(connection, change.host, worker)
    _update(connection, change, number, sweep_id=sweep_id)


def settle_replayed(
    connection: Connection,
    change: PlatformChange,
    number: int,
    outcome: Outcome,
    *,
    after: Fact | None,
    reason: str,
    worker: WorkerIdentity | None,
) -> None:
    """Keeps what became of that fact, and counts it. Raises HostTakenError."""
    check_lease(connection, change.host, worker)
    _update(
        connection,
        change,
        number,
        outcome=outcome,
        new_fact_id=None if after is None else after.id,
        reason=reason,
    )
    of_change = sa.select(replayed_facts.c.outcome).where(replayed_facts.c.change_id == change.id)
    outcomes = [each for each in connection.scalars(of_change) if each is not None]
    connection.execute(
        sa.update(platform_changes)
        .where(platform_changes.c.id == change.id)
        .values(**asdict(Agreement.of(outcomes)))
    )


def finish_change(
    connection: Connection,
    change: PlatformChange,
    patterns: Sequence[Pattern],
    *,
    worker: WorkerIdentity | None,
) -> PlatformChange:
    """The change, whose replay has ended, with what was found. Raises HostTakenError.

    One that was interrupted meanwhile stays so.
    """
    check_lease(connection, change.host, worker)
    c = platform_changes.c
    connection.execute(
        sa.update(platform_changes)
        .where(c.id == change.id, c.state == ChangeState.OPEN)
        .values(
            state=ChangeState.DONE,
            finished_at=read_now(connection),
            patterns=[asdict(each) for each in patterns],
        )
    )
    row = connection.execute(sa.select(platform_changes).where(c.id == change.id)).one()
    return _change_from_row(row)


def _update(connection: Connection, change: PlatformChange, number: int, **values: Any) -> None:
    connection.execute(
        sa.update(replayed_facts)
        .where(replayed_facts.c.change_id == change.id, replayed_facts.c.number == number)
        .values(**values)
    )


def _change_from_row(row: rows.Row) -> PlatformChange:
    return PlatformChange(
        id=row.id,
        host=row.host,
        old_platform_key=row.old_platform_key,
        new_platform_key=row.new_platform_key,
        protocol_key=row.protocol_key,
        changed_at=row.changed_at,
        state=ChangeState(row.state),
        num_contrasts=row.num_contrasts,
        agreement=Agreement(
            num_agree=row.num_agree,
            num_changed=row.num_changed,
            num_unclear=row.num_unclear,
            num_failed=row.num_failed,
        ),
        patterns=tuple(Pattern(**each) for each in row.patterns),
        finished_at=row.finished_at,
    )
