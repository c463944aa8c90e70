"""Predicted answers of `GET /lhp`, and predicted landscapes: what a host's model says."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from profiler_service.wire.base import Dims, ResponseModel, optional_field
from profiler_service.wire.questions import LhpAnswer, WindowQuery
from profiler_service.wire.sweeps import AxisRange

Standing = Literal["calibrated", "uncalibrated", "withdrawn", "unknown"]
MOST_PREDICTED = 100_000
"""Most points of a predicted landscape in one response."""


class CalibrationFigures(ResponseModel):
    """How good earlier predictions of this kind of workload were on this platform."""

    num_scores: int = Field(
        description="Earlier predictions that were held against measurements: the newest, at most"
        " 200."
    )
    num_published: int = Field(description="Those of them that were given with an interval.")
    num_misses: int = Field(
        description="Those of these whose interval didn't hold what was measured. One in 20 is"
        " expected to be."
    )


class LearnedFigures(ResponseModel):
    """What a prediction rests on."""

    num_sweeps: float = Field(
        description="Sweeps that the model has learned from, less those that it has forgotten."
        " Those of relatives count half: of the same kind of workload with other fixed parameters,"
        " and of the platform before an upgrade."
    )
    num_visits: float = Field(description="The visits of points in those of this workload itself.")
    learned_at: dt.datetime | None = Field(
        description="When it learned from this workload last; null if it never did."
    )


class PredictedFigures(ResponseModel):
    """What every response says that a model predicts."""

    workload: str = Field(description="Key of the workload.")
    platform: str = Field(description="Key of the platform that is predicted.")
    standing: Standing = Field(
        description="Whether predictions so far from what was learned are believed. `calibrated`:"
        " enough earlier ones were held against measurements, and few were wrong; `uncalibrated`:"
        " there were too few; `withdrawn`: too many of the last ones were wrong; `unknown`: nothing"
        " was learned."
    )
    calibration: CalibrationFigures = Field(description="How good earlier predictions were.")
    rests_on: LearnedFigures = Field(description="What was learned from.")
    distance: float | None = Field(
        description="How far `dims` is from the nearest window that was measured, in octaves, along"
        " the axis where it is farthest; 0 inside of one. Null: nothing near was ever measured."
    )
    caveats: list[str] = Field(
        default_factory=list, description="Reasons for doubt, as texts for people."
    )
    database_away_s: int | SkipJsonSchema[None] = optional_field(
        description="Only while the service's database is away: seconds since it was last read."
    )


class PredictedAnswer(PredictedFigures):
    """What the host's model predicts of larger dims. Nothing was measured for it."""

    basis: Literal["predicted"] = Field(
        default="predicted", description="Always `predicted`: it was not measured."
    )
    dims: Dims = Field(description="The dims asked for.", examples=[[1197, 317]])
    lhp: Dims = Field(
        description="The dims to use: `candidate`, if the prediction is believed. That is if"
        " `standing` is `calibrated` and `probability` is at least 0.9, or if the query says"
        " `unproven=move`. Otherwise `dims`.",
        examples=[[1200, 320]],
    )
    grow_by: Dims = Field(description="`lhp` minus `dims`, per axis.", examples=[[3, 3]])
    candidate: Dims = Field(
        description="The dims that the model would choose, whether it is believed or not."
    )
    speedup: float = Field(
        description="Predicted latency of `dims`, divided by that of `candidate`."
    )
    speedup_interval: tuple[float, float] | None = Field(
        description="95 % interval on `speedup`: as wide as held enough of the earlier predictions."
        " Null if too few were held against measurements."
    )
    probability: float | None = Field(
        description="That `candidate` is no slower than `dims` (by more than `slack`), by how far"
        " earlier predictions were off. Null if there were too few."
    )
    unproven: bool = Field(
        default=False,
        description="Whether `lhp` is larger than `dims` although the prediction isn't believed,"
        " because the query says `unproven=move`.",
    )
    prefer: Literal["fastest", "nearest", "largest"] = Field(description="As asked.")
    slack: float = Field(description="As asked: how much slower still counts as no slower.")
    sweep: str | None = Field(
        default=None,
        description="With `basis=any`: id of the race that was queued to measure it. Ask again for"
        " the measured answer when it has ended. Null otherwise.",
    )


AnyAnswer = Annotated[LhpAnswer | PredictedAnswer, Field(discriminator="basis")]
"""Either answer, as a response has it."""


class PredictedCurveQuery(WindowQuery):
    """The query parameters of `GET /curves/predicted`; further ones as in `WindowQuery`.

    All ratios are to `dims`.
    """

    max_points: int = Field(
        default=4096,
        ge=10,
        le=MOST_PREDICTED,
        description="About how many points to send. If there are more, those of each block of the"
        " window that are predicted to be fastest and slowest, and the best of all.",
    )
    format: Literal["json", "csv"] = Field(default="json", description="Format of the response.")


class PredictedPoints(ResponseModel):
    """Points of a predicted landscape as columns of equal length."""

    dims: list[Dims] = Field(description="Dims of each point; the last axis varies fastest.")
    speedup: list[float] = Field(
        description="Predicted latency of the first point, divided by that of this one."
    )
    deviation: list[float] | None = Field(
        description="The model's own standard deviation of the logarithm of `speedup`. Null if"
        " there are more than 4,096 points."
    )


class PredictedPoint(ResponseModel):
    """One point of a predicted landscape."""

    dims: Dims = Field(description="Its dims.")
    speedup: float = Field(description="As in `points`.")
    speedup_interval: tuple[float, float] | None = Field(
        description="95 % interval on `speedup`; null without enough earlier predictions. It"
        " doesn't allow for the choice of the best of many."
    )
    probability: float | None = Field(
        description="That it is no slower than the first point; null likewise."
    )


class PredictedCurve(PredictedFigures):
    """The predicted landscape of a window. Nothing was measured for it."""

    basis: Literal["predicted"] = Field(
        default="predicted", description="Always `predicted`: it was not measured."
    )
    axis_names: list[str] = Field(description="Names of the workload's axes.")
    axes: list[AxisRange] = Field(description="The window: one range for each axis.")
    num_points: int = Field(
        description="Points of the window that may be the answer: those that the kind refuses, and"
        " those that are no multiples, don't count."
    )
    num_left_out: int = Field(description="Those that `max_points` leaves out of `points`.")
    points: PredictedPoints = Field(description="The points.")
    half_width_in_deviations: float | None = Field(
        description="How many times its `deviation` the 95 % interval of a point reaches to each"
        " side, in log, by earlier predictions. Null if too few were held against measurements."
    )
    best: list[PredictedPoint] = Field(
        description="Up to ten points that are predicted to be fastest, the fastest first."
    )
