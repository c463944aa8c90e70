"""Draws two to six curves over each other: how fast each is as a multiple of the first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from profiler_service.errors import InvalidRequestError
from profiler_service.plots.columns import F64, invert
from profiler_service.plots.figure import Array, Figure, Panel, Scale, Sheet, line, literal, marks
from profiler_service.plots.quantities import (
    choose_unit,
    format_gain,
    format_latency,
    format_number,
    format_tick,
    log_ticks,
    power_ticks,
    size_ticks,
)
from profiler_service.wire import CurveComparison

SYMBOLS = ("circle", "diamond", "triangle-up", "square", "cross", "triangle-down")
"""Of the curves, the baseline first. Shape backs colour."""
HEIGHT = 380
LABEL_SPACE = 168
"""Pixels on the right, for the curves' labels."""
LABEL_GAP = 34
"""Least distance of two labels in pixels: each has two lines."""
MOST_MARKS = 40
WIDE = 4.0
"""If the largest size is so many times the smallest, the axis of sizes is logarithmic."""


@dataclass(frozen=True, kw_only=True)
class ComparedLine:
    """One of the compared curves, as columns of equal length, by rising size."""

    label: str
    dims: Sequence[int]
    latency_s: Sequence[float | None]
    low_s: Sequence[float | None] | None = None
    high_s: Sequence[float | None] | None = None
    ratio: Sequence[float | None] | None = None
    """Its latency divided by that of the first curve; None where that isn't known. Not needed of
    the first curve itself. Also for the ends of the interval, `ratio_low` and `ratio_high`."""
    ratio_low: Sequence[float | None] | None = None
    ratio_high: Sequence[float | None] | None = None


@dataclass(frozen=True, kw_only=True)
class _Gains:
    """How many times as fast a curve is as the first one; NaN where that isn't known."""

    dims: Array
    gain: F64
    low: F64
    high: F64


def _column(values: Sequence[float | None] | None, length: int) -> F64:
    if values is None:
        return np.full(length, np.nan)
    return np.array([np.nan if each is None else each for each in values], dtype=np.float64)


def _gains(curve: ComparedLine) -> _Gains:
    count = len(curve.dims)
    ratio, low, high = (
        _column(each, count) for each in (curve.ratio, curve.ratio_low, curve.ratio_high)
    )
    return _Gains(
        dims=np.asarray(curve.dims), gain=invert(ratio), low=invert(high), high=invert(low)
    )


def describe_comparison(curves: Sequence[ComparedLine], *, axis: str) -> str:
    """What the comparison shows, as a sentence without a full stop; of several, of the fastest.

    Only sizes count whose interval on the ratio is on one side of 1.
    """
    base = curves[0].label
    compared = [(curve.label, _gains(curve)) for curve in curves[1:]]
    known = [(label, each) for label, each in compared if np.isfinite(each.gain).any()]
    if not known:
        return f"Nothing can be compared with {base}: there is no common {axis}"
    label, gains = max(known, key=lambda pair: float(np.nanmean(np.log(pair[1].gain))))
    with_gain = np.isfinite(gains.gain)
    dims, gain = gains.dims[with_gain], gains.gain[with_gain]
    is_faster, is_slower = gains.low[with_gain] > 1, gains.high[with_gain] < 1
    total = len(dims)
    span = f"{format_number(gain.min())} to {format_number(gain.max())} × as fast"
    if is_faster.all() or is_slower.all():
        word = "faster" if is_faster.all() else "slower"
        return f"{label} is {word} than {base} at every {axis}: {span}"
    start = total - int(np.argmin(is_faster[::-1]))
    if start < total and not is_faster[:start].any():
        text = f"From {axis} {dims[start]} on, {label} is faster than {base}"
        return f"{text}: {format_gain(gain[-1])} at {dims[-1]}"
    if not is_faster.any() and not is_slower.any():
        return f"{label} and {base} can't be told apart at any {axis}"
    counts = f"{label} is faster than {base} at {is_faster.sum()} of {total}"
    return f"{counts}, and slower at {is_slower.sum()}"


def compare_figure(
    curves: Sequence[ComparedLine],
    *,
    axis: str,
    is_paired: bool,
    view: Literal["ratio", "latency"] = "ratio",
    scale: Scale = "log",
) -> Figure:
    """The figure of two to six curves over one axis: ratios to the first, or latencies.

    `is_paired` says whether the intervals come from samples of the same rounds; without, from each
    curve alone. Raises InvalidRequestError for fewer or more curves.
    """
    if not 2 <= len(curves) <= len(SYMBOLS):
        raise InvalidRequestError(
            f"{len(curves)} curves can't be compared in one chart",
            hint=f"choose 2 to {len(SYMBOLS)} curves",
        )
    title = literal(describe_comparison(curves, axis=axis))
    axis, base = literal(axis), literal(curves[0].label)
    kind = "paired within rounds" if is_paired else "from independent measurements"
    what = f"ratio of medians, 95 % band, {kind}" if view == "ratio" else "medians"
    sheet = Sheet(title=title, subtitle=what, right=LABEL_SPACE, has_legend=False)
    panel = sheet.panel(HEIGHT)
    ends = (
        _draw_ratios(panel, curves, scale)
        if view == "ratio"
        else _draw_latencies(panel, curves, scale)
    )
    if view == "ratio":
        panel.name_y(f"× as fast as {base}")
    _scale_sizes(panel, curves, axis)
    _label_ends(panel, curves, ends, scale)
    return sheet.build()


def _look(number: int) -> tuple[str, dict[str, object], dict[str, object]]:
    """Colour, line and mark of the curve of that number."""
    color = f"role:curve-{number + 1}"
    mark = {"color": color, "symbol": SYMBOLS[number], "size": 7, "maxdisplayed": MOST_MARKS}
    return color, {"color": color, "width": 1.5}, mark


def _draw_ratios(
    panel: Panel, curves: Sequence[ComparedLine], scale: Scale
) -> list[tuple[int, float, str]]:
    """Draws how many times as fast the curves are. Returns number, last value, text of each."""
    ends: list[tuple[int, float, str]] = []
    extremes = [1.0]
    for number, curve in enumerate(curves[1:], start=1):
        gains = _gains(curve)
        color, style, mark = _look(number)
        name = literal(curve.label)
        with_band = np.isfinite(gains.low) & np.isfinite(gains.high)
        if with_band.any():
            x, y = band(gains.dims, gains.low, gains.high)
            fill = {"fill": "toself", "fillcolor": f"{color}/0.2", "showlegend": False}
            panel.add(line(name, x, y, {"width": 0}, **fill))
        texts = [
            f"<b>{dim}</b>  {name}<br>{format_gain(gain)}"
            f" ({format_number(low)} to {format_number(high)} ×)"
            f"{'' if latency_s is None else '<br>' + format_latency(latency_s)}"
            if math.isfinite(gain)
            else ""
            for dim, gain, low, high, latency_s in zip(
                curve.dims, gains.gain, gains.low, gains.high, curve.latency_s, strict=True
            )
        ]
        trace = marks(
            name, gains.dims, gains.gain, mark, texts=texts, line=style, meta={"step": True}
        )
        panel.add(trace | {"mode": "lines+markers", "connectgaps": False})
        known = np.flatnonzero(np.isfinite(gains.gain))
        if len(known):
            last = int(known[-1])
            text = f"{format_number(gains.gain[last])} × at {gains.dims[last]}"
            ends.append((number, float(gains.gain[last]), text))
            extremes += [
                float(np.nanmin(np.fmin(gains.gain, gains.low))),
                float(np.nanmax(np.fmax(gains.gain, gains.high))),
            ]
    ends.append((0, 1.0, "= 1"))
    scale_ratios(panel, min(extremes), max(extremes), scale, upright=True)
    return ends


def _draw_latencies(
    panel: Panel, curves: Sequence[ComparedLine], scale: Scale
) -> list[tuple[int, float, str]]:
    """Draws the latencies of all curves. Returns number, last value, text of each."""
    columns = [_column(curve.latency_s, len(curve.dims)) for curve in curves]
    finite = np.concatenate([each[np.isfinite(each)] for each in columns])
    unit, size_s = choose_unit(float(finite.max()) if len(finite) else 1.0)
    ends: list[tuple[int, float, str]] = []
    for number, (curve, latency_s) in enumerate(zip(curves, columns, strict=True)):
        _, style, mark = _look(number)
        name = literal(curve.label)
        texts = [
            f"<b>{dim}</b>  {name}<br>{format_latency(each)}" if math.isfinite(each) else ""
            for dim, each in zip(curve.dims, latency_s.tolist(), strict=True)
        ]
        dims = np.asarray(curve.dims)
        trace = marks(
            name, dims, latency_s / size_s, mark, texts=texts, line=style, meta={"step": True}
        )
        panel.add(trace | {"mode": "lines+markers", "connectgaps": False})
        known = np.flatnonzero(np.isfinite(latency_s))
        if len(known):
            last = float(latency_s[known[-1]])
            ends.append((number, last / size_s, f"{format_latency(last)} at {dims[known[-1]]}"))
    panel.name_y(f"latency of one call, {unit}{', log' if scale == 'log' else ''}")
    if len(finite):
        scale_ratios(panel, float(finite.min()) / size_s, float(finite.max()) / size_s, scale)
    return ends


def band(x: Array, low: F64, high: F64) -> tuple[F64, F64]:
    """The outline of the band between `low` and `high`: a polygon for each run of known points.

    Polygons are separated by NaN, so that a gap isn't filled.
    """
    is_known = np.isfinite(low) & np.isfinite(high)
    bounds = np.flatnonzero(np.diff(np.concatenate([[False], is_known, [False]]).astype(int)))
    xs: list[F64] = []
    ys: list[F64] = []
    gap = np.array([np.nan])
    for start, stop in zip(bounds[::2], bounds[1::2], strict=True):
        run = np.asarray(x[start:stop], dtype=np.float64)
        xs += [run, run[::-1], gap]
        ys += [high[start:stop], low[start:stop][::-1], gap]
    return np.concatenate(xs), np.concatenate(ys)


def scale_ratios(
    panel: Panel, low: float, high: float, scale: Scale, *, upright: bool = False
) -> tuple[float, float]:
    """Scales an upright axis, with a line at 1 if `upright`. Returns its range for plotly."""
    room = (high / low) ** 0.06 if high > low else 1.1
    low, high = low / room, high * room
    if scale == "log":
        ticks = log_ticks(low, high)
        limits = (math.log10(low), math.log10(high))
        panel.set_y(type="log", tickvals=ticks, ticktext=[format_tick(tick) for tick in ticks])
    else:
        limits = (low, high)
    panel.set_y(range=list(limits), showgrid=True)
    if upright:
        across = {"xref": f"x{panel.suffix} domain", "x0": 0, "x1": 1, "y0": 1, "y1": 1}
        panel.shape(
            type="line", layer="above", line={"color": "role:curve-1", "width": 1.5}, **across
        )
    return limits


def _scale_sizes(panel: Panel, curves: Sequence[ComparedLine], axis: str) -> None:
    first = min(min(curve.dims) for curve in curves if len(curve.dims))
    last = max(max(curve.dims) for curve in curves if len(curve.dims))
    if last >= WIDE * first:
        places = power_ticks(first, last)
        limits = [math.log10(first) - 0.01, math.log10(last) + 0.01]
        panel.set_x(type="log", range=limits)
    else:
        places, _ = size_ticks(first, last)
        room = max(0.5, (last - first) / 100)
        panel.set_x(range=[first - room, last + room])
    panel.set_x(tickvals=places, ticktext=[str(place) for place in places])
    panel.name_x(axis)


def _label_ends(
    panel: Panel, curves: Sequence[ComparedLine], ends: list[tuple[int, float, str]], scale: Scale
) -> None:
    """Writes each curve's label beside the end of its line, moved so that none hides another."""
    low, high = panel.sheet.axes[f"yaxis{panel.suffix}"].get("range", (0.0, 1.0))
    places = [math.log10(value) if scale == "log" else value for _, value, _ in ends]
    pixels = [HEIGHT * (place - low) / (high - low) for place in places]
    above = -math.inf
    for index in sorted(range(len(ends)), key=pixels.__getitem__):
        number, _, text = ends[index]
        moved = max(pixels[index], above + LABEL_GAP)
        above = moved
        name = literal(curves[number].label)
        panel.note(
            f"<b>{name}</b><br>{text}",
            x=1,
            y=places[index],
            xref=f"x{panel.suffix} domain",
            xanchor="left",
            xshift=12,
            yshift=moved - pixels[index],
            align="left",
            font={"size": 12, "color": "role:ink"},
        )


def read_comparison(comparison: CurveComparison) -> list[ComparedLine]:
    """The lines of a comparison that the service sent.

    Raises InvalidRequestError if its curves have more than one axis.
    """
    if len(comparison.axis_names) > 1:
        raise InvalidRequestError(
            f"curves of {len(comparison.axis_names)} axes can't be drawn over each other",
            hint="compare curves of one axis, or read the numbers",
        )
    dims = [dims[0] for dims in comparison.dims]
    lines = []
    for each in comparison.curves:
        ratios = each.ratios
        lines.append(
            ComparedLine(
                label=each.label,
                dims=dims,
                latency_s=each.latency_s,
                low_s=each.low_s,
                high_s=each.high_s,
                ratio=None if ratios is None else ratios.ratio,
                ratio_low=None if ratios is None else ratios.ratio_low,
                ratio_high=None if ratios is None else ratios.ratio_high,
            )
        )
    return lines
