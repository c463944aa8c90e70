"""The history of a race: each stage, and why it ended.

Pure. Knows no strategy.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

StageName = Literal["survey", "narrow", "contest", "confirm"]


class End(enum.StrEnum):
    """Why a stage, or one confirmation, ended."""

    FINISHED = "everything planned was measured"
    OUT_OF_TIME = "its part of the budget is spent"
    NOTHING_SEEN = "no point could be measured"
    FEW_LEFT = "so few points are left that the contest tells them apart"
    ONE_LEFT = "one point is left at most"
    SETTLED = "the answer is known as closely as was wanted"
    NO_SLOWER = "the point is no slower"
    TOO_SLOW = "the point is probably too slow"
    POINT_FAILED = "the point failed"
    UNDECIDED = "the last look left it open"
    FAILED = "every rival failed"


@dataclass(frozen=True, kw_only=True)
class RaceStage:
    """One stage of a race: which points took part, and which were left at its end."""

    name: StageName
    """`survey` and `contest` rank points, `narrow` ranks positions of each axis."""
    num_visits: int
    seconds: float
    field_size: tuple[int, ...]
    """How many points took part; for `narrow`: how many positions of each axis."""
    kept_size: tuple[int, ...]
    """Likewise, how many were kept."""
    why: str
    """Why the others were dropped."""
    kept: tuple[int, ...] = ()
    """Contest and confirm: numbers of the points kept, best first."""
    dropped: tuple[int, ...] = ()
    """Contest and confirm: numbers of the points dropped."""


class StageLog:
    """The stages of a race so far. Each has the visits and seconds since the previous one ended."""

    def __init__(self) -> None:
        self.stages: list[RaceStage] = []

    def end(
        self,
        name: StageName,
        *,
        num_samples: int,
        seconds: float,
        field_size: tuple[int, ...],
        kept_size: tuple[int, ...],
        why: str,
        kept: Sequence[int] = (),
        dropped: Sequence[int] = (),
    ) -> None:
        """Adds a stage. It ends when the race has so many samples and has taken so many seconds."""
        self.stages.append(
            RaceStage(
                name=name,
                num_visits=num_samples - sum(stage.num_visits for stage in self.stages),
                seconds=seconds - sum(stage.seconds for stage in self.stages),
                field_size=field_size,
                kept_size=kept_size,
                why=why,
                kept=tuple(kept),
                dropped=tuple(dropped),
            )
        )
