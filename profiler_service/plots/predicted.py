"""Draws what is predicted of a window: a line for one axis, a heat map for two.

Nothing in it was measured, and it says so: cells are small squares, points are hollow and purple.
"""

from __future__ import annotations

import numpy as np

from profiler_service.errors import InvalidRequestError
from profiler_service.plots.columns import F64
from profiler_service.plots.figure import (
    WIDTH,
    Figure,
    Panel,
    Sheet,
    line,
    literal,
    marks,
    pack,
    ringed,
)
from profiler_service.plots.heat_map import BAR_SPACE, HEIGHT, heat_image, scale_axes
from profiler_service.plots.quantities import (
    format_dims,
    format_gain,
    format_tick,
    log_ticks,
    size_ticks,
)
from profiler_service.plots.staircase import point_at
from profiler_service.wire import PredictedCurve

GAP_SHARE = 0.35
"""Share of a cell that stays empty on each axis: the cell is a small square then."""


def predicted_figure(curve: PredictedCurve) -> Figure:
    """The figure of a predicted landscape.

    Raises InvalidRequestError for more than two axes that vary, for points that were left out, and
    if nothing is predicted.
    """
    if not curve.points.dims:
        raise InvalidRequestError(
            "nothing is predicted of these dims, so there is nothing to draw",
            hint="; ".join(curve.caveats) or "have something measured first",
        )
    if len(curve.axes) > 2:
        raise InvalidRequestError(
            f"the window has {len(curve.axes)} axes; a picture can show only two",
            hint="name one or two axes: --vary batch,out_features",
        )
    if curve.num_left_out:
        raise InvalidRequestError(
            f"a picture of {curve.num_points:,} points would have gaps",
            hint="draw a smaller window: a smaller --max-growth, or --multiple-of",
        )
    sheet = Sheet(title=literal(describe_predicted(curve)), subtitle=_describe_keys(curve))
    dims = np.array(curve.points.dims, dtype=np.int64)
    gain: F64 = np.array(curve.points.speedup, dtype=np.float64)
    draw = _draw_line if dims.shape[1] == 1 else _draw_cells
    draw(sheet, curve, dims, gain)
    return sheet.build()


def describe_predicted(curve: PredictedCurve) -> str:
    """What the landscape shows, as a sentence without a full stop: the figure's title."""
    asked = format_dims(curve.points.dims[0])
    if not curve.best or curve.best[0].speedup <= 1:
        return f"Predicted: nothing larger is faster than {asked}"
    best = curve.best[0]
    gain = format_gain(best.speedup)
    than = "as" if "×" in gain else "than"
    return f"Predicted: {format_dims(best.dims)} is {gain} {than} {asked}"


def _describe_keys(curve: PredictedCurve) -> str:
    learned = curve.rests_on
    sweeps = round(learned.num_sweeps)
    keys = f"{curve.workload} · platform {curve.platform}"
    rests = f"not measured; rests on {sweeps:,} sweep{'s' * (sweeps != 1)} · {curve.standing}"
    return f"{literal(keys)}<br>{literal(rests)}"


def _draw_line(sheet: Sheet, curve: PredictedCurve, dims: np.ndarray, gain: F64) -> None:
    """Hollow purple discs, with dashed lines around where the interval is known."""
    panel = sheet.panel(HEIGHT)
    x = dims[:, 0]
    low, high = gain, gain
    if curve.points.deviation is not None and curve.half_width_in_deviations is not None:
        half: F64 = curve.half_width_in_deviations * np.array(curve.points.deviation)
        low, high = gain * np.exp(-half), gain * np.exp(half)
        dashed = {"color": "role:predicted", "width": 1, "dash": "dash"}
        panel.add(line("95 % interval", x, low, dashed))
        panel.add(line("95 % interval", x, high, dashed, showlegend=False))
    texts = [
        f"<b>{size}</b>  predicted<br>{format_gain(each)}"
        for size, each in zip(x.tolist(), gain.tolist(), strict=True)
    ]
    marker = {"color": "role:predicted", "symbol": "circle-open", "size": 7}
    panel.add(marks("predicted", x, gain, marker, texts=texts))
    first = int(x[0])
    panel.add(*ringed("asked", "square", [first], [1.0], texts=[f"<b>{first}</b>  asked"]))
    places, _ = size_ticks(first, int(x[-1]))
    panel.set_x(tickvals=places, ticktext=[str(place) for place in places], ticks="outside")
    ticks = log_ticks(min(float(low.min()), 0.99), max(float(high.max()), 1.01))
    panel.set_y(type="log", tickvals=ticks, ticktext=[format_tick(tick) for tick in ticks])
    panel.name_y("× as fast as asked")
    panel.name_x(literal(curve.axis_names[0]))
    if _leads(curve):
        best = curve.best[0]
        point_at(
            panel,
            (first, 0.0),
            # An arrow's place on a logarithmic axis is a logarithm.
            (best.dims[0], float(np.log10(best.speedup))),
            format_dims(best.dims),
            verb="leading:",
        )


def _draw_cells(sheet: Sheet, curve: PredictedCurve, dims: np.ndarray, gain: F64) -> None:
    """Small squares in the colour of each cell's ratio."""
    panel = sheet.panel(HEIGHT)
    sheet.right = BAR_SPACE
    rows, cols = curve.axes
    image = np.full((len(rows.dims), len(cols.dims)), np.nan)
    places = np.searchsorted(rows.dims, dims[:, 0]), np.searchsorted(cols.dims, dims[:, 1])
    image[places] = np.log2(gain)
    trace = heat_image(cols.dims, rows.dims, image, "asked")
    trace |= {
        "name": "predicted",
        "customdata": pack(2.0**image),
        "hovertemplate": "<b>%{y} × %{x}</b>  predicted<br>%{customdata:.3f} × as fast as asked"
        "<extra></extra>",
        "xgap": round(GAP_SHARE * (WIDTH - 160) / len(cols.dims)),
        "ygap": round(GAP_SHARE * HEIGHT / len(rows.dims)),
    }
    panel.add(trace)
    y, x = curve.points.dims[0]
    panel.add(*ringed("asked", "square", [x], [y], texts=[f"<b>{y} × {x}</b>  asked"]))
    if _leads(curve):
        _mark_leading(panel, curve)
    scale_axes(panel, [literal(name) for name in curve.axis_names], rows, cols)
    sheet.meta["arrows"] = True


def _mark_leading(panel: Panel, curve: PredictedCurve) -> None:
    (y, x), (best_y, best_x) = curve.points.dims[0], curve.best[0].dims
    text = f"<b>{best_y} × {best_x}</b>  leading<br>{format_gain(curve.best[0].speedup)}"
    panel.add(*ringed("leading", "circle", [best_x], [best_y], texts=[text], size=16))
    point_at(panel, (x, y), (best_x, best_y), f"{best_y} × {best_x}", verb="leading:")


def _leads(curve: PredictedCurve) -> bool:
    return bool(curve.best) and curve.best[0].speedup > 1
