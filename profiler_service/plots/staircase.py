"""Draws a curve of one axis: latency over the dimension, with LHPs and hysteresis bins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from profiler_service.plan.modes import MODES
from profiler_service.plots.marks import (
    EDGE_LABEL,
    FAILED,
    LHP,
    POINT,
    UNDECIDED,
    Columns,
    asked_dims,
    asked_trace,
    axis_limits,
    cut_intervals,
    failed_dims,
    failed_trace,
    latency_limits,
    mark_asked,
    marks_trace,
    point_texts,
    undecided_marks,
)
from profiler_service.wire import CurveDetail

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = ("#cfe2ef", "#eaf2f8")
MARKED_POINTS = 400
"""Most points that are drawn as large dots. If there are more, the dots are small."""


def bin_edges(curve: CurveDetail) -> list[tuple[float, float]]:
    """Left and right edge of each hysteresis bin; neighbours touch.

    Empty for a race or a survey, which decides only for one point whether it is an LHP.
    """
    if not MODES[curve.mode].decides_every_point:
        return []
    half = curve.axes[0].step / 2
    return [(bin_.first - half, bin_.last + half) for bin_ in curve.bins]


# PNG


def draw_staircase(axes: Axes, curve: CurveDetail, columns: Columns) -> None:
    """Draws the points, intervals and bins of a curve of one axis with matplotlib."""
    from matplotlib.ticker import MaxNLocator

    floor, ceiling = latency_limits(columns)
    edges = bin_edges(curve)
    for turn, color in enumerate(BINS):
        axes.broken_barh(
            [(left, right - left) for left, right in edges[turn::2]],
            (0, 1),
            transform=axes.get_xaxis_transform(),
            color=color,
            linewidth=0,
            zorder=0,
            # The legend has one entry for both colours.
            label="hysteresis bins" if edges and turn == 0 else None,
            gid="bins",
        )
    dims = columns.dims[:, 0]
    size = 14 if len(dims) <= MARKED_POINTS else 3
    if dims.size:
        _draw_intervals(axes, columns)
    for status, color, marker, label in (
        ("dominated", POINT, "o", "measured"),
        ("undecided", *undecided_marks(curve, "D", "o")),
        ("edge", LHP, ">", EDGE_LABEL),
        ("lhp", LHP, "o", "LHP"),
    ):
        chosen = columns.where(status)
        is_hollow = color == UNDECIDED or status == "edge"
        if chosen.any():
            axes.scatter(
                dims[chosen],
                columns.latency[chosen],
                s=2.2 * size if status in ("lhp", "edge") else size,
                facecolors="none" if is_hollow else color,
                edgecolors=color if is_hollow else "none",
                linewidths=0.9 if is_hollow else 0,
                marker=marker,
                label=label,
                zorder=3 if status in ("lhp", "edge") else 2,
                gid=status,
            )
    failed = failed_dims(curve)[:, 0]
    if failed.size:
        axes.scatter(
            failed,
            np.full(failed.size, floor),
            s=24,
            color=FAILED,
            marker="x",
            label="failed",
            clip_on=False,
            zorder=4,
            gid="failed",
        )
    asked = asked_dims(curve, columns)
    if len(asked):
        mark_asked(axes, x=asked[:, 0], y=columns.latency[:1])
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    axes.set_xlabel(curve.axis_names[0])
    axes.set_ylabel(f"latency, {columns.unit} per call")
    left, right = axis_limits(curve.axes[0])
    room = (right - left) / 100
    axes.set_xlim(left - room, right + room)
    axes.set_ylim(floor, ceiling)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_intervals(axes: Axes, columns: Columns) -> None:
    """Draws the intervals. A chevron marks an end that is cut."""
    from matplotlib.markers import CARETDOWNBASE, CARETUPBASE, MarkerStyle

    dims, drawn = columns.dims[:, 0], cut_intervals(columns)
    axes.vlines(
        dims,
        drawn.low,
        drawn.high,
        color=POINT,
        alpha=0.4,
        linewidth=1,
        label="95 % interval",
        gid="interval",
    )
    for is_cut, ends, marker in (
        (drawn.is_cut_low, drawn.low, CARETDOWNBASE),
        (drawn.is_cut_high, drawn.high, CARETUPBASE),
    ):
        if is_cut.any():
            axes.scatter(
                dims[is_cut],
                ends[is_cut],
                s=10,
                color=POINT,
                marker=MarkerStyle(marker),
                linewidths=0,
                gid="cut",
            )


# HTML


def staircase_traces(curve: CurveDetail, columns: Columns) -> list[dict[str, Any]]:
    """The points and intervals of a curve of one axis as plotly traces; bins are shapes."""
    dims = columns.dims[:, 0]
    drawn = cut_intervals(columns)
    undecided_color, undecided_symbol, undecided_label = undecided_marks(
        curve, "diamond-open", "circle"
    )
    traces = []
    for status, color, symbol, size, label in (
        ("dominated", POINT, "circle", 5, "measured"),
        ("undecided", undecided_color, undecided_symbol, 6, undecided_label),
        ("edge", LHP, "triangle-right-open", 9, EDGE_LABEL),
        ("lhp", LHP, "circle", 8, "LHP"),
    ):
        chosen = columns.where(status)
        if not chosen.any():
            continue
        latency, low, high = (c[chosen] for c in (columns.latency, drawn.low, drawn.high))
        traces.append(
            {
                "type": "scattergl",
                "mode": "markers",
                "name": label,
                "x": dims[chosen],
                "y": latency,
                "error_y": {
                    "array": np.where(np.isfinite(high), high - latency, 0),
                    "arrayminus": np.where(np.isfinite(low), latency - low, 0),
                    "thickness": 1,
                    "width": 0,
                },
                "marker": {"color": color, "symbol": symbol, "size": size},
                "text": point_texts(curve, columns, status),
                "hovertemplate": f"{curve.axis_names[0]} %{{x}}<br>%{{y:.2f}} {columns.unit}"
                "<br>%{text}",
            }
        )
    is_cut = np.concatenate([drawn.is_cut_low, drawn.is_cut_high])
    if is_cut.any():
        ends = np.concatenate([drawn.low, drawn.high])[is_cut]
        symbols = np.repeat(["triangle-down", "triangle-up"], len(dims))[is_cut]
        marker = {"color": POINT, "symbol": symbols.tolist(), "size": 6}
        cut = marks_trace("interval goes on", x=np.tile(dims, 2)[is_cut], y=ends, marker=marker)
        traces.append(cut | {"hoverinfo": "skip", "hovertemplate": None})
    asked = asked_dims(curve, columns)
    if len(asked):
        traces.append(asked_trace(x=asked[:, 0], y=columns.latency[:1]))
    if bin_edges(curve):
        # A legend can't show shapes: an empty trace represents them.
        marker = {"color": BINS[0], "symbol": "square", "size": 12}
        nothing = np.array([])
        traces.append(marks_trace("hysteresis bins", x=nothing, y=nothing, marker=marker))
    if curve.failures:
        failed = failed_dims(curve)[:, 0]
        floor, _ = latency_limits(columns)
        traces.append(failed_trace(curve, x=failed, y=np.full(len(failed), floor)))
    return traces
