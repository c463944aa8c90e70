"""The modes of a sweep as one table: what each measures, answers and overrules.

Pure, and cheap to import: knows no planner. Code that treats modes differently reads this table. It
never compares names of modes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from profiler_service.errors import InvalidRequestError

if TYPE_CHECKING:
    from profiler_service.analysis.lhp import Prefer

Mode = Literal["race", "survey", "nearest", "largest", "grid", "kernels"]


@dataclass(frozen=True, kw_only=True)
class SweepMode:
    """What a sweep of one mode does, and what its curve is good for."""

    name: Mode
    description: str
    """One sentence for people."""
    planner: Literal["race", "ladder", "grid", "kernels"]
    """Which planner decides what is measured: a key of `plan.create`."""
    answers_for: Literal["first point", "every point", "kernels"]
    """What the curve holds an answer for: the grid's first point, each of its points, or each
    kernel of one product, whose numbers are no sizes."""
    prefer: Prefer = "fastest"
    """Which of the points that cost no more it looks for, if it answers for the first point."""
    answers: frozenset[Mode]
    """The curve can answer a question that needs a sweep of one of these modes."""
    overrules: frozenset[Mode] = frozenset()
    """If the curve has no verdict, earlier curves of these modes over the same grid don't count any
    more, because they measured no more closely."""
    visits_every_point: bool
    """Whether every point of the grid is measured at least once."""
    least_calls: int = 0
    """Fewest calls of a sweep whose calls are long: this many ..."""
    least_calls_per_point: float
    """... and this many for each point of the grid."""

    @property
    def is_race(self) -> bool:
        """Whether it looks for one point of a window, and answers for the window's first one.

        Only such a sweep may have a guide, has limits on its window's axes, and has a history of
        stages.
        """
        return self.answers_for == "first point"

    @property
    def decides_every_point(self) -> bool:
        """Whether each point of its curve is an LHP, dominated, or undecided.

        Only then do the redundancy and the share of undecided points have a meaning.
        """
        return self.answers_for == "every point"

    def count_least_calls(self, num_points: int) -> float:
        """The fewest calls of a sweep of so many points, if each call is long."""
        return max(self.least_calls_per_point * num_points, self.least_calls)


MODES: Final[Mapping[Mode, SweepMode]] = MappingProxyType(
    {
        mode.name: mode
        for mode in (
            SweepMode(
                name="race",
                description="finds the fastest point of the window above its first point,"
                " and confirms it",
                planner="race",
                answers_for="first point",
                answers=frozenset({"race"}),
                overrules=frozenset({"race"}),
                visits_every_point=False,
                least_calls=8,  # two visits to calibrate and two others, each of two calls
                least_calls_per_point=0.0,
            ),
            SweepMode(
                name="survey",
                description="a race after a look at every point of the window",
                planner="race",
                answers_for="first point",
                answers=frozenset({"race", "survey"}),
                overrules=frozenset({"race", "survey"}),
                visits_every_point=True,
                least_calls_per_point=1,
            ),
            SweepMode(
                name="nearest",
                description="finds the nearest point above the window's first point that is no"
                " slower, and confirms it",
                planner="ladder",
                answers_for="first point",
                prefer="nearest",
                answers=frozenset({"nearest"}),
                overrules=frozenset({"nearest"}),
                visits_every_point=False,
                least_calls_per_point=0,
            ),
            SweepMode(
                name="largest",
                description="finds the largest point above the window's first point that is no"
                " slower, and confirms it",
                planner="ladder",
                answers_for="first point",
                prefer="largest",
                answers=frozenset({"largest"}),
                overrules=frozenset({"largest"}),
                visits_every_point=False,
                least_calls_per_point=0,
            ),
            SweepMode(
                name="grid",
                description="measures every point until each is known well enough",
                planner="grid",
                answers_for="every point",
                answers=frozenset({"race", "survey", "nearest", "largest", "grid"}),
                visits_every_point=True,
                least_calls_per_point=18,
            ),
            SweepMode(
                name="kernels",
                description="compares the kernels of one product",
                planner="kernels",
                answers_for="kernels",
                answers=frozenset({"kernels"}),
                visits_every_point=True,
                least_calls_per_point=1,
            ),
        )
    }
)
"""Every mode by its name."""


def get_mode(name: str) -> SweepMode:
    """The mode of that name. Raises InvalidRequestError if there is none."""
    for mode in MODES.values():
        if mode.name == name:
            return mode
    raise InvalidRequestError(
        f"there is no mode {name[:80]!r}", hint=f"choose from: {', '.join(MODES)}"
    )
