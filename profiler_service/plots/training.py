"""Draws a training run: its metric over epochs, and its dims over steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from profiler_service.plots.compare import SYMBOLS, scale_ratios
from profiler_service.plots.figure import (
    TEXT_POINTS,
    Figure,
    Sheet,
    line,
    literal,
    marks,
)
from profiler_service.plots.quantities import format_number

HEIGHT = 320
LOGARITHMIC = 2.0
"""If the largest value of a metric is so many times the smallest, its axis is logarithmic."""


@dataclass(frozen=True, kw_only=True)
class EpochPoint:
    """What one epoch ended with. Values that aren't known are None."""

    step: str
    round: int
    epoch: int
    """Number within the step."""
    valid: float | None
    train: float | None


@dataclass(frozen=True, kw_only=True)
class StepDims:
    """The dims that a step ended with."""

    step: str
    short: str
    """Label of the step below the axis."""
    dims: Sequence[int]


@dataclass(kw_only=True)
class _Trace:
    """A line with its hover texts. It breaks where a value is None."""

    x: list[float | None] = field(default_factory=list)
    y: list[float | None] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def add(self, x: float | None, y: float | None, text: str = "") -> None:
        self.x.append(x)
        self.y.append(y)
        self.texts.append(text)

    @property
    def is_known(self) -> bool:
        return any(each is not None for each in self.y)


def metric_figure(points: Sequence[EpochPoint], *, metric: str, title: str) -> Figure:
    """The figure of a metric over all epochs of a run, a colour and a mark for each step."""
    sheet = Sheet(title=literal(title))
    panel = sheet.panel(HEIGHT)
    train = _Trace()
    by_step: dict[str, _Trace] = {}
    last: EpochPoint | None = None
    for number, point in enumerate(points, start=1):
        valid = by_step.setdefault(point.step, _Trace())
        # Where epochs are counted anew, another model is trained: lines aren't joined.
        if last is not None and (point.step, point.epoch) != (last.step, last.epoch + 1):
            train.add(None, None)
            if valid.x:
                valid.add(None, None)
        last = point
        train.add(number, point.train)
        valid.add(number, point.valid, _tell(point, metric))
    if train.is_known:
        style = {"color": "role:measured", "width": 1, "dash": "dot"}
        panel.add(line("training data", train.x, train.y, style))
    for number, (step, trace) in enumerate(by_step.items()):
        color, symbol = _look(number)
        style = {"color": color, "width": 1.5}
        drawn = marks(
            literal(step),
            trace.x,
            trace.y,
            {"color": color, "symbol": symbol, "size": 6},
            texts=trace.texts if len(points) <= TEXT_POINTS else (),
            line=style,
            meta={"step": True},
        )
        panel.add(drawn | {"mode": "lines+markers", "connectgaps": False})
    known = [each for point in points for each in (point.valid, point.train) if each is not None]
    is_log = bool(known) and min(known) > 0 and max(known) >= LOGARITHMIC * min(known)
    if is_log:
        scale_ratios(panel, min(known), max(known), "log")
    else:
        panel.set_y(nticks=6)
    panel.name_y(f"{literal(metric)}, validation data{', log' if is_log else ''}")
    panel.set_x(range=[0.5, len(points) + 0.5], showgrid=False, nticks=10)
    panel.name_x("epoch")
    return sheet.build()


def _look(number: int) -> tuple[str, str]:
    """Colour and mark of the line of that number."""
    number %= len(SYMBOLS)
    return f"role:curve-{number + 1}", SYMBOLS[number]


def dims_figure(steps: Sequence[StepDims], *, axis_names: Sequence[str], title: str) -> Figure:
    """The figure of each dim over the steps of a run."""
    sheet = Sheet(title=literal(title))
    panel = sheet.panel(HEIGHT)
    x = list(range(len(steps)))
    for number in range(max((len(step.dims) for step in steps), default=0)):
        name = axis_names[number] if number < len(axis_names) else f"dim {number + 1}"
        color, symbol = _look(number)
        dims = [step.dims[number] if number < len(step.dims) else None for step in steps]
        texts = [
            "" if dim is None else f"<b>{literal(name)} {dim}</b><br>{literal(step.step)}"
            for step, dim in zip(steps, dims, strict=True)
        ]
        drawn = marks(
            literal(name),
            x,
            dims,
            {"color": color, "symbol": symbol, "size": 9},
            texts=texts,
            line={"color": color, "width": 1.5},
            meta={"step": True},
            text=["" if dim is None else str(dim) for dim in dims],
            textposition="top center",
        )
        panel.add(drawn | {"mode": "lines+markers+text", "connectgaps": False})
    panel.set_x(
        tickvals=x,
        ticktext=[literal(step.short) for step in steps],
        range=[-0.5, len(steps) - 0.5],
        showgrid=False,
    )
    panel.set_y(rangemode="tozero", nticks=6)
    panel.name_y("dim")
    panel.name_x("after the step", shift=-28)
    return sheet.build()


def _tell(point: EpochPoint, metric: str) -> str:
    values = [
        f"{split} data: {format_number(value, 4)}"
        for split, value in (("validation", point.valid), ("training", point.train))
        if value is not None
    ]
    where = f"{literal(point.step)}, epoch {point.epoch}"
    if point.round:
        where += f", round {point.round}"
    return "<br>".join([f"<b>{literal(metric)}</b>", *values, where])
