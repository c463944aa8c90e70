"""The audit trail in the database. Entries are only added.

Every function runs in the transaction of the `connection` that it is given: an entry is stored
together with what it tells of, or neither is.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.access.audit import AuditEntry, AuditFilter
from profiler_service.access.caller import Caller
from profiler_service.storage import rows
from profiler_service.storage.records import Page
from profiler_service.storage.statements import fetch_page, read_now
from profiler_service.storage.tables import audit


def add_entry(
    connection: Connection,
    by: Caller,
    action: str,
    subject: str,
    details: Mapping[str, str] | None = None,
) -> None:
    """Adds an entry: `by` did `action` (`host.drain`) to `subject` (its id or name).

    No secret may stand in `details`: whoever reads the trail sees them.
    """
    now = read_now(connection)
    connection.execute(
        sa.insert(audit).values(
            id=rows.create_id(now),
            at=now,
            who=by.who,
            address=by.address,
            action=action,
            subject=subject,
            details=dict(details or {}),
        )
    )


def list_entries(
    connection: Connection, wanted: AuditFilter, *, cursor: str | None, limit: int
) -> Page[AuditEntry]:
    """Entries, newest first."""
    query = sa.select(audit)
    if wanted.who is not None:
        query = query.where(audit.c.who.startswith(wanted.who, autoescape=True))
    if wanted.action is not None:
        query = query.where(audit.c.action == wanted.action)
    if wanted.subject is not None:
        query = query.where(audit.c.subject == wanted.subject)
    if wanted.since is not None:
        query = query.where(audit.c.id >= rows.least_id(wanted.since))
    return fetch_page(connection, query, audit.c.id, _from_row, cursor=cursor, limit=limit)


def _from_row(row: rows.Row) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=row.at,
        who=row.who,
        address=row.address,
        action=row.action,
        subject=row.subject,
        details=row.details,
    )
