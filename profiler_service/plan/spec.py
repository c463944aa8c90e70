"""What is asked of a host: a sweep's specification, its states, its progress.

Pure. Knows neither how a sweep is stored nor how it is measured.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from profiler_service.errors import InvalidRequestError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import get_workload_kind
from profiler_service.plan.learned import Effects, Learned, effects_from_json
from profiler_service.plan.modes import Mode, get_mode
from profiler_service.workload import Dims, Workload

DEFAULT_MAX_GROWTH = 0.125
MIN_GROWTH_POINTS = 32
MAX_AXIS_POINTS = 1025
DEFAULT_SETTLE_S = 3.0
DEFAULT_MARGIN = 0.005
"""Least margin of a race that wasn't asked for one. It is more if the host doesn't resolve that."""


class SweepState(enum.StrEnum):
    """The state of a sweep. `queued` and `running` are the states that are not final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the sweep."""
        return self in (SweepState.DONE, SweepState.CANCELLED, SweepState.FAILED)


def window_growth(
    dims: Sequence[int],
    max_growth: float = DEFAULT_MAX_GROWTH,
    multiple_of: Sequence[int] | None = None,
    max_axis_points: int = MAX_AXIS_POINTS,
) -> Dims:
    """How far the window above `dims` reaches on each axis, in units of the dimension.

    It is the share `max_growth` of the dimension, but at least 32, and no further than
    `max_axis_points` allow (if only multiples count, so many of them).
    (Source: ours. Below 256, an eighth would not reach the next multiple of a vector's or a tile's
    width. The computing time of a race between batches grows with the cube of the longest axis.)
    """
    return tuple(
        min(max(MIN_GROWTH_POINTS, int(dim * max_growth)), (max_axis_points - 1) * multiple)
        for dim, multiple in zip(dims, multiple_of or (1,) * len(dims), strict=True)
    )


@dataclass(frozen=True, kw_only=True)
class RaceTerms:
    """What is wanted of a race, and when it may stop. Shares: 0.01 is one percent."""

    margin: float | None = None
    """The race is settled when nothing larger is more than this share faster than the answer. None:
    what the host resolves."""
    settle_s: float = DEFAULT_SETTLE_S
    """Most seconds of measuring that it may go on for certainty."""
    slack: float = 0.0
    """A point may be slower than the queried one by this share and still count as no slower."""

    def __post_init__(self) -> None:
        if self.margin is not None and not 0 < self.margin < 1:
            raise InvalidRequestError(
                f"margin={self.margin:g} is no share between 0 and 1",
                hint="write one percent as 1% or 0.01",
            )
        if not 0 <= self.slack < 1:
            raise InvalidRequestError(
                f"slack={self.slack:g} is no share from 0 to below 1",
                hint="write one percent as 1% or 0.01",
            )
        if not self.settle_s > 0:
            raise InvalidRequestError(
                f"settle={self.settle_s:g} leaves no time to settle",
                hint="give the seconds that a race may go on for certainty",
            )

    def to_json(self) -> dict[str, float]:
        """The terms that differ from the defaults."""
        default = RaceTerms()
        return {
            name: value
            for name, value in asdict(self).items()
            if value is not None and value != getattr(default, name)
        }


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """A sweep as it was asked for: a workload, the points of `grid`, and how to measure them."""

    workload: Workload
    mode: Mode
    grid: Grid
    seed: int = 0
    budget_s: float | None = None
    """Most measuring time; None if the mode itself decides."""
    guide: Effects | None = None
    """For races of networks: the log latency that each position of each axis adds to an operator,
    according to a stored curve. It says where to look first. Verdicts don't depend on it."""
    learned: Learned | None = None
    """For races: what the host's model says of the window. Taken instead of a guide."""
    terms: RaceTerms = RaceTerms()
    """For races: what is wanted, and when the race may stop."""
    tau: float | None = None
    """For races: by how much the log of a ratio differs from process to process on this host, a
    standard deviation, as learned from its earlier races; None if nothing is known."""

    def __post_init__(self) -> None:
        if self.budget_s is not None and not self.budget_s > 0:
            raise InvalidRequestError(
                f"a budget of {self.budget_s} s leaves no time to measure",
                hint="give the seconds that measuring may take",
            )
        known = (("a guide", self.guide), ("learned effects", self.learned_effects))
        for name, effects in known:
            if effects is not None and tuple(map(len, effects)) != self.grid.shape:
                raise ValueError(f"{name} of {[*map(len, effects)]} values, for {self.grid.shape}")
        if len(self.grid.axes) != len(self.workload.axes):
            raise InvalidRequestError(
                f"{self.workload.kind} has axes {', '.join(self.workload.axes)};"
                f" the grid has {len(self.grid.axes)}",
                hint="give one range for each axis",
            )
        if self.learned is not None and self.grid.find_index(self.learned.pair.dims) is None:
            raise ValueError(f"predicted {self.learned.pair.dims}, which isn't in the window")

    @property
    def learned_effects(self) -> Effects | None:
        """What a race starts from, if enough was learned; None if it starts from its own prior."""
        return None if self.learned is None else self.learned.effects

    @property
    def key(self) -> str:
        """The same for equal requests, even if what is known of the host differs.

        Equal keys share one sweep.
        """
        known = ("seed", "guide", "learned", "tau")
        fields = {k: v for k, v in self.to_json().items() if k not in known}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:32]

    def to_json(self) -> dict[str, object]:
        """The specification as JSON-ready values."""
        return {
            "workload": {"kind": self.workload.kind, "params": dict(self.workload.params)},
            "mode": self.mode,
            "grid": grid_to_json(self.grid),
            "seed": self.seed,
            **({} if self.budget_s is None else {"budget_s": self.budget_s}),
            **({} if self.guide is None else {"guide": [list(axis) for axis in self.guide]}),
            **({} if self.learned is None else {"learned": self.learned.to_json()}),
            **({"terms": terms} if (terms := self.terms.to_json()) else {}),
            **({} if self.tau is None else {"tau": self.tau}),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> SweepSpec:
        """The inverse of `to_json`.

        Raises UnknownWorkloadError, InvalidWorkloadError, InvalidRequestError.
        """
        workload, grid, mode = fields["workload"], fields["grid"], fields["mode"]
        terms, learned = fields.get("terms", {}), fields.get("learned")
        assert learned is None or isinstance(learned, Mapping)
        assert isinstance(workload, Mapping) and isinstance(grid, Sequence)
        assert isinstance(terms, Mapping)
        return cls(
            workload=get_workload_kind(str(workload["kind"])).describe(workload["params"]),
            mode=get_mode(str(mode)).name,
            grid=grid_from_json(grid),
            seed=int(str(fields["seed"])),
            budget_s=float(str(fields["budget_s"])) if "budget_s" in fields else None,
            guide=guide_from_json(fields.get("guide")),
            learned=Learned.from_json(learned),
            terms=RaceTerms(**terms),
            tau=float(str(fields["tau"])) if "tau" in fields else None,
        )


def guide_from_json(guide: object) -> Effects | None:
    """The guide of `SweepSpec.to_json`; None if there is none."""
    if guide is None:
        return None
    assert isinstance(guide, Sequence)
    return effects_from_json(guide)


def grid_to_json(grid: Grid) -> list[list[int]]:
    """The grid as a list of [first, count, step], or [first, count, step, second], one an axis."""
    return [
        [axis.first, axis.count, axis.step, *([] if axis.second is None else [axis.second])]
        for axis in grid.axes
    ]


def grid_from_json(axes: Sequence[Sequence[int]]) -> Grid:
    """The inverse of `grid_to_json`."""
    return Grid(
        axes=tuple(
            GridAxis(first=first, count=count, step=step, second=second[0] if second else None)
            for first, count, step, *second in axes
        )
    )


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of a sweep, for people and progress bars."""

    fraction: float
    """Estimated share of the work done, 0 to 1; never falls."""
    stage: str
    """What is being done, in a few words: `screening`, `round 3 of 14`, `confirming`."""
    num_samples: int
    seconds: float
    """Measuring time spent so far."""
    others_s: float = 0.0
    """Time of the measured device that others used meanwhile."""
    watched_s: float = 0.0
    """All time of the device, while that was watched."""
