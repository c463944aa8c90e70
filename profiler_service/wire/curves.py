"""Curves, with and without their points."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import Field

from profiler_service.wire.base import Dims, Evidence, ResponseModel
from profiler_service.wire.sweeps import AxisRange


class CurveInfo(ResponseModel):
    """A curve without its points."""

    id: str
    sweep: str
    host: str
    workload: str = Field(description="Key of the workload.")
    axis_names: list[str]
    axes: list[AxisRange]
    mode: Literal["race", "survey", "grid", "kernels"]
    platform: str
    protocol: str
    num_points: int = Field(description="Points of the grid.")
    num_measured: int
    num_failures: int
    num_lhps: int
    num_undecided: int
    undecided: float | None = Field(
        description="Share of the grid's points that are neither confirmed LHPs nor confirmed"
        " dominated: how much a sweep that was stopped early left open. Points that failed"
        " don't count; null for a race or a survey, and where every point failed."
    )
    redundancy: float | None = Field(
        description="1 − num_lhps / num_measured; null where nothing was measured, and for a"
        " race or a survey, which look for one point's answer and at few others closely."
    )
    measured_at: dt.datetime
    stale: bool = Field(
        description="True where the host is on another platform now, or takes time otherwise."
    )
    evidence: Evidence


class CurvePage(ResponseModel):
    """Curves, newest first."""

    items: list[CurveInfo]
    next_cursor: str | None


class CurvePoints(ResponseModel):
    """A curve's points as columns of equal length; only measured points."""

    dims: list[Dims]
    latency_s: list[float]
    low_s: list[float | None] = Field(
        description="Lower end of the 95 % interval on the median; null for fewer than 6 samples."
    )
    high_s: list[float | None] = Field(description="Upper end of it, likewise.")
    num_samples: list[int]
    status: list[Literal["lhp", "dominated", "undecided"]]
    rival: list[Dims | None] = Field(
        description="The best larger point found: the one that dominates a `dominated` point,"
        " and may dominate an `undecided` one. Null where there is none, or none is known."
    )
    ratio: list[float | None] = Field(
        description="Latency of the rival over that of the point, paired within rounds that had"
        " no part in choosing the rival."
    )
    ratio_low: list[float | None] = Field(
        description="Lower end of the 95 % interval on the ratio; null for fewer than 6 pairs."
    )
    ratio_high: list[float | None] = Field(description="Upper end of it, likewise.")


class BinInfo(ResponseModel):
    """A hysteresis bin of a one-axis curve: after the previous LHP, up to this one."""

    first: int
    last: int = Field(description="The LHP that ends the bin, and belongs to it.")


class FailedPoint(ResponseModel):
    """A point that couldn't be measured."""

    dims: Dims
    reason: str


class CurveDetail(CurveInfo):
    """A curve with its points, LHPs and bins."""

    points: CurvePoints
    lhps: list[Dims]
    bins: list[BinInfo] = Field(description="Empty for more than one axis.")
    failures: list[FailedPoint]
