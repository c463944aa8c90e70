"""Curves, with and without their points."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from profiler_service.wire.base import Dims, EvidenceInfo, ResponseModel
from profiler_service.wire.kernels import KernelPoints
from profiler_service.wire.quantities import WRITTEN_TIME
from profiler_service.wire.sweeps import AxisRange

ModeName = Literal["race", "survey", "nearest", "largest", "grid", "kernels"]
Sort = Literal[
    "kept",
    "-kept",
    "measured",
    "-measured",
    "workload",
    "-workload",
    "host",
    "-host",
    "platform",
    "-platform",
    "points",
    "-points",
    "lhps",
    "-lhps",
    "redundancy",
    "-redundancy",
]


class CurvesQuery(BaseModel):
    """The query parameters of `GET /curves`.

    Any further parameter is taken for a fixed parameter of workloads.
    """

    model_config = ConfigDict(extra="allow")

    workload: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Only curves of this workload kind: its name. Fixed parameters of workloads"
        " (`dtype=bfloat16`) are parameters, too, with and without it.",
    )
    platform: str | SkipJsonSchema[None] = Field(
        default=None, description="Only curves of the platform with this key."
    )
    host: str | SkipJsonSchema[None] = Field(
        default=None, description="Only curves that this host measured."
    )
    mode: ModeName | SkipJsonSchema[None] = Field(
        default=None, description="Only curves that a sweep of this mode measured."
    )
    since: Annotated[dt.datetime | SkipJsonSchema[None], WRITTEN_TIME] = Field(
        default=None,
        description="Only curves measured at this time or later (ISO 8601; UTC if it names no time"
        " zone).",
        json_schema_extra={"minLength": 1},
    )
    until: Annotated[dt.datetime | SkipJsonSchema[None], WRITTEN_TIME] = Field(
        default=None,
        description="Only curves measured before this time.",
        json_schema_extra={"minLength": 1},
    )
    search: str = Field(
        default="",
        max_length=200,
        description="Only curves that have each of these words in their workload, host, mode or"
        " platform (device, driver, framework), or whose id or platform's key begins with it. Up to"
        " eight words.",
        examples=["bfloat16 xeon"],
    )
    sort: Sort = Field(
        default="-kept",
        description="What the list is sorted by; with a minus, the largest or latest first."
        " `kept`: when the curve was stored; `measured`: when its last sample was taken; `points`:"
        " the measured ones.",
    )
    cursor: str | SkipJsonSchema[None] = Field(
        default=None,
        max_length=2000,
        description="`next_cursor` of the previous page, with the same `sort`; empty for the first"
        " one. It stays right while curves arrive and are deleted.",
        json_schema_extra={"pattern": "^[0-9A-Za-z_-]*$"},
    )
    limit: int = Field(default=50, ge=1, le=500, description="Largest number of curves on a page.")


class CurveInfo(ResponseModel):
    """A curve without its points."""

    id: str = Field(description="Id of the curve; later curves have larger ids.")
    sweep: str = Field(description="Id of the sweep that measured it.")
    host: str = Field(description="The host that measured it.")
    workload: str = Field(description="Key of the workload.")
    axis_names: list[str] = Field(description="Names of the workload's axes.")
    axes: list[AxisRange] = Field(description="The grid: one range for each axis.")
    mode: ModeName = Field(description="Mode of the sweep that measured it.")
    platform: str = Field(description="Key of the platform measured on.")
    protocol: str = Field(
        description="Key of the timing protocol, which says how latencies were timed."
    )
    num_points: int = Field(description="Points of the grid.")
    num_measured: int = Field(description="Points with at least one sample.")
    num_failures: int = Field(description="Points that couldn't be measured.")
    num_lhps: int = Field(
        description="Points that are confirmed LHPs. Edges don't count: no larger point of the grid"
        " was measured. (A list still counts those of curves kept before edges were told apart.)"
    )
    num_undecided: int = Field(
        description="Measured points that are neither confirmed LHPs nor confirmed dominated nor"
        " edges."
    )
    undecided: float | None = Field(
        description="Share of the grid's points that are neither confirmed LHPs nor confirmed"
        " dominated nor edges, unmeasured ones included. It is large if the sweep was stopped"
        " early. Points that failed don't count. Null for a race or a survey, and if every point"
        " failed."
    )
    redundancy: float | None = Field(
        description="1 − num_lhps / num_measured; null if nothing was measured, and for a"
        " race or a survey, which measure only few points closely."
    )
    measured_at: dt.datetime = Field(description="When its last sample was taken.")
    stale: bool = Field(
        description="Whether the host has another platform now, or another timing protocol."
    )
    evidence: EvidenceInfo = Field(description="What it took to measure it.")


class CurvePage(ResponseModel):
    """Curves in the order asked for; by default, newest first."""

    items: list[CurveInfo] = Field(description="The curves of this page.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last.")


class CurvePoints(ResponseModel):
    """A curve's points as columns of equal length; only measured points."""

    dims: list[Dims] = Field(description="Dims of each point.")
    latency_s: list[float] = Field(description="Median latency, seconds per call.")
    low_s: list[float | None] = Field(
        description="Lower end of the 95 % interval on the median; null for fewer than 6 samples."
    )
    high_s: list[float | None] = Field(description="Upper end of the same interval.")
    num_samples: list[int] = Field(description="Number of samples.")
    status: list[Literal["lhp", "dominated", "undecided", "edge"]] = Field(
        description="`lhp`: every larger point is confidently slower; `dominated`: some larger"
        " point is confidently faster; `undecided`: neither is certain; `edge`: no larger point"
        " of the grid was measured."
    )
    rival: list[Dims | None] = Field(
        description="The best larger point found: the one that dominates a `dominated` point,"
        " and may dominate an `undecided` one. Null if there is none, or none is known."
    )
    ratio: list[float | None] = Field(
        description="Latency of the rival divided by that of the point, paired within rounds that"
        " had no part in choosing the rival."
    )
    ratio_low: list[float | None] = Field(
        description="Lower end of the 95 % interval on the ratio; null for fewer than 6 pairs."
    )
    ratio_high: list[float | None] = Field(description="Upper end of the same interval.")


class BinInfo(ResponseModel):
    """A hysteresis bin of a one-axis curve: after the previous LHP, up to this one."""

    first: int = Field(description="The dimension after the previous LHP.")
    last: int = Field(description="The LHP that ends the bin, and belongs to it.")


class FailedPoint(ResponseModel):
    """A point that couldn't be measured."""

    dims: Dims = Field(description="Dims of the point.")
    reason: str = Field(description="Why it couldn't be measured.")


class CurveDetail(CurveInfo):
    """A curve with its points, LHPs and bins."""

    points: CurvePoints = Field(description="The measured points, the last axis varying fastest.")
    lhps: list[Dims] = Field(description="The confirmed LHPs.")
    bins: list[BinInfo] = Field(description="The hysteresis bins; empty for more than one axis.")
    failures: list[FailedPoint] = Field(description="The points that couldn't be measured.")
    num_dominated: int | None = Field(
        default=None,
        description="Measured points of which some larger point is confidently faster, whether they"
        " are among `points` or left out. Null from a service that doesn't say.",
    )
    num_left_out: int = Field(
        default=0, description="Measured points that `max_points` leaves out of `points`."
    )
    kernels: list[KernelPoints] = Field(
        default_factory=list,
        description="The kernels that ran at some of the points, and at which: the queried point,"
        " the answer, and others along each axis. Empty until they were looked for, and if nothing"
        " names them.",
    )
