"""What a comparison of curves has found, in words."""

from __future__ import annotations

import math

import pytest

from profiler_service.analysis.comparison import judge
from profiler_service.analysis.curve_comparison import RatioSummary
from profiler_service.answering.findings import describe_finding


def summary(ratio: float, low: float, high: float, *, points: int = 257) -> RatioSummary:
    logs = (math.log(ratio), math.log(low) if low else -math.inf, math.log(high))
    return RatioSummary(
        typical=judge(*logs, num_pairs=points),
        spread=(0.9, 1.1),
        num_faster=points - 7,
        num_slower=2,
        num_undecided=5,
    )


@pytest.mark.parametrize(
    ("ratio", "low", "high", "text"),
    [
        (
            *(1 / 1.45, 1 / 1.5, 1 / 1.41),
            "packed is 1.45 × as fast as dense at the median of 257 points"
            " (95 % interval 1.41 to 1.50)",
        ),
        (
            *(1 / 1.1, 1 / 1.12, 1 / 1.05),
            "packed is 10.0 % faster than dense at the median of 257 points"
            " (95 % interval 5.0 to 12.0 %)",
        ),
        (
            *(1.034, 1.02, 1.05),
            "packed is 3.4 % slower than dense at the median of 257 points"
            " (95 % interval 2.0 to 5.0 %)",
        ),
        (
            *(2.95, 2.9, 3.0),
            "packed takes 2.95 × as long as dense at the median of 257 points"
            " (95 % interval 2.90 to 3.00)",
        ),
        (
            *(1.003, 0.995, 1.012),
            "packed and dense don't clearly differ at the median of 257 points"
            " (ratio 1.003, 95 % interval 0.995 to 1.012)",
        ),
    ],
)
def test_a_finding_is_a_sentence(ratio: float, low: float, high: float, text: str) -> None:
    found = describe_finding(summary(ratio, low, high), label="packed", reference="dense")
    assert found == f"{text}: faster at 250, slower at 2, undecided at 5."


def test_one_point_is_no_median() -> None:
    one = summary(0.5, 0.45, 0.55, points=1)
    assert describe_finding(one, label="packed", reference="dense") == (
        "packed is 2.00 × as fast as dense at their only common point (95 % interval 1.82 to 2.22)."
    )
    unknown = summary(0.5, 0.0, math.inf, points=1)
    assert describe_finding(unknown, label="b", reference="a") == (
        "b and a don't clearly differ at their only common point (ratio 0.500)."
    )
