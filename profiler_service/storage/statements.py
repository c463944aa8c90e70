"""Statements that several subjects share: insert unless there, one page, the generation.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from profiler_service.errors import InvalidRequestError
from profiler_service.storage import rows
from profiler_service.storage.columns import UtcDateTime
from profiler_service.storage.records import Page
from profiler_service.storage.tables import generation, installation, metadata

MAX_PAGE_SIZE = 1000

T = TypeVar("T")


def insert_or_ignore(connection: Connection, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Whether the row was inserted; it isn't if there is a row with the same key."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    # RETURNING, because an INSERT's row count isn't reported by every driver.
    statement = insert(table).values(values).on_conflict_do_nothing().returning(sa.literal(1))
    return connection.scalar(statement) is not None


def database_now(connection: Connection) -> sa.ColumnElement[dt.datetime]:
    """The database's time, for a statement. Times of several machines are its times alone.

    SQLite's clock is that of this machine; its own function shows milliseconds only.
    """
    if connection.dialect.name == "sqlite":
        return sa.literal(dt.datetime.now(dt.UTC), UtcDateTime)
    return sa.func.clock_timestamp(type_=UtcDateTime)


def read_now(connection: Connection) -> dt.datetime:
    """The database's time, UTC."""
    return connection.execute(sa.select(database_now(connection))).scalar_one()


def read_generation(connection: Connection) -> int:
    """The generation that the transaction sees."""
    return int(connection.execute(sa.select(generation.c.value)).scalar_one())


def read_installation(connection: Connection) -> str:
    """The identity of this installation: eight hexadecimal digits."""
    return str(connection.execute(sa.select(installation.c.value)).scalar_one())


def is_read_only(connection: Connection) -> bool:
    """Whether the server refuses to write, as replicas do. SQLite has no server: False."""
    if connection.dialect.name == "sqlite":
        return False
    setting = sa.func.current_setting("transaction_read_only")
    return connection.scalar(sa.select(setting)) == "on"


def check_tables(connection: Connection, *, for_worker: bool = False) -> None:
    """Returns if every table has the columns that this version uses. Reads no row.

    For a worker, only those tables count that it may read.
    """
    for table in metadata.sorted_tables:
        if not for_worker or table.info.get("for_workers", True):
            connection.execute(sa.select(table).limit(0))


def raise_generation(connection: Connection) -> int:
    """The next generation. Nobody else can raise it until this transaction ends."""
    raised = sa.update(generation).values(value=generation.c.value + 1)
    return int(connection.execute(raised.returning(generation.c.value)).scalar_one())


def check_page(*, cursor: str | None, limit: int) -> None:
    """Returns if a page may be asked for with these values; needs no database.

    Raises InvalidRequestError for a limit outside 1 to MAX_PAGE_SIZE, or a cursor that no page has
    returned.
    """
    if not 1 <= limit <= MAX_PAGE_SIZE:
        raise InvalidRequestError(
            f"limit {limit} is outside 1 to {MAX_PAGE_SIZE}",
            hint="ask for a smaller page, and follow its cursor",
        )
    if cursor is not None and re.fullmatch(r"[0-9a-f]{32}", cursor) is None:
        raise InvalidRequestError(
            "the cursor wasn't given by this list",
            hint="leave the cursor out to start at the beginning",
        )


def fetch_page(
    connection: Connection,
    query: sa.Select[Any],
    id_column: sa.Column[str],
    from_row: Callable[[rows.Row], T],
    *,
    oldest_first: bool = False,
    cursor: str | None,
    limit: int,
) -> Page[T]:
    """Up to `limit` of the query's rows in the order of their ids, after `cursor`."""
    if cursor is not None:
        query = query.where(id_column > cursor if oldest_first else id_column < cursor)
    order = id_column.asc() if oldest_first else id_column.desc()
    found = connection.execute(query.order_by(order).limit(limit + 1)).all()
    return Page(
        items=[from_row(row) for row in found[:limit]],
        next_cursor=found[limit - 1].id if len(found) > limit else None,
    )
