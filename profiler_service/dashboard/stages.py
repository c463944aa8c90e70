"""The stages of a race as a page draws them: how many candidates each left, and for what.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from profiler_service.dashboard.rendering import count
from profiler_service.wire import RaceInfo
from profiler_service.wording import format_seconds

LEAST_SHARE = 0.02
"""Share of the space for the bar of one candidate: it must be seen."""


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """A stage, or several of one kind in a row."""

    name: str
    num_stages: int
    num_visits: int
    seconds: float
    before: int
    """Candidates that took part: points, or products of the positions of each axis."""
    after: int
    """Candidates that were left at its end."""
    before_share: float
    """Length of the bar for `before`, as a share of the space: by the logarithm."""
    after_share: float
    why: str
    """Why the others were dropped."""


def list_stages(race: RaceInfo, *, brief: bool) -> list[StageRow]:
    """A row for each stage; if `brief`, one for all those of a kind that follow each other."""
    rows: list[StageRow] = []
    most = max((math.prod(stage.field_size) for stage in race.stages), default=1)
    for stage in race.stages:
        before, after = math.prod(stage.field_size), math.prod(stage.kept_size)
        row = StageRow(
            name=stage.name,
            num_stages=1,
            num_visits=stage.num_visits,
            seconds=stage.seconds,
            before=before,
            after=after,
            before_share=_share(before, most),
            after_share=_share(after, most),
            why=stage.why,
        )
        if brief and rows and rows[-1].name == row.name:
            row = _join(rows.pop(), row)
        rows.append(row)
    return rows


def _join(first: StageRow, second: StageRow) -> StageRow:
    return replace(
        second,
        num_stages=first.num_stages + 1,
        num_visits=first.num_visits + second.num_visits,
        seconds=first.seconds + second.seconds,
        before=first.before,
        before_share=first.before_share,
    )


def _share(number: int, most: int) -> float:
    """The length of its bar: candidates fall by factors, so lengths are logarithms."""
    if number < 1:
        return 0.0
    share = math.log(number) / math.log(most) if most > 1 else 1.0
    return LEAST_SHARE + (1 - LEAST_SHARE) * share


def describe_race(rows: Sequence[StageRow]) -> str:
    """What the stages brought, as a heading: `9,216 sizes, 1 left after 3,049 calls in 8.96 s`."""
    if not rows:
        return "No stage has ended yet"
    calls, seconds = sum(row.num_visits for row in rows), sum(row.seconds for row in rows)
    left = f"{rows[-1].after:,} left" if rows[-1].after else "none confirmed"
    found = f"{count(rows[0].before, 'size')}, {left}"
    return f"{found} after {calls:,} calls in {format_seconds(seconds)}"
