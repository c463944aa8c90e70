"""Writes quantities as people read them: sizes, ranges, durations, ratios and ages.

Pure. The command line and the pages write them alike.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from profiler_service.wire import AxisRange


def format_dims(dims: Sequence[int]) -> str:
    """Dims as people type them: `1197,317`."""
    return ",".join(map(str, dims))


def format_range(axis: AxisRange) -> str:
    """A range as people type it: `256:512` or `256:512:4`; `317,320:512:64` with a `second`."""
    first = axis.first if axis.second is None else f"{axis.first},{axis.second}"
    return f"{first}:{axis.last}" + (f":{axis.step}" if axis.step != 1 else "")


def format_seconds(seconds: float) -> str:
    """A duration with three digits, in a suitable unit: `87.1 µs`, `2.40 ms`, `3 min`."""
    for scale, unit in ((1e-6, "µs"), (1e-3, "ms"), (1, "s")):
        value = seconds / scale
        if value < 999.5 and not (unit == "s" and value >= 119.5):
            decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{decimals}f} {unit}"
    for size_s, unit in ((60, "min"), (3600, "h"), (86400, "days")):
        value = seconds / size_s
        if value < {"min": 119.5, "h": 47.5}.get(unit, float("inf")):
            break
    return f"{value:.0f} {unit}"


def format_ratio(ratio: float | None, low: float | None, high: float | None) -> tuple[str, str]:
    """A ratio and its interval, `0.9981` and `0.9874 to 1.0093`; a dash for an unknown value."""
    interval = "–" if low is None or high is None else f"{low:.4f} to {high:.4f}"
    return ("–" if ratio is None else f"{ratio:.4f}"), interval


def format_age(moment: dt.datetime, now: dt.datetime) -> str:
    """The time from `moment` to `now`: `3 min ago`, or `just now` within two seconds."""
    return format_ago((now - moment).total_seconds())


def format_ago(age_s: float) -> str:
    """As `format_age`, for a time in seconds."""
    return "just now" if age_s < 2 else f"{format_seconds(age_s)} ago"
