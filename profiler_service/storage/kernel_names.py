"""Which kernels ran at points of a curve. They are found once the curve is kept.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.analysis.kernel_names import KernelNames
from profiler_service.storage import rows
from profiler_service.storage.curves import get_curve_header
from profiler_service.storage.statements import insert_or_ignore, raise_generation
from profiler_service.storage.tables import curves, kernel_names
from profiler_service.workload import Dims

NEWEST: Final = 50
"""Of a host's curves, only so many of the newest are looked through for one without names: after an
upgrade, an idle host makes the calls of some minutes, and not those of a year."""


def keep_names(connection: Connection, curve_id: str, names: KernelNames) -> bool:
    """Whether these are the first names of the curve. Then they are kept.

    Raises UnknownCurveError.
    """
    get_curve_header(connection, curve_id)
    is_new = insert_or_ignore(
        connection, kernel_names, {"curve_id": curve_id, "names": names_to_json(names)}
    )
    if is_new:
        raise_generation(connection)  # last: every other process that writes has to wait
    return is_new


def find_names(connection: Connection, curve_ids: Collection[str]) -> dict[str, dict[Dims, str]]:
    """Id of each of the curves that names were kept for → its names, perhaps none."""
    found = connection.execute(
        sa.select(kernel_names).where(kernel_names.c.curve_id.in_(curve_ids))
    )
    return {row.curve_id: names_from_json(row.names) for row in found}


def find_unnamed(
    connection: Connection, host: str, platform_key: str, protocol_key: str
) -> str | None:
    """Id of the host's newest curve of that platform and protocol without names, if there is one.

    A curve that names were looked for in vain counts as one with names.
    """
    newest = (
        sa.select(curves.c.id)
        .where(curves.c.host == host)
        .order_by(curves.c.id.desc())
        .limit(NEWEST)
    )
    found: str | None = connection.scalar(
        sa.select(curves.c.id)
        .outerjoin_from(curves, kernel_names)
        .where(curves.c.id.in_(newest))
        .where(curves.c.platform_key == platform_key)
        .where(curves.c.protocol_key == protocol_key)
        .where(curves.c.origin.is_(None))
        .where(kernel_names.c.curve_id.is_(None))
        .order_by(curves.c.id.desc())
        .limit(1)
    )
    return found


def names_to_json(names: KernelNames) -> dict[str, list[str]]:
    """The column `names`: name → the points that have it, `1197,317`. Names are few, and long."""
    points: dict[str, list[str]] = {}
    for dims, name in sorted(names.items()):
        points.setdefault(name, []).append(rows.dims_to_text(dims))
    return points


def names_from_json(column: Mapping[str, Collection[str]]) -> dict[Dims, str]:
    """The inverse of `names_to_json`."""
    return {rows.dims_from_text(text): name for name, points in column.items() for text in points}
