"""Draws a curve of one axis: its points with LHPs, staircase, bins, and what growing gains."""

from __future__ import annotations

import numpy as np

from profiler_service.plan.modes import MODES
from profiler_service.plots.columns import STATES, Columns, Values, build_values, least_at_or_above
from profiler_service.plots.figure import (
    TEXT_POINTS,
    Array,
    Panel,
    Scale,
    Sheet,
    View,
    error_bars,
    line,
    marks,
    pack,
    ringed,
)
from profiler_service.plots.kernels import choose_ticks
from profiler_service.plots.quantities import format_gain, format_tick, log_ticks, size_ticks
from profiler_service.wire import CurveDetail

HEIGHT, RIBBON_HEIGHT, GAINS_HEIGHT = 360, 8, 96
LARGE_MARKS, SMALL_MARKS = 8, 4.5
MOST_SHADED = 400
"""Of more bins, none is shaded under the pointer: it would be a hairline, and each time the whole
figure would be drawn anew."""
MANY_POINTS = 400
"""With more points than this, LHPs are drawn smaller, too."""
MOST_BARS = 4_000
"""An axis with room for more bars than this has marks instead: bars would be too thin."""
PATTERN_SHARE = 0.7
"""Share of the largest gains that must lie one below a multiple, to be called a pattern."""
FEWEST_STRONG = 4
LARGEST_MULTIPLE = 1024


def draw_staircase(
    sheet: Sheet, curve: CurveDetail, columns: Columns, *, view: View, scale: Scale
) -> Panel:
    """Draws the curve on a panel of the sheet, with its bins and gains on further ones below."""
    panel = sheet.panel(HEIGHT)
    values = build_values(curve, columns, view)
    dims = columns.dims[:, 0]
    if columns.decides and view == "latency" and len(dims):
        panel.add(_staircase(dims, values.value))
    size = LARGE_MARKS if len(dims) <= MANY_POINTS else SMALL_MARKS
    undecided = ("role:undecided", "diamond-open", size, "undecided")
    for status, (color, symbol, width, label) in {
        "dominated": ("role:measured", "circle", SMALL_MARKS, "measured, 95 % interval"),
        "undecided": undecided
        if columns.decides
        else ("role:measured", "circle", SMALL_MARKS, "looked at"),
        "edge": ("role:lhp", "triangle-right-open", size + 2, STATES["edge"]),
        "lhp": ("role:lhp", "circle", size, _name_lhps(curve, columns)),
    }.items():
        chosen = columns.where(status)
        if not chosen.any():
            continue
        value, low, high = (each[chosen] for each in (values.value, values.low, values.high))
        stroke = 1.5 if len(dims) <= MANY_POINTS else 1
        marker = {"color": color, "symbol": symbol, "size": width, "line": {"width": stroke}}
        if not symbol.endswith("-open"):
            marker["line"] = {"width": 0}
        panel.add(
            marks(
                label,
                dims[chosen],
                value,
                marker,
                texts=columns.texts(chosen),
                error_y=error_bars(value, low, high, color),
                meta={"step": True},
                **({"hoverinfo": "x+y"} if len(dims) > TEXT_POINTS else {}),
            )
        )
    _draw_cut_ends(panel, dims, values)
    _draw_failures(panel, curve, values)
    _draw_asked(panel, columns, values, scale)
    _scale_values(panel, values, scale)
    last = panel
    if columns.decides and curve.bins:
        last = _draw_bins(sheet, curve)
    if columns.decides and (columns.gain_low > 1).any():
        last = _draw_gains(sheet, columns)
    _scale_sizes(sheet, panel, last, curve, columns)
    return panel


def _name_lhps(curve: CurveDetail, columns: Columns) -> str:
    num_drawn = np.count_nonzero(columns.where("lhp"))
    is_part = columns.decides and num_drawn < curve.num_lhps
    return f"LHP, {num_drawn:,} of {curve.num_lhps:,}" if is_part else "LHP"


def _staircase(dims: Array, value: Array) -> dict[str, object]:
    least = least_at_or_above(value)
    corners = np.flatnonzero(np.append(np.diff(least) != 0, True))
    corners = corners if corners[0] == 0 else np.insert(corners, 0, 0)
    style = {"color": "role:lhp/0.6", "width": 1, "shape": "vh"}
    if len(corners) > 4_000:  # WebGL draws no steps as well, and nobody sees them
        style["shape"] = "linear"
    return line("least latency at or above", dims[corners], least[corners], style)


def _draw_cut_ends(panel: Panel, dims: Array, values: Values) -> None:
    """Draws a chevron where an interval is cut."""
    for is_cut, ends, symbol in (
        (values.is_cut_low, values.low, "triangle-down"),
        (values.is_cut_high, values.high, "triangle-up"),
    ):
        if is_cut.any():
            marker = {"color": "role:measured", "symbol": symbol, "size": 6}
            name = "interval goes on"
            panel.add(marks(name, dims[is_cut], ends[is_cut], marker, showlegend=False))


def _draw_failures(panel: Panel, curve: CurveDetail, values: Values) -> None:
    if not curve.failures:
        return
    x = [failure.dims[0] for failure in curve.failures]
    texts = [f"<b>{each.dims[0]}</b>  failed<br>{each.reason}" for each in curve.failures]
    marker = {"color": "role:slower", "symbol": "x-thin-open", "size": 8, "line": {"width": 2}}
    floor = [values.limits[0]] * len(x)
    panel.add(marks("failed", x, floor, marker, texts=texts, cliponaxis=False))


def _draw_asked(panel: Panel, columns: Columns, values: Values, scale: Scale) -> None:
    """Draws the point that was asked about, and an arrow to the answer, if it is confirmed."""
    asked = columns.asked
    if asked < 0:
        return
    x, y = columns.dims[:, 0].tolist(), values.value.tolist()
    panel.add(*ringed("asked", "square", [x[asked]], [y[asked]], texts=[columns.text(asked)]))
    if columns.is_confirmed(asked):
        answer = int(columns.rival[asked])
        texts = [columns.text(answer)]
        panel.add(*ringed("answer", "circle", [x[answer]], [y[answer]], texts=texts, size=14))
        at = np.log10(values.value).tolist() if scale == "log" else y  # annotations have logarithms
        point_at(panel, (x[asked], at[asked]), (x[answer], at[answer]), columns.label(answer))


def point_at(
    panel: Panel,
    asked: tuple[float, float],
    answer: tuple[float, float],
    name: str,
    *,
    verb: str = "use",
) -> None:
    """Draws the arrow from the asked point to the answer, and says which that is.

    `verb` is what to do with it.
    """
    panel.note(
        "",
        x=answer[0],
        y=answer[1],
        ax=asked[0],
        ay=asked[1],
        axref=f"x{panel.suffix}",
        ayref=f"y{panel.suffix}",
        showarrow=True,
        arrowhead=2,
        arrowwidth=1.5,
        arrowcolor="role:ink",
        standoff=8,
        startstandoff=8,
    )
    look = {"bgcolor": "role:card", "bordercolor": "role:line", "borderpad": 4}
    place = {"xanchor": "left", "xshift": 14}
    font = {"size": 12, "color": "role:ink"}
    panel.note(f"{verb} {name}", x=answer[0], y=answer[1], font=font, **look, **place)


def _scale_values(panel: Panel, values: Values, scale: Scale) -> None:
    panel.name_y(f"{values.name}{', log' if scale == 'log' else ''}")
    panel.set_x(showgrid=False)
    low, high = values.limits
    if scale == "linear" or not values.value.size:
        panel.set_y(range=[low, high], nticks=7)
        return
    least = float(np.fmin(values.value, values.low).min())
    low, high = 0.96 * (least if least > 0 else values.value.min()), 1.04 * high
    ticks = log_ticks(low, high)
    panel.set_y(
        type="log",
        range=[float(np.log10(low)), float(np.log10(high))],
        tickvals=ticks,
        ticktext=[format_tick(tick) for tick in ticks],
    )


def _scale_sizes(
    sheet: Sheet, panel: Panel, last: Panel, curve: CurveDetail, columns: Columns
) -> None:
    """Scales the axis to the right, which all panels of the curve share."""
    axis, name = curve.axes[0], curve.axis_names[0]
    half = axis.step / 2
    room = max(half, (axis.last - axis.first) / 100)
    limits: dict[str, object] = {"range": [axis.first - room, axis.last + room]}
    if columns.names:
        ticks = choose_ticks(columns.names)
        limits |= {"tickvals": list(ticks), "ticktext": list(ticks.values())}
    else:
        places, step = size_ticks(axis.first, axis.last)
        limits |= {"tickvals": places, "ticktext": [str(place) for place in places]}
        name += f", ticks at multiples of {step}" if step > 1 else ""
    for each in sheet.panels[panel.number - 1 :]:
        each.set_x(showgrid=False, **limits)
        if each is not last:
            each.set_x(showticklabels=False)
        if each is not panel:
            each.set_x(matches=f"x{panel.suffix}")
    last.set_x(ticks="outside", ticklen=4, showline=True)
    last.name_x(name)


def bin_edges(curve: CurveDetail) -> list[tuple[float, float]]:
    """Left and right edge of each hysteresis bin; neighbours touch.

    Empty for a race or a survey, which decides only for one point whether it is an LHP.
    """
    if not MODES[curve.mode].decides_every_point:
        return []
    half = curve.axes[0].step / 2
    return [(bin_.first - half, bin_.last + half) for bin_ in curve.bins]


def _draw_bins(sheet: Sheet, curve: CurveDetail) -> Panel:
    """Draws the bins as a ribbon, in two colours by turns."""
    panel = sheet.panel(RIBBON_HEIGHT, gap=8)
    edges = bin_edges(curve)
    bounds = [left for left, _ in edges] + [edges[-1][1]]
    panel.add(
        {
            "type": "heatmap",
            "name": "hysteresis bins",
            "x": pack(bounds),
            "y": [0, 1],
            "z": [[number % 2 for number in range(len(edges))]],
            "zmin": 0,
            "zmax": 1,
            "colorscale": [[0, "role:bin-a"], [1, "role:bin-b"]],
            "showscale": False,
            "hovertext": [
                [
                    f"bin {each.first} to {each.last}<br>ends with LHP {each.last}"
                    for each in curve.bins
                ]
            ],
            "hoverinfo": "text",
        }
    )
    panel.set_y(range=[0, 1], showticklabels=False, showgrid=False, fixedrange=True)
    where = {"xref": f"x{panel.suffix} domain", "xanchor": "right", "xshift": -8}
    panel.note("bins", x=0, y=0.5, **where)
    if len(edges) <= MOST_SHADED:
        sheet.meta["bins"] = bounds
    return panel


def find_pattern(dims: Array, gains: Array) -> int:
    """Such a number that the sizes that gain most lie one below its multiples; 0 if there is none.

    `gains` are 1 where nothing is gained. Of as many of the largest gains as there are sizes one
    below a multiple, PATTERN_SHARE must be such sizes. The largest power of two from 4 on is taken.
    Source: ours.
    """
    by_gain = np.argsort(-gains, kind="stable")
    multiple = LARGEST_MULTIPLE
    while multiple >= 4:
        is_below = (dims + 1) % multiple == 0
        largest = by_gain[: int(is_below.sum())]
        is_gained = len(largest) >= FEWEST_STRONG and gains[largest].min() > 1
        if is_gained and is_below[largest].mean() >= PATTERN_SHARE:
            return multiple
        multiple //= 2
    return 0


def _draw_gains(sheet: Sheet, columns: Columns) -> Panel:
    """Draws what each dominated point gains by growing, and names the largest gain."""
    panel = sheet.panel(GAINS_HEIGHT, gap=36)
    dims = columns.dims[:, 0]
    gained = np.where(columns.where("dominated") & (columns.gain_low > 1), columns.gain, 1.0)
    pattern = find_pattern(dims, gained)
    most = int(gained.argmax())
    is_green = (dims + 1) % pattern == 0 if pattern else np.arange(len(dims)) == most
    percent = 100 * (gained - 1)
    for name, color, of_group in (
        ("gain", "role:measured/0.6", ~is_green),
        (
            f"gain, 1 below multiples of {pattern}" if pattern else "largest gain",
            "role:faster",
            is_green,
        ),
    ):
        chosen = of_group & (gained > 1)
        if chosen.any():
            bars = {
                "type": "bar",
                "width": 0.7 * _least_step(dims),
                "marker": {"color": color, "line": {"width": 0}},
            }
            if np.ptp(dims) > MOST_BARS * _least_step(dims):
                bars = {"marker": {"color": color, "size": 3}}
            texts = columns.texts(chosen)
            trace = marks(name, dims[chosen], percent[chosen], {}, texts=texts, showlegend=False)
            panel.add(trace | bars)
    undecided = columns.where("undecided")
    if undecided.any() and len(dims) <= MANY_POINTS:
        marker = {"color": "role:undecided", "symbol": "diamond-open", "size": 6}
        zeros = np.zeros(int(undecided.sum()))
        panel.add(
            marks("undecided", dims[undecided], zeros, marker, showlegend=False, cliponaxis=False)
        )
    rival = columns.label(int(columns.rival[most]))
    told = f"{columns.label(most)} → {rival}: {format_gain(gained[most])}"
    panel.note(
        told,
        x=int(dims[most]),
        y=float(percent[most]),
        yanchor="bottom",
        xanchor="left" if most < len(dims) / 2 else "right",
        font={"size": 12, "color": "role:ink"},
    )
    panel.name_y("gain by growing, %")
    panel.set_y(range=[0, 1.3 * float(percent.max())], nticks=4)
    return panel


def _least_step(dims: Array) -> float:
    return float(np.diff(dims).min()) if len(dims) > 1 else 1.0
