"""The parts of every chart: panels with their axes, marks, texts, and packed columns.

A figure is a plain dict for plotly.js, with roles in place of colours. plotly's Python package is
never imported: it takes long, and only its script is needed, where a figure is drawn.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from profiler_service.printable import printable

Figure = dict[str, Any]
Trace = dict[str, Any]
Array = npt.NDArray[Any]
View = Literal["latency", "per_flop", "relative"]
Scale = Literal["linear", "log"]

FONT = "Inter, system-ui, sans-serif"
WIDTH = 1000
"""Of a file's picture, in pixels."""
LEFT, RIGHT, BOTTOM = 64, 24, 52
TITLE_HEIGHT, LINE_HEIGHT, LEGEND_HEIGHT, LABEL_HEIGHT = 66, 30, 30, 28
GL_POINTS = 4_000
"""With more points than this, a trace is drawn by WebGL."""
TEXT_POINTS = 5_000
"""With more points than this, they have no hover texts: they would outweigh the data."""


def literal(text: str) -> str:
    """The text so that plotly shows it as it is: without tags, some of which plotly obeys."""
    return html.escape(printable(text), quote=False)


def pack(values: Array | Sequence[float | None]) -> dict[str, str]:
    """Numbers as plotly's typed array: base64 of their bytes. None becomes NaN.

    float32 for many numbers, because the screen shows no more.
    """
    array = (
        np.array([np.nan if v is None else v for v in values])
        if isinstance(values, (list, tuple))
        else np.asarray(values)
    )
    if array.dtype.kind in "iub":
        array = array.astype("<i4")
    else:
        array = array.astype("<f4" if array.size > GL_POINTS else "<f8")
    packed = {"dtype": array.dtype.str[1:], "bdata": base64.b64encode(array.tobytes()).decode()}
    if array.ndim > 1:
        packed["shape"] = ", ".join(map(str, array.shape))
    return packed


def unpack(packed: dict[str, str]) -> Array:
    """The inverse of `pack`."""
    array = np.frombuffer(base64.b64decode(packed["bdata"]), dtype=f"<{packed['dtype']}")
    return (
        array.reshape([int(n) for n in packed["shape"].split(",")]) if "shape" in packed else array
    )


def marks(
    name: str,
    x: Array | Sequence[Any],
    y: Array | Sequence[Any],
    marker: dict[str, Any],
    *,
    texts: Sequence[str] = (),
    **more: Any,
) -> Trace:
    """A trace of marks, with a hover text each; without texts, they can't be pointed at."""
    trace: Trace = {
        "type": "scattergl" if len(x) > GL_POINTS else "scatter",
        "mode": "markers",
        "name": name,
        "x": _column(x),
        "y": _column(y),
        "marker": marker,
    }
    if texts:
        trace |= {"hovertext": list(texts), "hoverinfo": "text"}
    else:
        trace["hoverinfo"] = "skip"
    return trace | more


def line(
    name: str,
    x: Array | Sequence[Any],
    y: Array | Sequence[Any],
    style: dict[str, Any],
    **more: Any,
) -> Trace:
    """A trace of a line. It breaks where a value is missing."""
    return {
        "type": "scattergl" if len(x) > GL_POINTS else "scatter",
        "mode": "lines",
        "name": name,
        "x": _column(x),
        "y": _column(y),
        "line": style,
        "hoverinfo": "skip",
        "connectgaps": False,
        **more,
    }


def _column(values: Array | Sequence[Any]) -> Any:
    if isinstance(values, np.ndarray):
        return pack(values)
    values = list(values)
    return values if values and isinstance(values[0], str) else pack(values)


def error_bars(value: Array, low: Array, high: Array, color: str) -> dict[str, Any]:
    """Hairlines from `low` to `high` for a trace; none where an end isn't known."""
    return {
        "type": "data",
        "symmetric": False,
        "array": pack(np.where(np.isfinite(high), high - value, 0.0)),
        "arrayminus": pack(np.where(np.isfinite(low), value - low, 0.0)),
        "thickness": 1,
        "width": 0,
        "color": color,
    }


def ringed(
    name: str,
    symbol: str,
    x: Sequence[Any],
    y: Sequence[Any],
    *,
    texts: Sequence[str],
    size: int = 12,
) -> list[Trace]:
    """A hollow mark in ink with a halo, which is seen on everything: two traces."""
    halo = {"symbol": f"{symbol}-open", "size": size, "color": "role:card"}
    mark = {"symbol": f"{symbol}-open", "size": size, "color": "role:ink"}
    group: dict[str, Any] = {"cliponaxis": False, "legendgroup": name}
    return [
        marks(name, x, y, halo | {"line": {"width": 6}}, showlegend=False, **group),
        marks(name, x, y, mark | {"line": {"width": 2}}, texts=texts, **group),
    ]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes of a sheet: a number of pixels high, and a share of the width."""

    sheet: Sheet
    number: int
    top: int
    height: int
    share: tuple[float, float]

    @property
    def suffix(self) -> str:
        """What plotly adds to the names of its axes: nothing for the first panel."""
        return str(self.number) if self.number > 1 else ""

    @property
    def legend(self) -> str:
        """What plotly calls its legend, if it has one of its own."""
        return f"legend{self.number}"

    def add(self, *traces: Trace) -> None:
        """Draws the traces on the panel."""
        for trace in traces:
            self.sheet.traces.append(
                trace | {"xaxis": f"x{self.suffix}", "yaxis": f"y{self.suffix}"}
            )

    def set_x(self, **changes: Any) -> None:
        """Changes the axis that runs to the right."""
        self.sheet.axes.setdefault(f"xaxis{self.suffix}", {}).update(changes)

    def set_y(self, **changes: Any) -> None:
        """Changes the axis that runs upwards."""
        self.sheet.axes.setdefault(f"yaxis{self.suffix}", {}).update(changes)

    def note(self, text: str, *, x: Any, y: Any, **more: Any) -> None:
        """Writes a text at a point of the panel's axes; references can be changed in `more`."""
        self.sheet.notes.append(
            {
                "text": text,
                "x": x,
                "y": y,
                "xref": f"x{self.suffix}",
                "yref": f"y{self.suffix}",
                "showarrow": False,
                "font": {"size": 12, "color": "role:second"},
                **more,
            }
        )

    def name_y(self, text: str) -> None:
        """Writes name and unit at the upper end of the axis, horizontally."""
        above = {"yref": f"y{self.suffix} domain", "yanchor": "bottom", "yshift": 8}
        left = {"xref": f"x{self.suffix} domain", "xanchor": "left", "xshift": -44}
        self.note(f"↑ {text}", x=0, y=1, **above, **left)

    def name_x(self, text: str, *, shift: int = -24) -> None:
        """Writes name and unit at the right end of the axis, below the labels of its ticks."""
        below = {"yref": f"y{self.suffix} domain", "yanchor": "top", "yshift": shift}
        right = {"xref": f"x{self.suffix} domain", "xanchor": "right"}
        self.note(f"{text} →", x=1, y=0, **below, **right)

    def shape(self, **shape: Any) -> None:
        """Draws a plotly shape; its references are the panel's axes, unless it names others."""
        references = {"xref": f"x{self.suffix}", "yref": f"y{self.suffix}"}
        self.sheet.shapes.append({"layer": "below", "line": {"width": 0}} | references | shape)


@dataclass(kw_only=True)
class Sheet:
    """A figure under construction: panels below each other, under a title and a legend."""

    title: str
    subtitle: str = ""
    right: int = RIGHT
    left: int = LEFT
    has_legend: bool = True
    traces: list[Trace] = field(default_factory=list)
    axes: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[dict[str, Any]] = field(default_factory=list)
    shapes: list[dict[str, Any]] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    own_legends: list[Panel] = field(default_factory=list)
    """Panels with a legend of their own above them."""
    meta: dict[str, Any] = field(default_factory=dict)
    """What the pages' script reads; see `static/figures.js`."""

    def panel(self, height: int, *, gap: int = 0, share: tuple[float, float] = (0, 1)) -> Panel:
        """A new panel, `gap` pixels below those before; beside the last one, if `share` begins
        where that ends."""
        last = self.panels[-1] if self.panels else None
        if last is not None and share[0] >= last.share[1]:
            top = last.top
        else:
            top = max((each.top + each.height for each in self.panels), default=0) + gap
        panel = Panel(sheet=self, number=len(self.panels) + 1, top=top, height=height, share=share)
        self.panels.append(panel)
        return panel

    def build(self) -> Figure:
        """The figure."""
        total = max(panel.top + panel.height for panel in self.panels)
        title_height = (TITLE_HEIGHT if self.subtitle else LINE_HEIGHT) if self.title else 0
        head = 16 + title_height + (LEGEND_HEIGHT if self.has_legend else 0) + LABEL_HEIGHT
        for panel in self.panels:
            above, below = panel.top / total, (panel.top + panel.height) / total
            panel.set_x(domain=list(panel.share), anchor=f"y{panel.suffix}")
            panel.set_y(domain=[max(0.0, 1 - below), 1 - above], anchor=f"x{panel.suffix}")
        style = {
            "gridcolor": "role:grid",
            "linecolor": "role:control",
            "tickcolor": "role:control",
            "tickfont": {"color": "role:third"},
            "zeroline": False,
            "showline": False,
            "ticks": "",
            "ticklabelstandoff": 4,
        }
        layout: dict[str, Any] = {
            "title": {
                "text": self.title,
                "subtitle": {"text": self.subtitle, "font": {"size": 13, "color": "role:third"}},
                "font": {"size": 16, "color": "role:ink", "weight": 600},
                "x": 0,
                "xref": "container",
                "xanchor": "left",
                "y": 1,
                "yref": "container",
                "yanchor": "top",
                "pad": {"l": 20, "t": 16},
            },
            "font": {"family": FONT, "size": 12, "color": "role:second"},
            "paper_bgcolor": "role:card",
            "plot_bgcolor": "role:card",
            "height": head + total + BOTTOM,
            "margin": {"l": self.left, "r": self.right, "t": head, "b": BOTTOM},
            "hovermode": "closest",
            "hoverlabel": {
                "align": "left",
                "bgcolor": "role:card",
                "bordercolor": "role:control",
                "font": {"family": FONT, "size": 12, "color": "role:ink"},
            },
            "showlegend": self.has_legend,
            "barmode": "overlay",
            "legend": {
                "orientation": "h",
                "x": 0,
                "y": 1 + LABEL_HEIGHT / total,
                "yanchor": "bottom",
                "font": {"color": "role:second"},
                "bgcolor": "role:card/0",
            },
            "annotations": self.notes,
            "shapes": self.shapes,
            "meta": {
                "title_height": title_height,
                "legend_height": LEGEND_HEIGHT if self.has_legend else 0,
                **self.meta,
            },
        }
        for panel in self.own_legends:
            y = 1 - (panel.top - LABEL_HEIGHT) / total
            layout[panel.legend] = layout["legend"] | {"y": y}
        layout |= {name: style | changes for name, changes in self.axes.items()}
        return {"data": self.traces, "layout": layout}
