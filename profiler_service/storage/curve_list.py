"""Lists of curves in the database: filtered, sorted, page by page.

A cursor holds the place after the last curve of a page, and not the curve: it stays right when the
curve is gone, and while new ones arrive. Every function runs in the transaction of the `connection`
that it is given.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.errors import InvalidRequestError
from profiler_service.plan.modes import MODES
from profiler_service.storage import rows
from profiler_service.storage.records import (
    CurveFilter,
    CurveHeader,
    CurveOrder,
    CurveSort,
    Page,
    ParamFilter,
    SearchWord,
)
from profiler_service.storage.tables import curves

ALL_CURVES: Final = CurveFilter()
NEWEST_FIRST: Final = CurveOrder()
_MAX_CURSOR_LENGTH: Final = 2000
_MAX_INT: Final = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True)
class CursorPlace:
    """A place in a sorted list: after the curve with that id, if it were there."""

    value: Any
    """What the list is sorted by, of that curve."""
    curve_id: str


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _read_count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_INT:
        raise ValueError("no count")
    return value


def _read_share(value: object) -> float:
    if type(value) is not float or not math.isfinite(value):
        raise ValueError("no share")
    return value


def _read_time(value: object) -> dt.datetime:
    moment = dt.datetime.fromisoformat(_read_text(value))
    if moment.tzinfo is None or not 2 <= moment.year <= 9998:
        raise ValueError("no time")
    return moment


_REDUNDANCY: Final = sa.case(
    (
        curves.c.mode.in_([each.name for each in MODES.values() if each.decides_every_point])
        & (curves.c.num_measured > 0),
        sa.literal(1.0, sa.Double)
        - sa.cast(curves.c.num_lhps, sa.Double) / sa.cast(curves.c.num_measured, sa.Double),
    ),
    # Below every share: curves without one come together.
    else_=sa.literal(-1.0, sa.Double),
)
_SORTS: Final[Mapping[CurveSort, tuple[Any, Callable[[object], Any]]]] = {
    "kept": (curves.c.id, _read_text),
    "measured": (curves.c.measured_at, _read_time),
    "workload": (curves.c.workload_key, _read_text),
    "host": (curves.c.host, _read_text),
    "platform": (curves.c.platform_key, _read_text),
    "points": (curves.c.num_measured, _read_count),
    "lhps": (curves.c.num_lhps, _read_count),
    "redundancy": (_REDUNDANCY, _read_share),
}
"""What a list is sorted by, and how its value is read from a cursor."""


def read_cursor(cursor: str | None, sort: CurveSort) -> CursorPlace | None:
    """The place that a cursor of such a list names; needs no database.

    Raises InvalidRequestError for a text that no such list has given.
    """
    if cursor is None:
        return None
    try:
        if sort == "kept":
            value, curve_id = cursor, cursor
        else:
            padded = cursor[:_MAX_CURSOR_LENGTH] + "=" * (-len(cursor) % 4)
            text = base64.b64decode(padded, altchars=b"-_", validate=True)
            of, value, curve_id = json.loads(text)
            if of != sort:
                raise ValueError(f"of a list sorted by {of}")
        if re.fullmatch(r"[0-9a-f]{32}", curve_id) is None:
            raise ValueError("no id")
        return CursorPlace(value=_SORTS[sort][1](value), curve_id=curve_id)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidRequestError(
            "the cursor wasn't given by this list",
            hint="leave the cursor out to start at the beginning, and sort all pages alike",
        ) from error


def _write_cursor(sort: CurveSort, row: rows.Row) -> str:
    if sort == "kept":
        return str(row.id)
    value = row.sorted_by.isoformat() if sort == "measured" else row.sorted_by
    text = json.dumps([sort, value, row.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def list_curves(
    connection: Connection,
    wanted: CurveFilter,
    *,
    order: CurveOrder,
    place: CursorPlace | None,
    limit: int,
) -> Page[CurveHeader]:
    """Headers of such curves in that order, after `place`."""
    value, _ = _SORTS[order.sort]
    query = _filter(sa.select(curves, value.label("sorted_by")), wanted)
    is_by_id = order.sort == "kept"
    if place is not None:
        beyond = value < place.value if order.descending else value > place.value
        later = curves.c.id < place.curve_id if order.descending else curves.c.id > place.curve_id
        query = query.where(beyond if is_by_id else beyond | ((value == place.value) & later))
    columns = (curves.c.id,) if is_by_id else (value, curves.c.id)
    found = connection.execute(
        query.order_by(*(each.desc() if order.descending else each.asc() for each in columns))
        # One more, to know whether there are more.
        .limit(limit + 1)
    ).all()
    return Page(
        items=[rows.header_from_row(row) for row in found[:limit]],
        next_cursor=_write_cursor(order.sort, found[limit - 1]) if len(found) > limit else None,
    )


def _filter(query: sa.Select[Any], wanted: CurveFilter) -> sa.Select[Any]:
    for column, value in (
        (curves.c.kind, wanted.kind),
        (curves.c.workload_key, wanted.workload_key),
        (
            curves.c.raced_from,
            None if wanted.raced_from is None else rows.dims_to_text(wanted.raced_from),
        ),
        (curves.c.platform_key, wanted.platform_key),
        (curves.c.host, wanted.host),
        (curves.c.mode, wanted.mode),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(curves.c.measured_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(curves.c.measured_at < wanted.until)
    return query.where(*map(_has_param, wanted.params), *map(_has_word, wanted.words))


def _has_param(wanted: ParamFilter) -> sa.ColumnElement[bool]:
    # Numbers become texts: SQLite holds 16 and '16' for different.
    value = sa.cast(curves.c.params[wanted.name].as_string(), sa.Text)
    is_left_out = curves.c.kind.in_(wanted.left_out_by) & value.is_(None)
    return value.in_(wanted.values) | is_left_out


def _has_word(word: SearchWord) -> sa.ColumnElement[bool]:
    return sa.or_(
        curves.c.workload_key.icontains(word.text, autoescape=True),
        curves.c.host.icontains(word.text, autoescape=True),
        curves.c.mode.icontains(word.text, autoescape=True),
        curves.c.id.istartswith(word.text, autoescape=True),
        curves.c.platform_key.istartswith(word.text, autoescape=True),
        curves.c.platform_key.in_(word.platform_keys),
    )
