"""Writes predictions as people read them.

Pure. Knows neither HTTP nor terminals.
"""

from __future__ import annotations

import datetime as dt

from profiler_service.plots.quantities import format_gain, format_gain_interval
from profiler_service.printable import printable
from profiler_service.wire import PredictedAnswer, PredictedCurve, PredictedPoint
from profiler_service.wire.predictions import PredictedFigures
from profiler_service.wording import format_age, format_dims

NOTHING = "–"


def describe_prediction(answer: PredictedAnswer, now: dt.datetime) -> str:
    """The predicted answer in a few short lines for people."""
    lines = [f"predicted, not measured: {_describe_choice(answer)}", describe_basis(answer, now)]
    lines += answer.caveats
    if answer.sweep is not None:
        lines.append(
            f"the race that measures it is queued: sweep {answer.sweep}; ask again for its answer"
        )
    return "\n".join(map(printable, lines))


def _describe_choice(answer: PredictedAnswer) -> str:
    asked, candidate = format_dims(answer.dims), format_dims(answer.candidate)
    if answer.standing == "unknown":
        return f"nothing is known of {asked}, so keep it"
    if answer.candidate == answer.dims:
        return f"keep {asked}, nothing larger promises to be faster"
    gain = format_gain(answer.speedup)
    if answer.speedup_interval is not None:
        gain += f" ({format_gain_interval(answer.speedup, *answer.speedup_interval)})"
    if answer.probability is not None:
        gain += f", no slower with {_percent(answer.probability)} probability"
    if answer.lhp == answer.candidate:
        return f"{candidate} — {gain}, grow by {format_dims(answer.grow_by)}"
    return f"keep {asked}; leading is {candidate} — {gain}"


def describe_basis(figures: PredictedFigures, now: dt.datetime) -> str:
    """What a prediction rests on, and how good earlier ones were, in a line."""
    parts = [f"{figures.workload} on platform {figures.platform}"]
    learned, calibration = figures.rests_on, figures.calibration
    if learned.learned_at is not None:
        parts.append(
            f"rests on {_count(learned.num_sweeps, 'sweep')} with"
            f" {_count(learned.num_visits, 'visit')}, the last one"
            f" {format_age(learned.learned_at, now)}"
        )
    if calibration.num_published:
        held = calibration.num_published - calibration.num_misses
        parts.append(f"{held} of {calibration.num_published} earlier predictions held")
    elif calibration.num_scores:
        parts.append(
            f"{_count(calibration.num_scores, 'earlier prediction')} without an interval"
            " compared with measurements"
        )
    return printable(" · ".join(parts))


def describe_landscape(curve: PredictedCurve) -> str:
    """What a predicted landscape is of, in a line."""
    asked = format_dims([axis.first for axis in curve.axes])
    last = format_dims([axis.last for axis in curve.axes])
    return f"predicted, not measured: {curve.num_points:,} points from {asked} to {last}"


def point_row(point: PredictedPoint) -> tuple[str, ...]:
    """The point as a row of `lhp predict`."""
    return (
        format_dims(point.dims),
        format_gain(point.speedup),
        NOTHING
        if point.speedup_interval is None
        else format_gain_interval(point.speedup, *point.speedup_interval),
        NOTHING if point.probability is None else _percent(point.probability),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _count(number: float, noun: str) -> str:
    whole = round(number)
    return f"{whole:,} {noun}{'s' * (whole != 1)}"
