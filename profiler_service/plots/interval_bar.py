"""Draws gains with their intervals against 1: an answer alone, or with the other finalists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from profiler_service.plots.figure import Figure, Panel, Sheet, literal, marks, pack
from profiler_service.plots.quantities import format_gain, format_number, format_tick, log_ticks

ROW_HEIGHT = 36
NAME_SPACE, GAIN_SPACE = 112, 72
FAR = 1.5
"""If all intervals are so many times their own length from 1, 1 is said by an arrow."""


@dataclass(frozen=True, kw_only=True)
class Gain:
    """How many times as fast as the asked point something is, with its 95 % interval."""

    label: str
    gain: float
    low: float
    high: float
    is_answer: bool = False


def interval_bar(gains: Sequence[Gain], *, title: str = "") -> Figure:
    """The figure of the gains, the first one on top, on a logarithmic axis that shows where 1 is.

    Without a title, the figure has no space for one.
    """
    sheet = Sheet(title=literal(title), left=NAME_SPACE, right=GAIN_SPACE, has_legend=False)
    panel = sheet.panel(ROW_HEIGHT * len(gains))
    names = [literal(each.label) for each in gains]
    for number, each in enumerate(gains):
        if each.is_answer:
            color, symbol = "role:faster", "circle"
            interval = {"x0": each.low, "x1": each.high, "yref": "y domain", "y0": 0, "y1": 1}
            panel.shape(type="rect", fillcolor="role:faster-soft", **interval)
        else:
            color, symbol = "role:measured", "circle"
        text = (
            f"<b>{names[number]}</b><br>{format_gain(each.gain)}"
            f" ({format_number(each.low)} to {format_number(each.high)} ×)"
        )
        bars = {
            "type": "data",
            "symmetric": False,
            "array": pack([each.high - each.gain]),
            "arrayminus": pack([each.gain - each.low]),
            "thickness": 2,
            "width": 0,
            "color": color,
        }
        marker = {"color": color, "symbol": symbol, "size": 11 if each.is_answer else 8}
        trace = marks(names[number], [each.gain], [number], marker, texts=[text], error_x=bars)
        panel.add(trace | {"meta": {"step": True}})
        right = {"xref": "x domain", "xanchor": "left", "xshift": 12}
        bold = {"size": 12, "color": "role:ink", "weight": 600 if each.is_answer else 400}
        panel.note(f"{format_number(each.gain)} ×", x=1, y=number, font=bold, **right)
    _scale(panel, min(each.low for each in gains), max(each.high for each in gains))
    panel.set_y(
        range=[len(gains) - 0.5, -0.5],
        tickvals=list(range(len(gains))),
        ticktext=names,
        showgrid=False,
        tickfont={"color": "role:ink"},
    )
    panel.name_x("× as fast as asked")
    return sheet.build()


def _scale(panel: Panel, low: float, high: float) -> None:
    """Scales the axis around the intervals, and around 1 if that isn't far away."""
    length = math.log(high / low) or math.log(FAR)
    if math.log(low) > FAR * length or math.log(1 / high) > FAR * length:
        left = low > 1
        place = {"x": 0 if left else 1, "xanchor": "left" if left else "right", "xref": "x domain"}
        text = "◂ asked is at 1" if left else "asked is at 1 ▸"
        panel.note(text, y=0, yref="y domain", yanchor="top", yshift=-24, **place)
    else:
        low, high = min(low, 1.0), max(high, 1.0)
        upwards = {"x0": 1, "x1": 1, "yref": "y domain", "y0": 0, "y1": 1}
        panel.shape(type="line", layer="above", line={"color": "role:ink", "width": 1}, **upwards)
    room = (high / low) ** 0.1 if high > low else 1.1
    low, high = low / room, high * room
    ticks = log_ticks(low, high)
    panel.set_x(
        type="log",
        range=[math.log10(low), math.log10(high)],
        tickvals=ticks,
        ticktext=[format_tick(tick) for tick in ticks],
    )
