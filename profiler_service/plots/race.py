"""Draws how a race went: one panel each for its stages, its contest and its confirmation.

Doesn't know how a race decides. The stages come from the race, the latencies from its curve.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from profiler_service.plots.columns import Columns
from profiler_service.plots.figure import (
    LEGEND_HEIGHT,
    Panel,
    Sheet,
    Trace,
    error_bars,
    line,
    marks,
)
from profiler_service.plots.quantities import (
    choose_unit,
    format_gain,
    format_gain_interval,
    format_latency,
)
from profiler_service.wire import CurveDetail, RaceInfo, RaceStageInfo

STAGE_HEIGHT, CONTEST_HEIGHT = 28, 280
STAGE_SPACE = 84
"""Pixels on the left, for the names of stages."""
CONTEST_SHARE = 0.76
"""Share of the width for the contest. The confirmation is beside it."""
LABELLED_POINTS = 48
"""Most points of a contest whose names are written below it. More names would overlap."""
_LEAST = 0.7
"""Start of the stages' logarithmic axis. A bar of one point must be visible."""
_STAGE_SPACE = 0.38
"""Share of the stages' panel for the bars. The rest is for text about them."""


@dataclass(frozen=True, kw_only=True)
class Racer:
    """A point in a race's contests, and whether it was dropped, kept or confirmed."""

    dims: tuple[int, ...]
    latency_s: float
    low_s: float
    """The latency itself if there were too few samples for an interval. Also for `high_s`."""
    high_s: float
    fate: str
    """`dropped in contest 2`, `kept in contest 3` (the race ended there), `confirmed`, …"""

    @property
    def name(self) -> str:
        """Its dims as people type them."""
        return ",".join(map(str, self.dims))


def stage_names(race: RaceInfo) -> list[str]:
    """The name of each stage, with a number if there are several of its kind."""
    total = Counter(stage.name for stage in race.stages)
    seen: Counter[str] = Counter()
    names = []
    for stage in race.stages:
        seen[stage.name] += 1
        several = total[stage.name] > 1
        names.append(f"{stage.name} {seen[stage.name]}" if several else stage.name)
    return names


def find_racers(curve: CurveDetail, race: RaceInfo) -> list[Racer]:
    """The points that stages name, fastest first, without failed points."""
    fates: dict[tuple[int, ...], str] = {}
    for name, stage in zip(stage_names(race), race.stages, strict=True):
        is_last = stage.name == "confirm"
        kept = "confirmed" if is_last else f"kept in {name}"
        dropped = "not confirmed" if is_last else f"dropped in {name}"
        fates |= {tuple(dims): kept for dims in stage.kept}
        fates |= {tuple(dims): dropped for dims in stage.dropped}
    racers = []
    for number, dims in enumerate(curve.points.dims):
        if (point := tuple(dims)) in fates:
            racers.append(_racer(curve, number, fates[point]))
    return sorted(racers, key=lambda racer: racer.latency_s)


def find_asked(curve: CurveDetail) -> Racer | None:
    """The point that was asked about, the window's first; None if it failed."""
    first = [axis.first for axis in curve.axes]
    return _racer(curve, 0, "asked") if curve.points.dims[:1] == [first] else None


def _racer(curve: CurveDetail, number: int, fate: str) -> Racer:
    points = curve.points
    latency_s, low_s, high_s = (
        points.latency_s[number],
        points.low_s[number],
        points.high_s[number],
    )
    return Racer(
        dims=tuple(points.dims[number]),
        latency_s=latency_s,
        low_s=latency_s if low_s is None else low_s,
        high_s=latency_s if high_s is None else high_s,
        fate=fate,
    )


def fate_marks(race: RaceInfo, racers: list[Racer]) -> dict[str, tuple[str, str]]:
    """Colour and symbol of each fate that any point has, in the order of the stages."""
    names = stage_names(race)
    dropped = {f"dropped in {name}": ("role:measured", "circle") for name in names}
    for age, fate in enumerate(dropped):
        dropped[fate] = (
            "role:measured",
            ("circle-open", "circle", "square", "diamond")[min(age, 3)],
        )
    fates = dropped | {f"kept in {name}": ("role:undecided", "diamond-open") for name in names}
    fates |= {
        "not confirmed": ("role:undecided", "diamond"),
        "confirmed": ("role:faster", "circle"),
    }
    occurring = {racer.fate for racer in racers}
    return {fate: mark for fate, mark in fates.items() if fate in occurring}


def describe_stage(stage: RaceStageInfo) -> str:
    """How many points took part and were kept, the cost, and why the others were dropped."""
    sizes = (" × ".join(map(str, size)) for size in (stage.field_size, stage.kept_size))
    cost = f"{stage.num_visits} visits, {1e3 * stage.seconds:.0f} ms"
    return f"{' → '.join(sizes)} · {cost} · {stage.why}"


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """How many times as fast the asked point's best rival is, with the interval."""

    gain: float
    low: float
    high: float
    rival: str
    """The rival's dims as people type them; `best rival` if the curve doesn't name it."""


def find_confirmation(curve: CurveDetail) -> Confirmation | None:
    """The result of the confirmation; None if the race ended without one."""
    asked, points = find_asked(curve), curve.points
    if asked is None:
        return None
    ratio, low, high = (column[0] for column in (points.ratio, points.ratio_low, points.ratio_high))
    if ratio is None or low is None or high is None:
        return None
    dims = points.rival[0]
    name = "best rival" if dims is None else ",".join(map(str, dims))
    return Confirmation(gain=1 / ratio, low=1 / high, high=1 / low if low else math.inf, rival=name)


def _sizes(stages: list[RaceStageInfo]) -> tuple[list[int], list[int]]:
    """How many points, or products of positions, took part in each stage, and were kept."""
    return [math.prod(s.field_size) for s in stages], [math.prod(s.kept_size) for s in stages]


def _stage_limit(field: list[int]) -> float:
    """End of the logarithmic axis. The longest bar must leave space for text."""
    return float(_LEAST * (max(max(field), 2) / _LEAST) ** (1 / _STAGE_SPACE))


def _contest_limits(curve: CurveDetail, racers: list[Racer], unit_s: float) -> tuple[float, float]:
    """Both ends of the latency axis, in the contest's unit: around the medians.

    Points that were dropped early may have very wide intervals, which would hide the rest.
    """
    asked = find_asked(curve)
    levels = [racer.latency_s for racer in (*racers, *([asked] if asked else []))]
    if not levels:
        return 0.0, 1.0
    fastest_s, slowest_s = min(levels), max(levels)
    room_s = 0.5 * ((slowest_s - fastest_s) or slowest_s)
    return max(0.0, fastest_s - room_s) / unit_s, (slowest_s + room_s) / unit_s


def mark_raced(panel: Panel, curve: CurveDetail, columns: Columns, race: RaceInfo) -> None:
    """Draws rings around the points of the race's contests, on the panel of its curve."""
    racers = find_racers(curve, race)
    if not racers:
        return
    dims = np.array([racer.dims for racer in racers], dtype=np.int64)
    if len(curve.axes) == 2:
        x, y = dims[:, 1], dims[:, 0].astype(np.float64)
    else:
        _, size_s = choose_unit(float(columns.latency_s.max()))
        x, y = dims[:, 0], np.array([racer.latency_s for racer in racers]) / size_s
    marker = {"color": "role:second", "symbol": "circle-open", "size": 10, "line": {"width": 1.2}}
    panel.add(marks("raced", x, y, marker))


def draw_race(sheet: Sheet, curve: CurveDetail, race: RaceInfo) -> None:
    """Draws the stages, the contest and the confirmation on three further panels."""
    has_curve = bool(sheet.panels)
    sheet.left = STAGE_SPACE
    gap = 84 if has_curve else 0
    _draw_stages(sheet.panel(STAGE_HEIGHT * len(race.stages), gap=gap), race)
    has_confirmation = find_confirmation(curve) is not None
    share = (0.0, CONTEST_SHARE if has_confirmation else 1.0)
    gap = 60 + LEGEND_HEIGHT if has_curve else 60
    _draw_contest(sheet.panel(CONTEST_HEIGHT, gap=gap, share=share), curve, race)
    if has_confirmation:
        share = (CONTEST_SHARE + 0.08, 1.0)
        _draw_confirmation(sheet.panel(CONTEST_HEIGHT, share=share), curve)


def _draw_stages(panel: Panel, race: RaceInfo) -> None:
    """Draws a bar for each stage: how many points took part, and darker, how many were kept."""
    field, kept = _sizes(race.stages)
    names = stage_names(race)
    bars: Trace = {"type": "bar", "orientation": "h", "y": names, "showlegend": False}
    panel.add(
        bars
        | {
            "name": "took part",
            "x": field,
            "marker": {"color": "role:measured/0.35", "line": {"width": 0}},
            "text": [describe_stage(stage) for stage in race.stages],
            "textposition": "outside",
            "textfont": {"color": "role:second"},
            "cliponaxis": False,
            "hovertext": [_told_of(stage) for stage in race.stages],
            "hoverinfo": "text",
        },
        bars
        | {
            "name": "kept",
            "x": kept,
            "marker": {"color": "role:measured", "line": {"width": 0}},
            "hoverinfo": "skip",
        },
    )
    limits = [math.log10(_LEAST), math.log10(_stage_limit(field))]
    panel.set_x(type="log", range=limits, visible=False)
    panel.set_y(autorange="reversed", showgrid=False, type="category")
    panel.name_y("stages: who took part, and (darker) who was kept")


def _told_of(stage: RaceStageInfo) -> str:
    """Why a stage dropped points, and which ones, eight in each line."""
    dropped = [",".join(map(str, dims)) for dims in stage.dropped]
    lines = ["  ".join(dropped[i : i + 8]) for i in range(0, len(dropped), 8)]
    return "<br>".join([stage.why, *lines])


def _draw_contest(panel: Panel, curve: CurveDetail, race: RaceInfo) -> None:
    """Draws medians and intervals of the points in contests, fastest first, and the asked one."""
    racers, asked = find_racers(curve, race), find_asked(curve)
    legend = "legend"
    if panel.number > 2:  # the first one is that of the curve
        panel.sheet.own_legends.append(panel)
        legend = panel.legend
    unit, unit_s = choose_unit(max((racer.latency_s for racer in racers), default=0.0))
    for fate, (color, symbol) in fate_marks(race, racers).items():
        chosen = [racer for racer in racers if racer.fate == fate]
        latency, low, high = (
            np.array([getattr(racer, name) for racer in chosen]) / unit_s
            for name in ("latency_s", "low_s", "high_s")
        )
        texts = [
            f"<b>{racer.name}</b>  {fate}<br>{format_latency(racer.latency_s)}"
            + (
                f" ({format_latency(racer.low_s)} to {format_latency(racer.high_s)})"
                if racer.low_s < racer.high_s
                else ""
            )
            for racer in chosen
        ]
        marker = {"color": color, "symbol": symbol, "size": 8}
        names = [racer.name for racer in chosen]
        bars = error_bars(latency, low, high, color)
        trace = marks(fate, names, latency, marker, texts=texts, error_y=bars)
        panel.add(trace | {"legend": legend})
    names = [racer.name for racer in racers]
    if asked is not None and racers:
        level = np.full(len(racers), asked.latency_s / unit_s)
        style = {"color": "role:ink", "width": 1}
        panel.add(line(f"asked, {asked.name}", names, level, style, legend=legend))
    panel.set_x(
        type="category",
        categoryorder="array",
        categoryarray=names,
        showgrid=False,
        showticklabels=len(racers) <= LABELLED_POINTS,
    )
    panel.set_y(range=list(_contest_limits(curve, racers, unit_s)), nticks=7)
    panel.name_y(f"contest: latency, {unit}")


def _draw_confirmation(panel: Panel, curve: CurveDetail) -> None:
    """Draws how many times as fast the rival was confirmed to be, against 1."""
    found = find_confirmation(curve)
    assert found is not None
    color = "role:faster" if found.low > 1 else "role:undecided"
    gain, low, high = (np.array([each]) for each in (found.gain, found.low, found.high))
    bars = error_bars(gain, low, high, color)
    told = f"{format_gain(found.gain)} ({format_gain_interval(found.gain, found.low, found.high)})"
    marker = {"color": color, "size": 10, "symbol": "circle" if found.low > 1 else "diamond-open"}
    bars |= {"thickness": 2, "width": 6}
    texts = [f"<b>{found.rival}</b><br>{told}"]
    panel.add(
        marks(
            "confirmation", [found.rival], gain, marker, texts=texts, error_y=bars, showlegend=False
        )
    )
    least = min(found.low, 1.0)
    most = max(found.high if math.isfinite(found.high) else found.gain, 1.0)
    room = 0.15 * ((most - least) or 0.01)
    panel.set_y(range=[least - room, most + room], nticks=6)
    panel.set_x(type="category", showgrid=False)
    panel.shape(
        type="line",
        layer="above",
        xref=f"x{panel.suffix} domain",
        x0=0,
        x1=1,
        y0=1,
        y1=1,
        line={"color": "role:ink", "width": 1},
    )
    panel.name_y("confirmed, × as fast")
    panel.name_x(told)
