"""Reads figures: their traces, and the numbers of packed columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from profiler_service.plots.figure import Figure, Trace, unpack
from profiler_service.wire import AxisRange, CurvePoints, FailedPoint
from tests.cli.stub import CURVE, LINEAR


def traces(figure: Figure) -> dict[str, Trace]:
    """The traces by name; of several with one name, the last, which is the mark on its halo."""
    return {trace["name"]: trace for trace in figure["data"]}


def numbers(column: Any) -> Any:
    """A column as a list of numbers, without the last digits, which depend on the unit."""
    values = unpack(column) if isinstance(column, dict) else np.asarray(column)
    return values if values.dtype.kind not in "fi" else values.astype(float).round(6).tolist()


def points(trace: Trace) -> list[tuple[float, float]]:
    """x and y of each mark."""
    return list(zip(numbers(trace["x"]), numbers(trace["y"]), strict=True))


def notes(figure: Figure) -> list[str]:
    """The texts on the figure."""
    return [note["text"] for note in figure["layout"]["annotations"]]


# 3 × 2 points, of which 5 were measured and (12,6) failed. (11,6), 40 µs, has nothing larger
# that was measured: an LHP; so has (12,5), 30 µs. (10,5) at 50 is dominated by both.
PLANE = CURVE.model_copy(
    update={
        "id": "c8",
        "workload": LINEAR,
        "axis_names": ["out_features", "in_features"],
        "axes": [AxisRange(first=10, last=12), AxisRange(first=5, last=6)],
        "num_measured": 5,
        "num_undecided": 0,
        "undecided": 0.0,
        "points": CurvePoints(
            dims=[[10, 5], [10, 6], [11, 5], [11, 6], [12, 5]],
            latency_s=[50e-6, 55e-6, 45e-6, 40e-6, 30e-6],
            low_s=[49e-6, 54e-6, 44e-6, 39e-6, 29e-6],
            high_s=[51e-6, 56e-6, 46e-6, 41e-6, 31e-6],
            num_samples=[4] * 5,
            status=["dominated", "dominated", "dominated", "lhp", "lhp"],
            rival=[[12, 5], [11, 6], [12, 5], None, None],
            ratio=[0.6, 0.727, 0.667, None, None],
            ratio_low=[0.59, 0.72, 0.66, None, None],
            ratio_high=[0.61, 0.74, 0.68, None, None],
        ),
        "lhps": [[11, 6], [12, 5]],
        "bins": [],
        "failures": [FailedPoint(dims=[12, 6], reason="out of memory")],
    }
)
