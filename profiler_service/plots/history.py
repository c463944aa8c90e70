"""Draws one quantity over time: a fact or a canary, with changes of the platform marked."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from profiler_service.plots.figure import Figure, Sheet, error_bars, line, literal, marks
from profiler_service.plots.quantities import choose_unit, format_latency, format_number

HEIGHT = 300
MOST_NAMES = 2
"""Of what changed, beside a line."""
ROOM = 0.15
"""Share of the values' range that is left free above them, for what is written beside lines."""
Quantity = Literal["latency_s", "gain", "share"]


@dataclass(frozen=True, kw_only=True)
class HistoryPoint:
    """What was found at one time. Without a value, the line has a gap there."""

    time: dt.datetime
    value: float | None
    low: float | None = None
    """Lower end of the 95 % interval, if there is one. Also for `high`."""
    high: float | None = None
    is_noisy: bool = False
    note: str = ""
    """What is said of it besides."""


@dataclass(frozen=True, kw_only=True)
class PlatformChange:
    """A time from which the platform is another one."""

    time: dt.datetime
    what: str
    """What changed: `framework: torch 2.13.0 → torch 2.14.0`. Several changes have `; ` between."""


def history_figure(
    points: Sequence[HistoryPoint],
    *,
    title: str,
    quantity: Quantity,
    changes: Sequence[PlatformChange] = (),
    limit: float | None = None,
) -> Figure:
    """The figure of a quantity over time, with intervals, changes of the platform, and a limit.

    `gain` is a multiple, drawn against 1; `share`, a host's noise, is shown in percent.
    """
    sheet = Sheet(title=literal(title), has_legend=False)
    panel = sheet.panel(HEIGHT)
    values = _column(points, "value")
    largest = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    unit, size = choose_unit(largest) if quantity == "latency_s" else ("", 1.0)
    if quantity == "share":
        unit, size = "%", 0.01
    value, low, high = (
        each / size for each in (values, _column(points, "low"), _column(points, "high"))
    )
    times = [point.time.isoformat() for point in points]
    panel.add(line("", times, value, {"color": "role:second", "width": 1.5}))
    is_noisy = np.array([point.is_noisy for point in points], dtype=bool)
    for name, color, symbol, chosen in (
        ("measured", "role:second", "circle", ~is_noisy),
        ("noisy", "role:undecided", "circle-open", is_noisy),
    ):
        numbers = np.flatnonzero(chosen & np.isfinite(value)).tolist()
        if numbers:
            panel.add(
                marks(
                    name,
                    [times[number] for number in numbers],
                    value[numbers],
                    {"color": color, "symbol": symbol, "size": 7, "line": {"width": 1.5}},
                    texts=[_text(points[number], quantity) for number in numbers],
                    error_y=error_bars(value[numbers], low[numbers], high[numbers], color),
                    meta={"step": True},
                )
            )
    names = {
        "latency_s": f"latency of one call, {unit}",
        "gain": "× as fast",
        "share": "smallest difference, %",
    }
    panel.name_y(names[quantity])
    panel.set_x(type="date", showgrid=False)
    panel.set_y(nticks=6)
    level = 1.0 if quantity == "gain" else limit
    if level is not None:
        across = {"xref": "x domain", "x0": 0, "x1": 1, "y0": level / size, "y1": level / size}
        panel.shape(
            type="line", line={"color": "role:control", "width": 1, "dash": "dash"}, **across
        )
        told = (
            "1: as fast" if quantity == "gain" else f"limit: {format_number(level / size)} {unit}"
        )
        panel.note(told, x=1, xref="x domain", xanchor="right", y=level / size, yanchor="bottom")
    drawn = np.concatenate([value, low, high])
    if changes and np.isfinite(drawn).any():
        least, most = float(np.nanmin(drawn)), float(np.nanmax(drawn))
        room = ROOM * (most - least or abs(most) or 1.0)
        panel.set_y(range=[least - room / 3, most + room])
    for change in changes:
        time = change.time.isoformat()
        # Beside the line, on the side that has more room.
        is_late = bool(points) and change.time - points[0].time > points[-1].time - change.time
        upwards = {"x0": time, "x1": time, "yref": "y domain", "y0": 0, "y1": 1}
        panel.shape(
            type="line", line={"color": "role:predicted", "width": 1.5, "dash": "dot"}, **upwards
        )
        beside = {"xanchor": "right", "xshift": -4} if is_late else {"xanchor": "left", "xshift": 4}
        top = {"yref": "y domain", "yanchor": "top"}
        panel.note(literal(_shorten(change.what)), x=time, y=1, **top, **beside)
    return sheet.build()


def _shorten(what: str) -> str:
    """The names of what changed: the whole text is too long beside a line on a phone."""
    names = [each.partition(": ")[0] for each in what.split("; ")]
    if len(names) > MOST_NAMES:
        return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"
    return ", ".join(names)


def _column(points: Sequence[HistoryPoint], name: str) -> np.ndarray:
    values = (getattr(point, name) for point in points)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _format(value: float, quantity: Quantity) -> str:
    if quantity == "latency_s":
        return format_latency(value)
    return f"{format_number(100 * value)} %" if quantity == "share" else f"{format_number(value)} ×"


def _text(point: HistoryPoint, quantity: Quantity) -> str:
    assert point.value is not None
    text = f"<b>{_format(point.value, quantity)}</b>"
    if point.low is not None and point.high is not None:
        text += f" ({_format(point.low, quantity)} to {_format(point.high, quantity)})"
    lines = [text, f"{point.time:%Y-%m-%d %H:%M}"]
    if point.is_noisy:
        lines.append("noisy")
    if point.note:
        lines.append(literal(point.note))
    return "<br>".join(lines)
