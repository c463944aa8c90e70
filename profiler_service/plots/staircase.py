"""Draws a curve of one axis: latency over the dimension, with LHPs and hysteresis bins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from profiler_service.plan.modes import MODES
from profiler_service.plots.marks import (
    FAILED,
    LHP,
    POINT,
    Columns,
    asked_dims,
    asked_trace,
    axis_limits,
    failed_dims,
    failed_trace,
    latency_limits,
    mark_asked,
    marks_trace,
    rival_texts,
    undecided_marks,
)
from profiler_service.wire import CurveDetail

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = ("#dfe9f5", "#f6f1e3")
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
    if dims.size:
        axes.vlines(
            dims,
            columns.low,
            columns.high,
            color=POINT,
            alpha=0.4,
            linewidth=1,
            label="95 % interval",
        )
    size = 14 if len(dims) <= MARKED_POINTS else 3
    for status, color, marker, label in (
        ("dominated", POINT, "o", "measured"),
        ("undecided", *undecided_marks(curve, "D", "o")),
        ("lhp", LHP, "o", "LHP"),
    ):
        chosen = columns.where(status)
        if chosen.any():
            axes.scatter(
                dims[chosen],
                columns.latency[chosen],
                s=2.2 * size if status == "lhp" else size,
                color=color,
                marker=marker,
                linewidths=0,
                label=label,
                zorder=3 if status == "lhp" else 2,
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


# HTML


def staircase_traces(curve: CurveDetail, columns: Columns) -> list[dict[str, Any]]:
    """The points and intervals of a curve of one axis as plotly traces; bins are shapes."""
    dims = columns.dims[:, 0]
    undecided_color, undecided_symbol, undecided_label = undecided_marks(curve, "diamond", "circle")
    traces = []
    for status, color, symbol, size, label in (
        ("dominated", POINT, "circle", 5, "measured"),
        ("undecided", undecided_color, undecided_symbol, 6, undecided_label),
        ("lhp", LHP, "circle", 8, "LHP"),
    ):
        chosen = columns.where(status)
        if not chosen.any():
            continue
        latency, low, high = (c[chosen] for c in (columns.latency, columns.low, columns.high))
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
                "text": rival_texts(curve, status),
                "hovertemplate": f"{curve.axis_names[0]} %{{x}}<br>%{{y:.2f}} {columns.unit}"
                "<br>%{text}",
            }
        )
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
