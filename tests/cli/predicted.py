"""Predictions as a service might send them."""

from __future__ import annotations

from profiler_service.wire import (
    AxisRange,
    CalibrationFigures,
    LearnedFigures,
    PredictedAnswer,
    PredictedCurve,
    PredictedPoint,
    PredictedPoints,
)
from tests.cli.stub import LINEAR, NOW

_LEARNED = LearnedFigures(num_sweeps=53.6, num_visits=24_120.4, learned_at=NOW)
_CALIBRATION = CalibrationFigures(num_scores=54, num_published=32, num_misses=1)

PREDICTED = PredictedAnswer(
    workload=LINEAR,
    platform="f00d",
    standing="calibrated",
    calibration=_CALIBRATION,
    rests_on=_LEARNED,
    distance=0.0,
    dims=[1197, 317],
    lhp=[1200, 320],
    grow_by=[3, 3],
    candidate=[1200, 320],
    speedup=1.031,
    speedup_interval=(1.019, 1.042),
    probability=0.97,
    prefer="fastest",
    slack=0.0,
)

LANDSCAPE = PredictedCurve(
    workload=LINEAR,
    platform="f00d",
    standing="calibrated",
    calibration=_CALIBRATION,
    rests_on=_LEARNED,
    distance=0.0,
    axis_names=["out_features", "in_features"],
    axes=[AxisRange(first=1197, last=1198), AxisRange(first=317, last=319)],
    num_points=6,
    num_left_out=0,
    points=PredictedPoints(
        dims=[[1197, 317], [1197, 318], [1197, 319], [1198, 317], [1198, 318], [1198, 319]],
        speedup=[1.0, 0.99, 0.98, 1.01, 1.04, 0.97],
        deviation=[0.004, 0.005, 0.005, 0.005, 0.006, 0.005],
    ),
    half_width_in_deviations=2.0,
    best=[
        PredictedPoint(
            dims=[1198, 318], speedup=1.04, speedup_interval=(1.0276, 1.0526), probability=0.96
        ),
        PredictedPoint(dims=[1198, 317], speedup=1.01, speedup_interval=None, probability=None),
    ],
)

# A line: 317 to 320, of which 320 is predicted to be 5 % faster.
LINE = LANDSCAPE.model_copy(
    update={
        "axis_names": ["in_features"],
        "axes": [AxisRange(first=317, last=320)],
        "num_points": 4,
        "points": PredictedPoints(
            dims=[[317], [318], [319], [320]],
            speedup=[1.0, 0.99, 0.98, 1.05],
            deviation=[0.004, 0.005, 0.005, 0.006],
        ),
        "best": [
            PredictedPoint(
                dims=[320], speedup=1.05, speedup_interval=(1.0375, 1.0627), probability=0.96
            )
        ],
    }
)
