"""Draws a curve of two axes: a heat map of latencies relative to the asked point."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from profiler_service.analysis.blocks import Blocks
from profiler_service.plots.columns import F64, Columns
from profiler_service.plots.figure import (
    TEXT_POINTS,
    Panel,
    Sheet,
    Trace,
    marks,
    pack,
    ringed,
)
from profiler_service.plots.quantities import format_tick, log_ticks, size_ticks
from profiler_service.plots.staircase import point_at
from profiler_service.wire import AxisRange, CurveDetail

HEIGHT = 420
BAR_SPACE = 96
"""Pixels on the right, for the bar that explains the colours."""
COLOR_PERCENTILES = (2, 98)
"""Colours cover the range between these, so that outliers don't hide the rest."""
SLOWER = ("role:heat-1", "role:heat-2", "role:heat-3")
EQUAL = "role:heat-4"
FASTER = ("role:heat-5", "role:heat-6", "role:heat-7", "role:heat-8")


def draw_heat_map(
    sheet: Sheet,
    curve: CurveDetail,
    columns: Columns,
    *,
    answer: Sequence[int] | None = None,
    blocks: Blocks | None = None,
) -> Panel:
    """Draws the curve on a panel of the sheet, and an arrow from the asked point to the answer.

    Without `answer`, the answer is the rival of the asked point, if it is surely faster. Cells are
    the `blocks` if there are any, else the curve's points.
    """
    panel = sheet.panel(HEIGHT)
    sheet.right = BAR_SPACE
    rows, cols = curve.axes
    x, y = columns.dims[:, 1], columns.dims[:, 0]
    if len(x) or (blocks is not None and np.isfinite(blocks.latency_s).any()):
        panel.add(_cells(curve, columns) if blocks is None else _block_cells(blocks, columns))
        num_lhps = np.count_nonzero(columns.where("lhp"))
        is_part = 0 < num_lhps < curve.num_lhps
        lhps = f"LHP, {num_lhps:,} of {curve.num_lhps:,}" if is_part else "LHP"
        # So many that some are left out would cover the cells: they are shown on request.
        on_request = {"visible": "legendonly"} if is_part else {}
        for status, name, symbol, size, hidden in (
            ("lhp", lhps, "circle", 3, on_request),
            ("edge", "edge: nothing larger measured", "triangle-right-open", 6, {}),
        ):
            chosen = columns.where(status)
            if chosen.any() and columns.decides:
                marker = {"color": "role:ink", "symbol": symbol, "size": size}
                panel.add(marks(name, x[chosen], y[chosen], marker, **hidden))
    if curve.failures:
        failed = [each.dims for each in curve.failures]
        texts = [
            f"<b>{d[0]} × {d[1]}</b>  failed<br>{f.reason}"
            for d, f in zip(failed, curve.failures, strict=True)
        ]
        marker = {"color": "role:slower", "symbol": "x-thin-open", "size": 7, "line": {"width": 2}}
        panel.add(
            marks("failed", [d[1] for d in failed], [d[0] for d in failed], marker, texts=texts)
        )
    if columns.asked >= 0:
        _draw_asked(panel, columns, answer)
    scale_axes(panel, curve.axis_names, rows, cols)
    sheet.meta["arrows"] = True
    return panel


def _cells(curve: CurveDetail, columns: Columns) -> Trace:
    """The coloured cells: logarithms of how many times as fast each point is."""
    rows, cols = (axis.dims for axis in curve.axes)
    places = (np.searchsorted(rows, columns.dims[:, 0]), np.searchsorted(cols, columns.dims[:, 1]))
    image = np.full((len(rows), len(cols)), np.nan)
    image[places] = np.log2(find_reference(columns) / columns.latency_s)
    trace = heat_image(cols, rows, image, "asked" if columns.asked >= 0 else "the median point")
    trace |= {"xgap": 1, "ygap": 1}
    if image.size <= TEXT_POINTS:
        texts = np.full(image.shape, "", dtype=object)
        texts[places] = columns.texts()
        rival = np.full((*image.shape, 2), np.nan)
        known = columns.rival >= 0
        rival[places[0][known], places[1][known]] = columns.dims[columns.rival[known]][:, ::-1]
        trace |= {
            "hovertext": texts.tolist(),
            "hoverinfo": "text",
            "customdata": np.where(np.isfinite(rival), rival, -1).astype(int).tolist(),
        }
    else:
        trace["hovertemplate"] = "%{y} × %{x}<extra></extra>"
        trace |= {"xgap": 0, "ygap": 0}
    return trace


def _block_cells(blocks: Blocks, columns: Columns) -> Trace:
    """The coloured cells of blocks, each as its median point. Hovering tells the ratio."""
    latency_s = blocks.latency_s
    is_asked = columns.asked >= 0
    reference_s = columns.latency_s[columns.asked] if is_asked else np.nanmedian(latency_s)
    gain = reference_s / latency_s
    rows, cols = ((first + last) / 2 for first, last in zip(blocks.first, blocks.last, strict=True))
    than = "asked" if is_asked else "the median"
    trace = heat_image(cols, rows, np.log2(gain), than if is_asked else "the median cell")
    told = f"<b>%{{customdata:.3f}} ×</b> as fast as {than}"
    if blocks.shape == (1, 1):
        place = "<b>%{y} × %{x}</b>"
    else:
        place = "around <b>%{y:.0f} × %{x:.0f}</b>"
        told += f"<br>median of {blocks.shape[0]} × {blocks.shape[1]} points"
    return trace | {"customdata": pack(gain), "hovertemplate": f"{place}<br>{told}<extra></extra>"}


def heat_image(x: Sequence[int] | F64, y: Sequence[int] | F64, image: F64, than: str) -> Trace:
    """A heat map of logarithms of how many times as fast each cell is as what `than` names."""
    known = image[np.isfinite(image)]
    low, high = (float(each) for each in np.percentile(known, COLOR_PERCENTILES))
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        low, high = -0.01, 0.01
    ticks = log_ticks(2**low, 2**high)
    return {
        "type": "heatmap",
        "name": "latency",
        "x": pack(np.asarray(x)),
        "y": pack(np.asarray(y)),
        "z": pack(image),
        "zmin": low,
        "zmax": high,
        "colorscale": color_scale(low, high),
        "colorbar": {
            "title": {"text": f"× as fast<br>as {than}", "font": {"size": 12}},
            "tickvals": [math.log2(tick) for tick in ticks],
            "ticktext": [format_tick(tick) for tick in ticks],
            "thickness": 10,
            "len": HEIGHT,
            "lenmode": "pixels",
            "y": 1,
            "yref": "paper",
            "yanchor": "top",
            "outlinewidth": 0,
            "x": 1.01,
            "tickfont": {"color": "role:third"},
        },
        "hoverongaps": False,
        "meta": {"step": True},
    }


def find_reference(columns: Columns) -> float:
    """The latency in seconds that colours compare with: the asked point's, or the median one."""
    latency_s = columns.latency_s
    return float(latency_s[columns.asked] if columns.asked >= 0 else np.median(latency_s))


def color_scale(low: float, high: float) -> list[list[object]]:
    """Colours from `low` to `high`, with the neutral one at 0, which lies between them.

    Equal distances from 0 look equally strong: the side that reaches less far has fewer colours.
    """
    reach = max(-low, high)
    middle = -low / (high - low)
    scale: list[list[object]] = []
    if low < 0:
        shown = SLOWER[len(SLOWER) - math.ceil(len(SLOWER) * -low / reach) :]
        scale += [[middle * n / len(shown), color] for n, color in enumerate(shown)]
    scale.append([middle, EQUAL])
    if high > 0:
        shown = FASTER[: math.ceil(len(FASTER) * high / reach)]
        step = (1 - middle) / len(shown)
        scale += [[middle + step * n, color] for n, color in enumerate(shown, start=1)]
    scale[0][0], scale[-1][0] = 0.0, 1.0  # exactly, or plotly takes none of them
    return scale


def _draw_asked(panel: Panel, columns: Columns, answer: Sequence[int] | None) -> None:
    asked = columns.asked
    y, x = columns.dims[asked].tolist()
    panel.add(*ringed("asked", "square", [x], [y], texts=[columns.text(asked)]))
    if answer is None and columns.is_confirmed(asked):
        answer = columns.dims[columns.rival[asked]].tolist()
    if answer is None or list(answer) == [y, x]:
        return
    found = np.flatnonzero((columns.dims == list(answer)).all(axis=1))
    texts = [columns.text(int(found[0]))] if len(found) else []
    panel.add(*ringed("answer", "circle", [answer[1]], [answer[0]], texts=texts, size=16))
    point_at(panel, (x, y), (answer[1], answer[0]), f"{answer[0]} × {answer[1]}")


def scale_axes(panel: Panel, names: Sequence[str], rows: AxisRange, cols: AxisRange) -> None:
    """Gives both axes their ranges, ticks and names, as whole cells."""
    for axis, change in ((cols, panel.set_x), (rows, panel.set_y)):
        places, _ = size_ticks(axis.first, axis.last)
        labels = {"tickvals": places, "ticktext": [str(place) for place in places]}
        edges = cell_edges(axis)
        change(range=[float(edges[0]), float(edges[-1])], showgrid=False, ticks="outside", **labels)
    panel.name_y(names[0])
    panel.name_x(names[1])


def cell_edges(axis: AxisRange) -> F64:
    """The edges of all cells of the axis: half a step beside a dimension, and between two."""
    dims = np.array(axis.dims, dtype=np.float64)
    first = axis.step if axis.second is None else axis.second - axis.first
    gaps = np.diff(dims, prepend=dims[0] - first, append=dims[-1] + axis.step)
    edges: F64 = np.append(dims - gaps[:-1] / 2, dims[-1] + axis.step / 2)
    return edges
