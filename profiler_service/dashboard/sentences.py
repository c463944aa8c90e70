"""What an answer says, as sentences: the finding first.

Pure. Every text here may hold names from outside: templates escape them.
"""

from __future__ import annotations

from dataclasses import dataclass

from profiler_service.dashboard.rendering import count, format_size
from profiler_service.plan.modes import MODES, Mode
from profiler_service.wire import CurveInfo, LhpAnswer
from profiler_service.wording import format_seconds

GAIN_IN_PERCENT = 0.2
"""Gains below this are written as percentages, larger ones as ratios."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An answer in words."""

    verdict: str
    """A word for the pill: `faster`, `keep`, `no slower`."""
    title: str
    lead: str
    certainty: str
    """How closely it is known; empty if no race looked."""


def describe_gain(ratio: float) -> str:
    """How much faster something is that takes `1 / ratio` of the time: `4.3 % faster`."""
    if ratio < 1 + GAIN_IN_PERCENT:
        return f"{100 * (ratio - 1):.1f} % faster"
    return f"{ratio:.2f} × as fast"


def describe_interval(low: float, high: float) -> str:
    """An interval on such a ratio: `2.1 to 6.5 %`, or `2.91 to 3.00 ×`."""
    if high < 1 + GAIN_IN_PERCENT:
        return f"{100 * (low - 1):.1f} to {100 * (high - 1):.1f} %"
    return f"{low:.2f} to {high:.2f} ×"


def describe_finding(answer: LhpAnswer, *, axis_names: list[str], mode: Mode) -> Finding:
    """The answer in words. `mode` is that of its curve: only a grid has compared every point."""
    asked, best = format_size(answer.dims), format_size(answer.lhp)
    interval = describe_interval(*answer.speedup_interval)
    takes = f"{format_seconds(answer.lhp_latency_s)} instead of"
    takes += f" {format_seconds(answer.latency_s)} a call; 95 % interval {interval}."
    grows = [
        f"{name} by {growth}"
        for name, growth in zip(axis_names, answer.grow_by, strict=True)
        if growth
    ]
    certainty = _describe_certainty(answer)
    if answer.lhp != answer.dims:
        lead = f"{takes} Grow {' and '.join(grows)}."
        if answer.verdict == "faster":
            title = f"Use {best}: {describe_gain(answer.speedup)}"
            return Finding(verdict="faster", title=title, lead=lead, certainty=certainty)
        title = f"Use {best}: at most {100 * answer.slack:g} % slower"
        return Finding(verdict="no slower", title=title, lead=lead, certainty=certainty)
    if answer.cut_short:
        why = "the budget ended before anything larger could be judged"
    elif answer.is_lhp and MODES[mode].decides_every_point:
        why = "every larger size is slower"
    elif answer.verdict == "slower":
        why = "the best larger size is slower"
    else:
        why = "nothing larger is clearly faster"
    lead = f"{format_seconds(answer.latency_s)} a call."
    return Finding(verdict="keep", title=f"Keep {asked}: {why}", lead=lead, certainty=certainty)


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """What the figure beside an answer shows, in words."""

    title: str
    keys: str


def describe_landscape(answer: LhpAnswer, curve: CurveInfo) -> Landscape:
    """How much of the curve was measured, and how to read its figure."""
    asked = format_size(answer.dims)
    keys = f"{curve.num_measured:,} of {count(curve.num_points, 'point')} measured."
    if len(curve.axes) > 1:
        keys += f" Blue is faster than {asked}, orange is slower, by the medians."
    return Landscape(title=f"What lies above {asked}", keys=keys)


def _describe_certainty(answer: LhpAnswer) -> str:
    if answer.prefer != "fastest":
        return "Settled." if answer.settled else "Not settled: a longer time to settle goes on."
    if answer.margin is None:
        return ""
    margin = f"{100 * answer.margin:.1f} % faster (95 %)"
    if answer.settled:
        return f"Settled: nothing larger in this window is more than {margin}."
    return f"Not settled: something larger in this window may be up to {margin}."
