"""What a comparison of curves has found, as sentences. Pure."""

from __future__ import annotations

import math
from typing import Final

from profiler_service.analysis.curve_comparison import RatioSummary

LEAST_FACTOR: Final = 1.2
"""Smaller gains read as percentages, larger ones as factors."""


def describe_finding(summary: RatioSummary, *, label: str, reference: str) -> str:
    """How the curve called `label` compares with the one called `reference`, in a sentence."""
    typical = summary.typical
    count = typical.num_pairs
    where = "at their only common point" if count == 1 else f"at the median of {count:,} points"
    if typical.verdict == "ambiguous":
        claim = f"{label} and {reference} don't clearly differ {where}"
        detail = f"ratio {typical.ratio:.3f}"
        if typical.high < math.inf:
            detail += f", 95 % interval {typical.low:.3f} to {typical.high:.3f}"
    else:
        is_faster = typical.verdict == "faster"
        factors = [typical.ratio, typical.low, typical.high]
        if is_faster:
            factors = [1 / each for each in (typical.ratio, typical.high, typical.low)]
        claim = f"{label} {_tell_factor(factors[0], reference, is_faster=is_faster)} {where}"
        detail = f"95 % interval {_tell_interval(factors)}"
    text = f"{claim} ({detail})"
    if count > 1:
        text += (
            f": faster at {summary.num_faster:,}, slower at {summary.num_slower:,},"
            f" undecided at {summary.num_undecided:,}"
        )
    return text + "."


def _tell_factor(factor: float, reference: str, *, is_faster: bool) -> str:
    """`is 3.4 % faster than dense`, `is 1.45 × as fast as dense`, `takes 1.45 × as long as dense`.

    `factor` is at least 1: how much faster, or how much slower.
    """
    if factor < LEAST_FACTOR:
        word = "faster" if is_faster else "slower"
        return f"is {100 * (factor - 1):.1f} % {word} than {reference}"
    verb = "is {:.2f} × as fast as" if is_faster else "takes {:.2f} × as long as"
    return f"{verb.format(factor)} {reference}"


def _tell_interval(factors: list[float]) -> str:
    """The interval of a factor, which comes first, in the factor's own terms."""
    factor, low, high = factors
    if factor < LEAST_FACTOR:
        return f"{100 * (low - 1):.1f} to {100 * (high - 1):.1f} %"
    return f"{low:.2f} to {high:.2f}"
