"""The measured points of curves, once more, as arrays that SQL can read. In PostgreSQL only.

The views for dashboards show them. Every function runs in the transaction of the `connection` that
it is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.plan.modes import MODES
from profiler_service.storage import rows
from profiler_service.storage.statements import insert_or_ignore
from profiler_service.storage.tables import curves, point_arrays

_MODES = [name for name, mode in MODES.items() if mode.answers_for != "kernels"]


def find_without_points(
    connection: Connection, *, after: int, up_to: int, max_points: int
) -> dict[str, int]:
    """Id of each curve of these generations that has no arrays yet → its number of points.

    Those stored last come first. Curves of more than `max_points` points, or of none, are left out,
    and so are comparisons of kernels, whose dims are no sizes.
    """
    found = connection.execute(
        sa.select(curves.c.id, curves.c.num_measured)
        .outerjoin_from(curves, point_arrays)
        .where(curves.c.generation > after)
        .where(curves.c.generation <= up_to)
        .where(curves.c.mode.in_(_MODES))
        .where(curves.c.num_measured.between(1, max_points))
        .where(point_arrays.c.curve_id.is_(None))
        .order_by(curves.c.generation.desc())
    )
    return {row.id: row.num_measured for row in found}


def keep_points(connection: Connection, curve_id: str, values: rows.Values) -> None:
    """Stores the arrays of the curve, unless another process has done so."""
    # As text, because the driver takes ten times as long for lists.
    columns = {
        name: sa.cast(sa.literal(value, sa.Text), point_arrays.c[name].type)
        if isinstance(value, str)
        else value
        for name, value in values.items()
    }
    insert_or_ignore(connection, point_arrays, {"curve_id": curve_id, **columns})


def points_to_values(curve: LatencyCurve) -> rows.Values:
    """The columns of `point_arrays` for the measured points, in the order of the grid.

    Arrays are texts, as PostgreSQL reads them: `{1,2,3}`.

    What is known of the first point has columns of its own: a race is asked about that one.
    """
    point = np.flatnonzero(curve.num_samples)
    dims_of_points = curve.grid.all_dims()[point].tolist()
    intervals = {name: getattr(curve, name) for name in ("latency_s", "low_s", "high_s")}
    return {
        "dims": _array(f'"{rows.dims_to_text(dims)}"' for dims in dims_of_points),
        **{
            name: _array(map(_number, column[point].tolist())) for name, column in intervals.items()
        },
        **{
            f"first_{name}": None if math.isnan(column[0]) else float(column[0])
            for name, column in intervals.items()
        },
        "num_samples": _array(map(str, curve.num_samples[point].tolist())),
        "status": _array(map(str, curve.status[point].tolist())),
    }


def _array(items: Iterable[str]) -> str:
    return f"{{{','.join(items)}}}"


def _number(value: float) -> str:
    return "NULL" if math.isnan(value) else f"{value:.9g}"  # as exact as it is kept: float32
