"""The points of a curve and their marks, shared by the pictures of one axis and of two.

Points are arrays. Marks are drawn with matplotlib (on `axes`) or returned as plotly traces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from profiler_service.plan.modes import MODES
from profiler_service.plots.race import CONFIRMED, find_racers, latency_unit
from profiler_service.wire import AxisRange, CurveDetail, RaceInfo

if TYPE_CHECKING:
    from matplotlib.axes import Axes

F64 = npt.NDArray[np.float64]
POINT, LHP, UNDECIDED, FAILED = "#828a98", "#0067a8", "#9a6000", "#111111"
RACED = "#d1478c"
EDGE_LABEL = "edge: nothing larger measured"
INTERVAL_SHARE = 0.25
"""How far an interval is drawn from its point at most, as a share of the latencies' range. A longer
one is cut: it would leave no space for the points."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """A curve's points as arrays of equal length, latencies in `unit`."""

    dims: npt.NDArray[np.int64]
    """int64 [points, axes]."""
    latency: F64
    low: F64
    """Not finite if the interval isn't bounded (a single sample). The same holds for `high`."""
    high: F64
    status: npt.NDArray[np.str_]
    unit: str
    """`µs` or `ms`."""

    def where(self, status: str) -> npt.NDArray[np.bool_]:
        """bool [points]: True for points with that status."""
        chosen: npt.NDArray[np.bool_] = self.status == status
        return chosen


def build_columns(curve: CurveDetail) -> Columns:
    """The curve's points as arrays, in a unit that suits the slowest point."""
    points = curve.points
    latency_s = np.asarray(points.latency_s, dtype=np.float64)
    slowest_s = float(latency_s.max()) if latency_s.size else 0.0
    unit, unit_s = latency_unit(slowest_s)
    return Columns(
        dims=np.asarray(points.dims, dtype=np.int64).reshape(-1, len(curve.axes)),
        latency=latency_s / unit_s,
        low=np.asarray(points.low_s, dtype=np.float64) / unit_s,
        high=np.asarray(points.high_s, dtype=np.float64) / unit_s,
        status=np.asarray(points.status, dtype=np.str_),
        unit=unit,
    )


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """The points' intervals as they are drawn; NaN for a point without one."""

    low: F64
    high: F64
    is_cut_low: npt.NDArray[np.bool_]
    """bool [points]: True if the interval goes on below `low`. Likewise for `is_cut_high`."""
    is_cut_high: npt.NDArray[np.bool_]


def cut_intervals(columns: Columns) -> Intervals:
    """The intervals, each end at most INTERVAL_SHARE of the latencies' range from its point."""
    latency = columns.latency
    reach = INTERVAL_SHARE * (np.ptp(latency) or latency.max()) if latency.size else 0.0
    low = np.where(np.isfinite(columns.low), columns.low, np.nan)
    high = np.where(np.isfinite(columns.high), columns.high, np.nan)
    return Intervals(
        low=np.maximum(low, latency - reach),
        high=np.minimum(high, latency + reach),
        is_cut_low=low < latency - reach,  # NaN compares false
        is_cut_high=high > latency + reach,
    )


def latency_limits(columns: Columns) -> tuple[float, float]:
    """Both ends of the latency axis: around the points and their intervals as they are drawn."""
    if not columns.latency.size:
        return 0.0, 1.0
    drawn = cut_intervals(columns)
    fastest = float(np.fmin(columns.latency, drawn.low).min())
    slowest = float(np.fmax(columns.latency, drawn.high).max())
    room = 0.08 * ((slowest - fastest) or slowest)
    return max(0.0, fastest - room), slowest + room


def axis_limits(axis: AxisRange) -> tuple[float, float]:
    """Both ends of the axis, with half a step of space: the edges of the outermost cells."""
    edges = cell_edges(axis)
    return float(edges[0]), float(edges[-1])


def cell_edges(axis: AxisRange) -> F64:
    """The edges of all cells of the axis: half a step beside a dimension, and between two."""
    dims = np.array(axis.dims, dtype=np.float64)
    gaps = np.diff(dims, prepend=dims[0] - _first_gap(axis), append=dims[-1] + axis.step)
    edges: F64 = np.append(dims - gaps[:-1] / 2, dims[-1] + axis.step / 2)
    return edges


def _first_gap(axis: AxisRange) -> int:
    return axis.step if axis.second is None else axis.second - axis.first


def undecided_marks(curve: CurveDetail, marker: str, plain: str) -> tuple[str, str, str]:
    """Colour, marker and label of undecided points; plain ones if the curve decides none."""
    if MODES[curve.mode].decides_every_point:
        return UNDECIDED, marker, "undecided"
    return POINT, plain, "looked at"


def failed_dims(curve: CurveDetail) -> npt.NDArray[np.int64]:
    """int64 [failed points, axes]."""
    dims = [failure.dims for failure in curve.failures]
    return np.asarray(dims, dtype=np.int64).reshape(-1, len(curve.axes))


def asked_dims(curve: CurveDetail, columns: Columns) -> npt.NDArray[np.int64]:
    """int64 [1, axes]: the point whose query the curve answers; [0, axes] for a grid sweep.

    It is the first point of the window, and the first that was measured. Also [0, axes] if it
    failed.
    """
    first = np.array([[axis.first for axis in curve.axes]], dtype=np.int64)
    if not MODES[curve.mode].is_race or not np.array_equal(columns.dims[:1], first):
        return first[:0]
    return first


def raced_points(
    curve: CurveDetail, columns: Columns, race: RaceInfo | None
) -> list[tuple[str, str, npt.NDArray[Any], npt.NDArray[Any]]]:
    """Label, colour, x and y of the points in a race's contests, and of the confirmed point."""
    if race is None or not columns.latency.size:
        return []
    racers = find_racers(curve, race)
    confirmed = [racer for racer in racers if racer.fate == "confirmed"]
    groups: list[tuple[str, str, npt.NDArray[Any], npt.NDArray[Any]]] = []
    for label, color, chosen in (("raced", RACED, racers), ("confirmed", CONFIRMED, confirmed)):
        if not chosen:
            continue
        dims = np.array([racer.dims for racer in chosen], dtype=np.int64)
        if len(curve.axes) == 2:
            groups.append((label, color, dims[:, 1], dims[:, 0]))
        else:
            numbers = np.searchsorted(columns.dims[:, 0], dims[:, 0])
            groups.append((label, color, dims[:, 0], columns.latency[numbers]))
    return groups


# PNG


def mark_raced(axes: Axes, curve: CurveDetail, columns: Columns, race: RaceInfo | None) -> None:
    """Draws rings around the points in the race's contests, and around the confirmed point."""
    for label, color, x, y in raced_points(curve, columns, race):
        axes.scatter(
            x,
            y,
            s=36 if label == "raced" else 110,
            facecolors="none",
            edgecolors=color,
            linewidths=1.2,
            label=label,
            clip_on=False,
            zorder=5,
            gid=label,
        )


def mark_asked(axes: Axes, *, x: npt.NDArray[np.int64], y: npt.NDArray[Any]) -> None:
    """Draws a square around the point that was asked about."""
    axes.scatter(
        x,
        y,
        s=60,
        facecolors="none",
        edgecolors=FAILED,
        marker="s",
        label="asked",
        # The point lies in the corner, where the square would be cut off.
        clip_on=False,
        zorder=4,
        gid="asked",
    )


# HTML


def point_texts(curve: CurveDetail, columns: Columns, status: str) -> list[str]:
    """Text about each point of that status: its interval, and the point that may dominate it."""
    points = curve.points
    texts = []
    for number, own in enumerate(points.status):
        if own != status:
            continue
        lines = []
        if np.isfinite(columns.low[number]) and np.isfinite(columns.high[number]):
            low, high = columns.low[number], columns.high[number]
            lines.append(f"95 % interval {low:.2f} to {high:.2f} {columns.unit}")
        rival = points.rival[number]
        ratio, low, high = (
            column[number] for column in (points.ratio, points.ratio_low, points.ratio_high)
        )
        if rival is not None:
            lines.append(f"best larger: {','.join(map(str, rival))}")
        if ratio is not None and low is not None and high is not None:
            lines.append(f"its latency / this: {ratio:.4f} [{low:.4f}, {high:.4f}]")
        texts.append("<br>".join(lines))
    return texts


def marks_trace(
    name: str, *, x: npt.NDArray[Any], y: npt.NDArray[Any], marker: dict[str, object]
) -> dict[str, Any]:
    """A plotly trace of marks."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": x,
        "y": y,
        "marker": marker,
        "hovertemplate": "%{y},%{x}",
    }


def raced_traces(
    curve: CurveDetail, columns: Columns, race: RaceInfo | None
) -> list[dict[str, Any]]:
    """The rings of `mark_raced` as plotly traces."""
    traces = []
    for label, color, x, y in raced_points(curve, columns, race):
        size = 8 if label == "raced" else 15
        marker: dict[str, object] = {"color": color, "symbol": "circle-open", "size": size}
        traces.append(marks_trace(label, x=x, y=y, marker=marker))
    return traces


def asked_trace(*, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> dict[str, Any]:
    """The square of `mark_asked` as a plotly trace."""
    marker: dict[str, object] = {"color": FAILED, "symbol": "square-open", "size": 12}
    # The point lies in the corner, where the square would otherwise be cut off.
    return marks_trace("asked", x=x, y=y, marker=marker) | {"cliponaxis": False}


def failed_trace(curve: CurveDetail, *, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> dict[str, Any]:
    """A plotly trace of crosses at failed points; the hover text says why each failed."""
    marker: dict[str, object] = {"color": FAILED, "symbol": "x", "size": 8}
    return marks_trace("failed", x=x, y=y, marker=marker) | {
        "text": [failure.reason for failure in curve.failures],
        "hovertemplate": "%{text}",
    }
