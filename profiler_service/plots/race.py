"""Draws how a race went: one panel each for its stages, its contest and its confirmation.

Knows neither the service nor how a race decides. The stages come from the race, the latencies from
its curve. `curve` puts the panels together.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from profiler_service.wire import CurveDetail, RaceInfo, RaceStageInfo

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIELD, KEPT, ASKED, CONFIRMED = "#c9d3e0", "#5b7fb0", "#111111", "#2a8c4a"
LEFT_OVER, UNCONFIRMED = "#e08a00", "#b85c00"
DROPPED = ("#b4bdca", "#8fb0dd", "#5b7fb0", "#2f4a75")
"""Colours of dropped points, one for each stage. Earlier stages are lighter."""
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


def latency_unit(slowest_s: float) -> tuple[str, float]:
    """The unit for latencies up to `slowest_s`, and its size in seconds."""
    return ("ms", 1e-3) if slowest_s >= 10e-3 else ("µs", 1e-6)


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


def fate_colors(race: RaceInfo, racers: list[Racer]) -> dict[str, str]:
    """The colour of each fate that any point has, in the order of the stages."""
    names = stage_names(race)
    occurring = {racer.fate for racer in racers}
    dropped = [name for name in (f"dropped in {name}" for name in names) if name in occurring]
    shades = [DROPPED[min(age, len(DROPPED) - 1)] for age in range(len(dropped))]
    colors = dict(zip(dropped, shades, strict=True))
    colors |= {f"kept in {name}": LEFT_OVER for name in names}
    colors |= {"not confirmed": UNCONFIRMED, "confirmed": CONFIRMED}
    return {fate: color for fate, color in colors.items() if fate in occurring}


def describe_stage(stage: RaceStageInfo) -> str:
    """How many points took part and were kept, the cost, and why the others were dropped."""
    sizes = (" × ".join(map(str, size)) for size in (stage.field_size, stage.kept_size))
    cost = f"{stage.num_visits} visits, {1e3 * stage.seconds:.0f} ms"
    return f"{' → '.join(sizes)} · {cost} · {stage.why}"


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """The asked point and its best rival: the ratio of their latencies, with its interval."""

    ratio: float
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
    return Confirmation(ratio=ratio, low=low, high=high, rival=name)


def _sizes(stages: list[RaceStageInfo]) -> tuple[list[int], list[int]]:
    """How many points, or products of positions, took part in each stage, and were kept."""
    return [math.prod(s.field_size) for s in stages], [math.prod(s.kept_size) for s in stages]


def _stage_limit(field: list[int]) -> float:
    """End of the logarithmic axis. The longest bar must leave space for text."""
    return float(_LEAST * (max(max(field), 2) / _LEAST) ** (1 / _STAGE_SPACE))


def _contest_unit(racers: list[Racer]) -> tuple[str, float]:
    return latency_unit(max((racer.latency_s for racer in racers), default=0.0))


def _contest_limits(curve: CurveDetail, racers: list[Racer]) -> tuple[float, float]:
    """Both ends of the latency axis, in the contest's unit: around the medians.

    Points that were dropped early may have very wide intervals, which would hide the rest.
    """
    asked = find_asked(curve)
    levels = [racer.latency_s for racer in (*racers, *([asked] if asked else []))]
    if not levels:
        return 0.0, 1.0
    fastest_s, slowest_s = min(levels), max(levels)
    room_s = 0.5 * ((slowest_s - fastest_s) or slowest_s)
    _, unit_s = _contest_unit(racers)
    return max(0.0, fastest_s - room_s) / unit_s, (slowest_s + room_s) / unit_s


def _ratio_limits(found: Confirmation) -> tuple[float, float]:
    """Both ends of the ratio's axis: the interval and 1, with some space."""
    low, high = min(found.low, 1.0), max(found.high, 1.0)
    room = 0.15 * ((high - low) or 0.01)
    return low - room, high + room


# PNG


def draw_stages(axes: Axes, race: RaceInfo) -> None:
    """Draws a bar for each stage: how many points took part, and darker, how many were kept."""
    field, kept = _sizes(race.stages)
    rows = range(len(race.stages))
    for sizes, color, gid in ((field, FIELD, "field"), (kept, KEPT, "kept")):
        bars = axes.barh(rows, [max(size - _LEAST, 0) for size in sizes], left=_LEAST, color=color)
        for bar in bars:
            bar.set_gid(gid)
    for row, stage in enumerate(race.stages):
        axes.text(
            _STAGE_SPACE + 0.02,
            row,
            describe_stage(stage),
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=7,
        )
    axes.set_xscale("log")
    axes.set_xlim(_LEAST, _stage_limit(field))
    axes.set_yticks(rows, stage_names(race), fontsize=8)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.minorticks_off()
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_title("who took part, and (darker) who was kept", fontsize=9, loc="left")


def draw_contest(axes: Axes, curve: CurveDetail, race: RaceInfo) -> None:
    """Draws medians and intervals of the points in contests, fastest first, and the asked one."""
    racers, asked = find_racers(curve, race), find_asked(curve)
    unit, unit_s = _contest_unit(racers)
    if asked is not None:
        axes.axhspan(asked.low_s / unit_s, asked.high_s / unit_s, color="#eeeeee", linewidth=0)
        axes.axhline(
            asked.latency_s / unit_s, color=ASKED, linewidth=1, label=f"asked, {asked.name}"
        )
    for fate, color in fate_colors(race, racers).items():
        chosen = [(place, racer) for place, racer in enumerate(racers) if racer.fate == fate]
        places = [place for place, _ in chosen]
        axes.vlines(
            places,
            [racer.low_s / unit_s for _, racer in chosen],
            [racer.high_s / unit_s for _, racer in chosen],
            color=color,
            linewidth=1.2,
        )
        axes.scatter(
            places,
            [racer.latency_s / unit_s for _, racer in chosen],
            s=18,
            color=color,
            label=fate,
            zorder=3,
            gid=fate,
        )
    if len(racers) <= LABELLED_POINTS:
        names = [racer.name for racer in racers]
        axes.set_xticks(range(len(racers)), names, rotation=90, fontsize=7)
    else:
        axes.set_xticks([])
    axes.set_ylabel(f"latency, {unit} per call")
    axes.set_ylim(*_contest_limits(curve, racers))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("the points raced: medians, 95 % intervals", fontsize=9, loc="left")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False, loc="upper left")


def draw_confirmation(axes: Axes, curve: CurveDetail) -> None:
    """Draws the confirmed ratio and its interval, with a line at 1."""
    found = find_confirmation(curve)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_title("confirmation", fontsize=9, loc="left")
    axes.axhline(1, color=ASKED, linewidth=1)
    if found is None:
        axes.set_yticks([])
        axes.set_xlabel("none", fontsize=8)
        return
    color = CONFIRMED if found.high < 1 else UNCONFIRMED
    axes.vlines([0], [found.low], [found.high], color=color, linewidth=2)
    axes.scatter([0], [found.ratio], s=30, color=color, zorder=3, gid="confirmation")
    axes.set_xlim(-1, 1)
    axes.set_ylim(*_ratio_limits(found))
    axes.set_ylabel(f"latency of {found.rival} / asked")
    axes.set_xlabel(f"{found.ratio:.4f}\n[{found.low:.4f}, {found.high:.4f}]", fontsize=8)


# HTML


def stage_traces(race: RaceInfo) -> list[dict[str, Any]]:
    """The stages' bars as plotly traces, with texts. Hover texts name the dropped points."""
    field, kept = _sizes(race.stages)
    names = stage_names(race)
    told = [_told_of(stage) for stage in race.stages]
    bars = {"type": "bar", "orientation": "h", "y": names, "showlegend": False}
    return [
        bars
        | {
            "name": "took part",
            "x": field,
            "marker": {"color": FIELD},
            "text": [describe_stage(stage) for stage in race.stages],
            "textposition": "outside",
            "hovertext": told,
            "hovertemplate": "%{hovertext}<extra></extra>",
        },
        bars | {"name": "kept", "x": kept, "marker": {"color": KEPT}, "hoverinfo": "skip"},
    ]


def _told_of(stage: RaceStageInfo) -> str:
    """Why a stage dropped points, and which ones, eight in each line."""
    dropped = [",".join(map(str, dims)) for dims in stage.dropped]
    lines = ["  ".join(dropped[i : i + 8]) for i in range(0, len(dropped), 8)]
    return "<br>".join([stage.why, *lines])


def contest_traces(curve: CurveDetail, race: RaceInfo) -> list[dict[str, Any]]:
    """The contests' points as plotly traces, one for each fate, and the asked point's level."""
    racers, asked = find_racers(curve, race), find_asked(curve)
    unit, unit_s = _contest_unit(racers)
    traces: list[dict[str, Any]] = []
    for fate, color in fate_colors(race, racers).items():
        chosen = [racer for racer in racers if racer.fate == fate]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": fate,
                "x": [racer.name for racer in chosen],
                "y": [racer.latency_s / unit_s for racer in chosen],
                "error_y": {
                    "array": [(racer.high_s - racer.latency_s) / unit_s for racer in chosen],
                    "arrayminus": [(racer.latency_s - racer.low_s) / unit_s for racer in chosen],
                    "thickness": 1,
                    "width": 0,
                },
                "marker": {"color": color, "size": 7},
                "hovertemplate": f"%{{x}}<br>%{{y:.2f}} {unit}",
            }
        )
    if asked is not None and racers:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"asked, {asked.name}",
                "x": [racer.name for racer in racers],
                "y": [asked.latency_s / unit_s] * len(racers),
                "line": {"color": ASKED, "width": 1},
                "hovertemplate": f"%{{y:.2f}} {unit}",
            }
        )
    return traces


def confirmation_traces(curve: CurveDetail) -> list[dict[str, Any]]:
    """The confirmed ratio as a plotly trace; no trace if there was no confirmation."""
    found = find_confirmation(curve)
    if found is None:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "confirmation",
            "showlegend": False,
            "x": [found.rival],
            "y": [found.ratio],
            "error_y": {
                "array": [found.high - found.ratio],
                "arrayminus": [found.ratio - found.low],
            },
            "marker": {"color": CONFIRMED if found.high < 1 else UNCONFIRMED, "size": 9},
            "hovertemplate": f"ratio {found.ratio:.4f} [{found.low:.4f}, {found.high:.4f}]",
        }
    ]


def lay_out_race(figure: Any, curve: CurveDetail, race: RaceInfo) -> None:
    """Adds the traces and axes of the race's three panels to a plotly figure (rows 2 and 3)."""
    racers = find_racers(curve, race)
    field, _ = _sizes(race.stages)
    for traces, row, col in (
        (stage_traces(race), 2, 1),
        (contest_traces(curve, race), 3, 1),
        (confirmation_traces(curve), 3, 2),
    ):
        for trace in traces:
            figure.add_trace(trace, row=row, col=col)
    limits = [math.log10(_LEAST), math.log10(_stage_limit(field))]
    figure.update_xaxes(type="log", range=limits, visible=False, row=2, col=1)
    figure.update_yaxes(autorange="reversed", row=2, col=1)
    names = [racer.name for racer in racers]
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=names, row=3, col=1)
    figure.update_yaxes(
        title=f"latency, {_contest_unit(racers)[0]} per call",
        range=_contest_limits(curve, racers),
        row=3,
        col=1,
    )
    figure.update_xaxes(type="category", row=3, col=2)
    found = find_confirmation(curve)
    if found is not None:
        figure.update_yaxes(title="latency / asked", range=_ratio_limits(found), row=3, col=2)
        figure.add_hline(y=1, line={"color": ASKED, "width": 1}, row=3, col=2)
    figure.update_layout(barmode="overlay", height=1100)
