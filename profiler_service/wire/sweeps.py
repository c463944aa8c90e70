"""Sweeps: asked for, under way, ended; and how a race went."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StrictInt, StrictStr

from profiler_service.wire.base import MAX_BUDGET_S, Dims, RequestModel, ResponseModel


class AxisRange(ResponseModel):
    """Dimensions `first`, `first + step`, … up to and including `last`."""

    first: int = Field(ge=1, description="First dimension.")
    last: int = Field(
        ge=1, description="Last dimension: it is measured, too, where a step leads to it."
    )
    step: int = Field(default=1, ge=1)


class GridAxisRange(AxisRange):
    """An axis that is to be measured: as `AxisRange`, and nothing else is accepted."""

    model_config = ConfigDict(extra="forbid")


class SweepRequest(RequestModel):
    """A request to measure a grid."""

    workload: str = Field(default="linear", examples=["linear"])
    params: dict[str, StrictInt | StrictStr] = Field(
        default_factory=dict, description="Fixed parameters; defaults where left out."
    )
    axes: Annotated[list[GridAxisRange], Field(min_length=1, max_length=16)] = Field(
        description="One range an axis, in the order of the workload's axes."
    )
    mode: Literal["race", "survey", "grid"] = Field(
        default="grid",
        description="`grid` measures every point closely. `race` and `survey` look for the"
        " fastest one at or above the grid's first point, as `/lhp` does with the effort"
        " `quick` and `thorough`.",
    )
    host: str | None = Field(default=None, description="Which host; this one where left out.")
    budget: float | None = Field(
        default=None,
        gt=0,
        le=MAX_BUDGET_S,
        allow_inf_nan=False,
        description="How long to measure at most, seconds; as long as it takes where left out."
        " What is known by then is kept as the sweep's curve.",
    )


class ProgressInfo(ResponseModel):
    """How far a sweep is."""

    fraction: float
    stage: str
    num_samples: int
    seconds: float


class SweepInfo(ResponseModel):
    """A sweep and where it stands."""

    id: str
    state: Literal["queued", "running", "done", "cancelled", "failed"]
    mode: Literal["race", "survey", "grid", "kernels"] = Field(
        description="`race` finds one query's answer, `survey` does so after a look at every"
        " point; `grid` measures every point closely."
    )
    workload: str = Field(description="Key of the workload.")
    axes: list[AxisRange]
    num_points: int
    host: str
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    cancel_requested: bool
    progress: ProgressInfo | None
    error: str = Field(
        description="Why it failed or, while it is running, is paused; empty otherwise."
    )
    curve: str | None = Field(description="Id of the curve it left, once there is one.")

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the sweep."""
        return self.state in ("done", "cancelled", "failed")


class RaceStageInfo(ResponseModel):
    """One stage of a race: who took part, and who was left when it ended."""

    name: Literal["survey", "narrow", "contest", "confirm"] = Field(
        description="`survey` looks at every point; `narrow` ranks the positions of each axis by"
        " an additive fit; `contest` ranks points by their own medians; `confirm` compares one"
        " with the dims asked for, on fresh samples."
    )
    num_visits: int
    seconds: float
    field_size: list[int] = Field(
        description="How many points took part; for `narrow`: how many positions of each axis."
    )
    kept_size: list[int] = Field(description="How many were kept.")
    kept: list[Dims] = Field(description="The points kept, best first, where they are points.")
    dropped: list[Dims] = Field(description="Those dropped in a contest or a confirmation.")
    why: str = Field(description="Why the others were dropped.")


class RaceInfo(ResponseModel):
    """How a race went."""

    sweep: str
    asked: Dims
    noise: float = Field(description="Scale of one call's noise, relative.")
    stages: list[RaceStageInfo]


class SweepPage(ResponseModel):
    """Sweeps, newest first."""

    items: list[SweepInfo]
    next_cursor: str | None
