"""Turns: which open sweep of a host is measured next, and how much comes before each.

Pure: it is given times, and knows neither a store nor a clock.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from profiler_service.analysis.setting_table import describe, setting
from profiler_service.plan.spec import Progress


@dataclass(frozen=True, kw_only=True)
class TurnSettings:
    """When the sweeps of one host take turns."""

    patience_s: float = setting(
        10.0,
        "s",
        "The sweep that was asked for first is measured for one batch whenever shorter ones were"
        " measured instead of it for this long. So every sweep ends.",
    )
    unbroken_s: float = setting(
        0.6,
        "s",
        "A batch is broken off for a shorter sweep only after this time. Most batches are shorter,"
        " and stay in one piece.",
    )
    trusted_fraction: float = setting(
        0.1,
        "share",
        "From this share of its work on, the time that a sweep still needs follows from the time"
        " that it took. Before, it follows from the estimate made when it was asked for.",
    )


TURNS: Final = TurnSettings()


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Who wants a sweep, and how long it may take: what is known of it when it is asked for."""

    expected_s: float
    """Measuring time that is expected."""
    is_awaited: bool
    """Whether a question waits for it. All others are measured in the background."""
    client: str | None = None
    """Who asked for it; None if nobody did, as for a comparison of kernels."""
    request_id: str | None = None
    """Of the request that asked for it first, for the logs."""
    traceparent: str | None = None
    """The span in which it was asked for first, for traces."""


@dataclass(frozen=True, kw_only=True)
class OpenSweep:
    """A sweep that hasn't ended, as far as its turn depends on it."""

    id: str
    """Ids sort by the time at which sweeps were asked for."""
    expected_s: float
    """Measuring time that was expected when it was asked for."""
    is_awaited: bool
    """Whether a question waits for it. All others are measured in the background."""
    progress: Progress | None = None
    is_ending: bool = False
    """Whether it is to be cancelled, so that it takes no time any more."""
    request_id: str | None = None
    """Of the request that asked for it first, for the logs; no turn depends on it."""
    traceparent: str | None = None
    """The span in which it was asked for first, for traces; no turn depends on it."""

    def left_s(self, under_way_s: float = 0.0, settings: TurnSettings = TURNS) -> float:
        """Expected measuring time until it ends; `under_way_s`: time of a batch not kept yet.

        Who took longer than expected is expected to take as long again. (Source: ours. Otherwise
        an estimate that is far too low would keep its sweep at the head of the queue.)
        """
        if self.is_ending:
            return 0.0
        done = self.progress
        if done is not None and done.fraction >= settings.trusted_fraction:
            expected_s = done.seconds * (1 - done.fraction) / done.fraction
            spent_s = under_way_s
        else:
            expected_s = self.expected_s
            spent_s = under_way_s + (0.0 if done is None else done.seconds)
        return max(expected_s - spent_s, spent_s)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A sweep's place in its host's queue."""

    ahead: int
    """Sweeps that are expected to be measured before it."""
    wait_s: float
    """Expected measuring time of those."""
    left_s: float
    """Expected measuring time of its own."""


def find_places(sweeps: Collection[OpenSweep]) -> dict[str, Place]:
    """The place of each of one host's open sweeps, by id, if no other one is asked for."""
    places: dict[str, Place] = {}
    wait_s = 0.0
    for ahead, sweep in enumerate(sorted(sweeps, key=_rank)):
        left_s = sweep.left_s()
        places[sweep.id] = Place(ahead=ahead, wait_s=wait_s, left_s=left_s)
        wait_s += left_s
    return places


class Turns:
    """Gives turns to the open sweeps of one host: one batch each.

    First come the sweeps that a question waits for, then the others; among each, the one that is
    expected to end soonest. A sweep that comes later may so take the turn of one under way.

    The sweep that was asked for first gets a turn whenever it has had none for
    `TurnSettings.patience_s`. So a sweep of L seconds ends within about L / b × (patience + b)
    seconds after those before it, where b is the time of its batch, however many come after it.
    It gets no two turns in a row that way: a short question waits for one batch, or for one visit
    of a long one.
    """

    def __init__(self, settings: TurnSettings = TURNS) -> None:
        self.settings = settings
        self._last_turn_s: dict[str, float] = {}
        self._due: str | None = None
        """The sweep whose turn it is because it was passed over for long enough."""

    def choose(self, sweeps: Collection[OpenSweep], *, now_s: float) -> str:
        """The id of the sweep to measure next. `now_s` is the time by a monotonic clock."""
        known = self._last_turn_s
        self._last_turn_s = {each.id: known.get(each.id, now_s) for each in sweeps}
        first = min(sweeps, key=_rank).id
        oldest = min(each.id for each in sweeps)
        is_due = now_s - self._last_turn_s[oldest] >= self.settings.patience_s
        self._due = oldest if is_due and oldest != first else None
        return self._due or first

    def end_turn(self, sweep_id: str, *, now_s: float) -> None:
        """Takes note that some visits of the sweep were made."""
        self._last_turn_s[sweep_id] = now_s

    def must_yield(
        self, sweep_id: str, sweeps: Collection[OpenSweep], *, under_way_s: float, num_done: int
    ) -> bool:
        """Whether the batch under way must be broken off: for another sweep, or to be cancelled.

        `num_done` is the number of its visits that are done. In a turn that was due, at least one
        is made.
        """
        current = next((each for each in sweeps if each.id == sweep_id), None)
        if current is None or current.is_ending:
            return True
        if under_way_s < self.settings.unbroken_s or (self._due == sweep_id and not num_done):
            return False
        first = min(
            sweeps,
            key=lambda each: _rank(each, under_way_s if each is current else 0.0),
        )
        return first is not current


def _rank(sweep: OpenSweep, under_way_s: float = 0.0) -> tuple[bool, bool, float, str]:
    return not sweep.is_ending, not sweep.is_awaited, sweep.left_s(under_way_s), sweep.id


def describe_settings(settings: TurnSettings = TURNS) -> str:
    """All settings as a Markdown table."""
    return describe(settings)
