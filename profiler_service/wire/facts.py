"""Facts: pairs of points that were confirmed, and how well such pairs repeat."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from profiler_service.wire.base import Dims, ResponseModel
from profiler_service.wire.quantities import WRITTEN_TIME
from profiler_service.wire.questions import DIMS_PATTERN


class FactsQuery(BaseModel):
    """The query parameters of `GET /facts`.

    Any further parameter is taken for a fixed parameter of the workload kind.
    """

    model_config = ConfigDict(extra="allow")

    workload: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Only facts of this workload kind: its name. Fixed parameters of the kind"
        " (`batch=16`) are parameters, too; those that aren't given then have their defaults.",
    )
    platform: str | SkipJsonSchema[None] = Field(
        default=None, description="Only facts of the platform with this key."
    )
    host: str | SkipJsonSchema[None] = Field(
        default=None, description="Only facts that this host measured."
    )
    dims: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Only facts about what is larger than these dims.",
        examples=["1197,317"],
        json_schema_extra={"pattern": DIMS_PATTERN},
    )
    verdict: Literal["faster", "slower", "ambiguous"] | SkipJsonSchema[None] = Field(
        default=None, description="Only facts with this verdict."
    )
    since: Annotated[dt.datetime | SkipJsonSchema[None], WRITTEN_TIME] = Field(
        default=None,
        description="Only facts measured at this time or later (ISO 8601; UTC if it names no time"
        " zone).",
        json_schema_extra={"minLength": 1},
    )
    cursor: str | SkipJsonSchema[None] = Field(
        default=None,
        description="`next_cursor` of the previous page; empty for the first one.",
        json_schema_extra={"pattern": "^([0-9a-f]{32})?$"},
    )
    limit: int = Field(default=50, ge=1, le=500, description="Largest number of facts on a page.")


class FactInfo(ResponseModel):
    """A pair of points that was confirmed: compared on samples that chose neither of them."""

    id: str = Field(description="Id of the fact; later facts have larger ids.")
    dims: Dims = Field(description="The queried point.")
    rival: Dims = Field(description="The larger point.")
    verdict: Literal["faster", "slower", "ambiguous"] = Field(
        description="How the larger point compares with the queried one."
    )
    ratio: float = Field(
        description="Latency of the larger point divided by that of the queried one, paired."
    )
    ratio_interval: tuple[float, float] = Field(
        description="95 % interval on `ratio`. It includes what differs from process to process."
    )
    num_pairs: int = Field(description="Pairs of samples.")
    num_children: int = Field(description="Measuring processes that took them.")
    num_arenas: int = Field(description="Separately mapped arenas that the operands lay in.")
    between_arenas: float | None = Field(
        default=None,
        description="Variance of the logarithm of the ratio between arenas, beyond the noise; may"
        " be negative. Null for one arena.",
    )
    measured_at: dt.datetime = Field(description="When the last sample was taken.")
    workload: str = Field(description="Key of the workload.")
    axis_names: list[str] = Field(description="Names of the workload's axes.")
    platform: str = Field(description="Key of the platform measured on.")
    protocol: str = Field(description="Key of the timing protocol.")
    host: str = Field(description="The host that measured it.")
    sweep: str = Field(description="Id of the sweep that confirmed it.")
    curve: str = Field(description="Id of the curve of that sweep.")
    stale: bool = Field(
        description="Whether the host has another platform now, or another timing protocol."
    )
    repeats: str | None = Field(
        default=None, description="Id of the fact before it about the same pair."
    )
    contradicts: list[str] = Field(
        default_factory=list,
        description="Ids of earlier facts about the same pair that it overrules: their intervals"
        " have nothing in common with its own, and their verdicts differ.",
    )
    overruled_by: str | None = Field(
        default=None, description="Id of the later fact that overrules this one."
    )


class RepeatabilityInfo(ResponseModel):
    """How much ratios of the same pair differ from one measuring process to the next."""

    workload: str = Field(description="Name of the workload kind.")
    platform: str = Field(description="Key of the platform.")
    protocol: str = Field(description="Key of the timing protocol.")
    tau: float = Field(
        description="Standard deviation of the logarithm of a ratio between processes, from"
        " repeated pairs and a prior. Races of this kind use it."
    )
    num_repeats: int = Field(description="Repeated pairs that it comes from; 0: the prior alone.")
    tau_between_arenas: float | None = Field(
        default=None,
        description="The same between the arenas of one confirmation. Null if none had several.",
    )


class FactPage(ResponseModel):
    """Facts, newest first."""

    items: list[FactInfo] = Field(description="The facts of this page.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last.")
    repeatability: list[RepeatabilityInfo] = Field(
        default_factory=list,
        description="For each workload kind, platform and protocol of the page.",
    )
