"""Several curves of one workload family, compared: all that a chart of them needs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from profiler_service.wire.base import Dims, ResponseModel
from profiler_service.wire.curves import CurveInfo

About = Literal["parameter", "platform", "host", "mode", "grid", "time", "protocol"]


class CurveDifference(ResponseModel):
    """Something in which the curves differ."""

    about: About = Field(description="What it belongs to; `time`: when it was measured.")
    name: str = Field(description="Its name: `backend`, `threads`, `host`.", examples=["backend"])
    values: list[str | None] = Field(
        description="One for each curve, in their order; null: the curve's workload or platform"
        " has none.",
        examples=[["dense", "packed"]],
    )


class CurveLikeness(ResponseModel):
    """Something in which all curves are alike."""

    about: About = Field(description="What it belongs to.")
    name: str = Field(description="Its name.")
    value: str = Field(description="Its value.")


class CurveRatios(ResponseModel):
    """A curve compared with the first one: columns, one value for each of `dims`."""

    ratio: list[float | None] = Field(
        description="Latency of this curve divided by that of the first one; null where only one"
        " of them was measured."
    )
    ratio_low: list[float | None] = Field(
        description="Lower end of the 95 % interval on the ratio; null if it isn't known."
    )
    ratio_high: list[float | None] = Field(description="Upper end of the same interval.")
    verdict: list[Literal["faster", "slower", "ambiguous"] | None] = Field(
        description="How this curve compares with the first one there."
    )


class CurveRatioSummary(ResponseModel):
    """What the ratios of all common points say together, those not sent included."""

    num_points: int = Field(description="Points that both curves have.")
    num_faster: int = Field(description="Of these, where this curve is confidently faster.")
    num_slower: int = Field(description="Where it is confidently slower.")
    num_undecided: int = Field(description="Where neither is certain.")
    verdict: Literal["faster", "slower", "ambiguous"] = Field(
        description="Whether the whole interval on `ratio` is below 1, above 1, or neither."
    )
    ratio: float = Field(description="The typical ratio: the median over the points.")
    ratio_interval: tuple[float | None, float | None] = Field(
        description="95 % interval on `ratio`, for which the points are a sample of sizes. Of fewer"
        " than 6 points: from the lowest to the highest end of their intervals. Null: not known."
    )
    spread: tuple[float, float] = Field(
        description="Eight of ten points have a ratio between these."
    )
    num_lhps_of_both: int | None = Field(
        description="Common points that are LHPs of both curves; null unless both curves decide"
        " every point."
    )
    num_lhps_of_any: int | None = Field(
        description="Common points that are LHPs of at least one of both; null likewise."
    )


class ComparedCurve(ResponseModel):
    """One of the curves: its points as columns, one value for each of `dims`."""

    curve: CurveInfo = Field(description="The curve.")
    label: str = Field(description="What tells it from the others, in a few words.")
    latency_s: list[float | None] = Field(
        description="Median latency, seconds per call; null where it wasn't measured."
    )
    low_s: list[float | None] = Field(
        description="Lower end of the 95 % interval on the median; null if it isn't known."
    )
    high_s: list[float | None] = Field(description="Upper end of the same interval.")
    status: list[Literal["lhp", "dominated", "undecided", "edge"] | None] = Field(
        description="As in `GET /curves/{id}`; null where it wasn't measured."
    )
    ratios: CurveRatios | None = Field(
        description="Compared with the first curve; null for the first one itself."
    )
    summary: CurveRatioSummary | None = Field(description="The same, summed up; null likewise.")


class CurveComparison(ResponseModel):
    """Two to six curves of one workload family, compared with the first of them."""

    finding: str = Field(
        description="What was found, in a sentence for each curve but the first.",
        examples=[
            "packed is 1.45 × as fast as dense at the median of 257 common points (95 % interval"
            " 1.41 to 1.50): faster at 250, slower at 2, undecided at 5."
        ],
    )
    workload: str = Field(description="Name of the workload kind that all curves are of.")
    axis_names: list[str] = Field(description="Names of the axes.")
    differs: list[CurveDifference] = Field(
        description="In what the curves differ. A platform is told by those of its fields that"
        " differ."
    )
    same: list[CurveLikeness] = Field(description="In what they are all alike.")
    intervals: Literal["paired", "independent"] = Field(
        description="`paired`: the curves were measured in the same rounds, so that drift cancels."
        " `independent`: in sweeps of their own, so that the intervals hold what each sweep saw and"
        " how much processes differ, and a machine that was slower for a whole sweep counts as a"
        " difference. Curves of different sweeps are always independent."
    )
    num_points: int = Field(description="Points that the first curve and some other one have.")
    num_left_out: int = Field(description="Of these, those that `max_points` leaves out.")
    dims: list[Dims] = Field(description="The points sent, the last axis varying fastest.")
    curves: list[ComparedCurve] = Field(description="The curves, in the order asked for.")
