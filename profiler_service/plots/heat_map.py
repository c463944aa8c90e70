"""Draws a curve of two axes: a heat map of the measured points, with the LHPs marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from profiler_service.plan.modes import MODES
from profiler_service.plots.marks import (
    EDGE_LABEL,
    F64,
    FAILED,
    LHP,
    Columns,
    asked_dims,
    asked_trace,
    axis_limits,
    cell_edges,
    failed_dims,
    failed_trace,
    mark_asked,
    marks_trace,
    point_texts,
)
from profiler_service.wire import CurveDetail

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

UNMEASURED = "#e6e6e6"
FAINT = "#a3a3a399"
"""Of undecided points: seen on every colour of the map, and hiding none."""
SIDE_POINTS = 360
"""About the height of a heat map in points (1/72 inch)."""
MARK_SIZES = {"undecided": (0.16, 2.5), "edge": (0.6, 8.0), "lhp": (0.5, 6.0)}
"""Diameter of the marks of each status: as a share of a cell, and at most, in points."""
COLOR_PERCENTILES = (1, 95)
"""The colours of a heat map cover the range between these, so that outliers don't hide the rest."""


def _mark_diameter(curve: CurveDetail, status: str) -> float:
    """Diameter of a mark in points: a share of a cell, so that the field stays readable."""
    cells = max(len(axis.dims) for axis in curve.axes)
    share, most = MARK_SIZES[status]
    return min(most, max(0.6, share * SIDE_POINTS / cells))


def _is_marked(curve: CurveDetail, status: str) -> bool:
    """Whether a heat map marks points of that status. A race leaves most points undecided."""
    return status != "undecided" or MODES[curve.mode].decides_every_point


def _image(curve: CurveDetail, columns: Columns) -> F64:
    """float64 [first axis, second axis]: latency; NaN if nothing was measured."""
    rows, cols = (axis.dims for axis in curve.axes)
    image = np.full((len(rows), len(cols)), np.nan)
    places = (np.searchsorted(rows, columns.dims[:, 0]), np.searchsorted(cols, columns.dims[:, 1]))
    image[places] = columns.latency
    return image


# PNG


def draw_heat_map(axes: Axes, curve: CurveDetail, columns: Columns) -> None:
    """Draws the heat map of a curve of two axes, and its marks, with matplotlib."""
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    rows, cols = curve.axes
    image = _image(curve, columns)
    axes.set_facecolor(UNMEASURED)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    if columns.latency.size:
        low, high = np.percentile(columns.latency, COLOR_PERCENTILES)
        colors: dict[str, Any] = {"cmap": colormaps["viridis"], "vmin": low, "vmax": high}
        picture: ScalarMappable
        if rows.second is None and cols.second is None:
            extent = (*axis_limits(cols), *axis_limits(rows))
            picture = axes.imshow(
                image,
                origin="lower",
                extent=extent,
                aspect="auto",
                interpolation="nearest",
                **colors,
            )
        else:
            picture = axes.pcolormesh(cell_edges(cols), cell_edges(rows), image, **colors)
        axes.figure.colorbar(
            picture, ax=axes, label=f"latency, {columns.unit} per call", extend="both", pad=0.02
        )
    for status, marker, face, edge, label in (
        ("undecided", "o", FAINT, "none", "undecided"),
        ("edge", ">", "white", LHP, EDGE_LABEL),
        ("lhp", "o", LHP, "white", "LHP"),
    ):
        chosen = columns.where(status)
        if chosen.any() and _is_marked(curve, status):
            axes.scatter(
                columns.dims[chosen, 1],
                columns.dims[chosen, 0],
                s=_mark_diameter(curve, status) ** 2,
                facecolors=face,
                edgecolors=edge,
                marker=marker,
                linewidths=0 if edge == "none" else 0.7,
                label=label,
                gid=status,
            )
    asked = asked_dims(curve, columns)
    if len(asked):
        mark_asked(axes, x=asked[:, 1], y=asked[:, 0])
    failed = failed_dims(curve)
    if len(failed):
        axes.scatter(
            failed[:, 1], failed[:, 0], s=24, color=FAILED, marker="x", label="failed", gid="failed"
        )
    axes.set_xlabel(curve.axis_names[1])
    axes.set_ylabel(curve.axis_names[0])
    axes.set_xlim(*axis_limits(cols))
    axes.set_ylim(*axis_limits(rows))


# HTML


def heat_map_traces(curve: CurveDetail, columns: Columns) -> list[dict[str, Any]]:
    """The heat map of a curve of two axes, and its marks, as plotly traces."""
    rows, cols = curve.axes
    first, second = curve.axis_names
    traces: list[dict[str, Any]] = []
    if columns.latency.size:
        low, high = np.percentile(columns.latency, COLOR_PERCENTILES)
        traces.append(
            {
                "type": "heatmap",
                "x": np.array(cols.dims),
                "y": np.array(rows.dims),
                "z": _image(curve, columns),
                "zmin": low,
                "zmax": high,
                "colorscale": "Viridis",
                "colorbar": {"title": {"text": f"latency, {columns.unit} per call"}},
                "hovertemplate": f"{first} %{{y}}, {second} %{{x}}<br>"
                f"%{{z:.2f}} {columns.unit}<extra></extra>",
            }
        )
    for status, color, symbol, size, label in (
        ("undecided", FAINT, "circle", 3, "undecided"),
        ("edge", "white", "triangle-right", 9, EDGE_LABEL),
        ("lhp", LHP, "circle", 7, "LHP"),
    ):
        dims = columns.dims[columns.where(status)]
        if len(dims) and _is_marked(curve, status):
            marker: dict[str, object] = {"color": color, "symbol": symbol, "size": size}
            if status == "edge":
                marker["line"] = {"color": LHP, "width": 1.5}
            trace = marks_trace(label, x=dims[:, 1], y=dims[:, 0], marker=marker)
            trace |= {
                "text": point_texts(curve, columns, status),
                "hovertemplate": "%{y},%{x}<br>%{text}",
            }
            traces.append(trace)
    asked = asked_dims(curve, columns)
    if len(asked):
        traces.append(asked_trace(x=asked[:, 1], y=asked[:, 0]))
    if curve.failures:
        failed = failed_dims(curve)
        traces.append(failed_trace(curve, x=failed[:, 1], y=failed[:, 0]))
    return traces
