"""Sweeps: requests, progress and results; and the stages of races."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StrictInt, StrictStr
from pydantic.json_schema import SkipJsonSchema

from profiler_service.errors import InvalidDimsError
from profiler_service.grid import MAX_DIM
from profiler_service.wire.base import (
    Budget,
    Dims,
    RequestModel,
    ResponseModel,
    hide_null,
    optional_field,
)
from profiler_service.wire.quantities import SHARE_PATTERN


class AxisRange(ResponseModel):
    """Dimensions `first`, `first + step`, … up to and including `last`; see `second`."""

    first: int = Field(ge=1, description="First dimension.")
    last: int = Field(ge=1, description="Last dimension. It is included if a step leads to it.")
    step: int = Field(default=1, ge=1, description="Distance between two dimensions.")
    second: int | SkipJsonSchema[None] = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="The dimension after `first`, if it lies less than a step above: then the"
        " dimensions are `first`, `second`, `second + step`, …",
    )

    @property
    def dims(self) -> list[int]:
        """Every dimension of the range, ascending."""
        if self.second is None:
            return [*range(self.first, self.last + 1, self.step)]
        return [self.first, *range(self.second, self.last + 1, self.step)]


class GridAxisRange(AxisRange):
    """An axis to be measured: as `AxisRange`, but unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


def parse_range(text: str) -> GridAxisRange:
    """The range written as FIRST, FIRST:LAST or FIRST:LAST:STEP.

    LAST is included. If STEP jumps over it, the range ends at the last dimension before it.
    Raises InvalidDimsError for anything else.
    """
    match = re.fullmatch(r"([0-9]+)(?::([0-9]+)(?::([0-9]+))?)?", text)
    if match is None:
        hint = "write FIRST:LAST or FIRST:LAST:STEP with whole numbers from 1 up: 256:512:4"
        if re.fullmatch("[0-9:,]+", text) and "," in text:
            hint = f"separate the ranges of several axes by spaces: {text.replace(',', ' ')}"
        raise InvalidDimsError(f"{text[:80]!r} is no range of dimensions", hint=hint)
    for number in match.groups(default="1"):
        if len(number) > 9:
            raise InvalidDimsError(
                f"{number[:80]} in range {text[:80]!r} is larger than {MAX_DIM}",
                hint=f"keep every dimension at or below {MAX_DIM}",
            )
    first = int(match[1])
    last = int(match[2] or first)
    step = int(match[3] or 1)
    if first < 1:
        raise InvalidDimsError(
            f"range {text!r} starts at 0", hint="dims start at 1: give a FIRST of at least 1"
        )
    if step < 1:
        raise InvalidDimsError(f"range {text!r} has step 0", hint="give a STEP of at least 1")
    if last < first:
        raise InvalidDimsError(
            f"range {text!r} is empty", hint="LAST is included, and must not be below FIRST"
        )
    return GridAxisRange(first=first, last=last - (last - first) % step, step=step)


class SweepRequest(RequestModel):
    """A request to measure a grid."""

    workload: str = Field(
        default="linear", examples=["linear"], description="Name of a workload kind: `/workloads`."
    )
    params: dict[str, StrictInt | StrictStr] = Field(
        default_factory=dict,
        description="Fixed parameters of the workload; the others have their defaults. `vary` among"
        " them says what varies, as in a query: `batch,out_features`.",
    )
    axes: Annotated[list[GridAxisRange], Field(min_length=1, max_length=16)] = Field(
        description="One range for each axis, in the order of the workload's axes. For multiples"
        " alone, as with `multiple_of` in a query: a `step`, and the first multiple as `second`."
    )
    mode: Literal["race", "survey", "nearest", "largest", "grid"] = Field(
        default="grid",
        description="`grid` measures every point closely. `race` and `survey` look for the"
        " fastest one at or above the grid's first point, as `/lhp` does with the effort"
        " `quick` and `thorough`; `nearest` and `largest` as `/lhp` does with that preference.",
    )
    host: str | None = Field(
        default=None,
        description="Which host measures. Default: the least loaded on the only platform there is.",
    )
    budget: Budget | None = Field(
        default=None,
        description="Longest measuring time, seconds. Default: as long as the sweep needs. What is"
        " known when it is over is kept as the sweep's curve.",
    )
    margin: str | SkipJsonSchema[None] = optional_field(
        description="For `race` and `survey`: how closely the answer must be known, as in a query:"
        " nothing larger may be more than this share faster, `1%` or `0.01`.",
        json_schema_extra={"pattern": SHARE_PATTERN},
        examples=["1%"],
    )
    settle: Budget | None = optional_field(
        json_schema_extra=hide_null,
        description="How long to go on measuring for certainty, seconds (default 3). Not for"
        " `grid`, which goes on until every point is known well enough.",
    )
    slack: str | SkipJsonSchema[None] = optional_field(
        description="For `nearest` and `largest`: larger points also count if they are confidently"
        " at most this share slower, `1%` or `0.01`.",
        json_schema_extra={"pattern": SHARE_PATTERN},
        examples=["1%"],
    )


class ProgressInfo(ResponseModel):
    """How far a sweep is."""

    fraction: float = Field(
        description="Estimated share of the work that is done, 0 to 1; never falls."
    )
    stage: str = Field(description="What is being done, in a few words.")
    num_samples: int = Field(description="Samples taken so far.")
    seconds: float = Field(description="Measuring time so far, seconds.")


class SweepInfo(ResponseModel):
    """A sweep and its state."""

    id: str = Field(description="Id of the sweep; later sweeps have larger ids.")
    state: Literal["queued", "running", "done", "cancelled", "failed"] = Field(
        description="`queued` and `running` sweeps continue by themselves. Other states are final."
    )
    mode: Literal["race", "survey", "nearest", "largest", "grid", "kernels"] = Field(
        description="`race` finds the answer to one question, `survey` does so after a look at"
        " every point; `nearest` and `largest` find the answer for that preference; `grid` measures"
        " every point closely, `kernels` compares kernels."
    )
    workload: str = Field(description="Key of the workload.")
    axes: list[AxisRange] = Field(description="The grid: one range for each axis.")
    num_points: int = Field(description="Points of the grid.")
    host: str = Field(description="The host that measures.")
    created_at: dt.datetime = Field(description="When it was asked for.")
    started_at: dt.datetime | None = Field(description="When measuring began; null before that.")
    finished_at: dt.datetime | None = Field(description="When it ended; null before that.")
    cancel_requested: bool = Field(description="Whether somebody has asked to cancel it.")
    progress: ProgressInfo | None = Field(description="How far it is; null before it starts.")
    ahead: int | None = Field(
        default=None,
        description="How many sweeps of its host are expected to be measured before it. What is"
        " expected to end soonest goes first, and questions before everything else. Null for a"
        " sweep that has ended.",
    )
    expected_wait_s: float | None = Field(
        default=None, description="Expected measuring time of those, seconds."
    )
    expected_s: float | None = Field(
        default=None, description="Measuring time that it is expected to need itself, seconds."
    )
    error: str = Field(
        description="Why it failed or, while it is running, why it is paused; empty otherwise."
    )
    curve: str | None = Field(description="Id of its curve, as soon as there is one.")
    request_id: str | None = Field(
        default=None,
        description="`X-Request-Id` of the request that asked for it first; null if nobody did.",
    )

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the sweep."""
        return self.state in ("done", "cancelled", "failed")


class RaceStageInfo(ResponseModel):
    """One stage of a race: which points took part, and which were left at its end."""

    name: Literal["survey", "narrow", "contest", "confirm"] = Field(
        description="`survey` looks at every point; `narrow` ranks the positions of each axis by"
        " an additive fit; `contest` ranks points that are measured in the same rounds;"
        " `confirm` compares one of them with the dims asked for, on fresh samples."
    )
    num_visits: int = Field(description="Visits made in this stage.")
    seconds: float = Field(description="Measuring time of this stage.")
    field_size: list[int] = Field(
        description="How many points took part; for `narrow`, how many positions of each axis."
    )
    kept_size: list[int] = Field(description="How many of them were kept.")
    kept: list[Dims] = Field(
        description="The points that a contest or confirmation kept, best first."
    )
    dropped: list[Dims] = Field(description="The points that a contest or confirmation dropped.")
    why: str = Field(description="Why the others were dropped.")


class RaceInfo(ResponseModel):
    """How a race went."""

    sweep: str = Field(description="Id of the sweep.")
    asked: Dims = Field(description="The dims asked for.")
    noise: float = Field(description="Scale of the noise of one call, as a share of its latency.")
    stages: list[RaceStageInfo] = Field(description="The stages so far, in order.")


class SweepPage(ResponseModel):
    """Sweeps, newest first."""

    items: list[SweepInfo] = Field(description="The sweeps of this page.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last.")
