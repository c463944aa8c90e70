"""Dominance, latency hysteresis points, hysteresis bins, redundancy, and the query.

numpy only. Source: Yin et al., section 3; the statistics are ours (docs/hysteresis.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from profiler_service.curve import LatencyCurve
from profiler_service.sweep import Prefer
from profiler_service.workload import Dims

Verdict = Literal["faster", "slower", "ambiguous"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Which larger point costs no more than the one asked for."""

    dims: Dims
    lhp: Dims
    """The dims to use; equal to `dims` where nothing larger is confidently faster."""
    is_lhp: bool
    """Whether `dims` is itself an LHP: every larger rival is confidently slower."""
    verdict: Verdict
    """Of the best larger point found against `dims`: `faster` where the answer moved;
    otherwise `slower` or `ambiguous`."""
    prefer: Prefer
    latency_s: float
    lhp_latency_s: float
    speedup: float
    """Latency of `dims` over latency of `lhp`; 1 where they are the same."""
    speedup_interval: tuple[float, float]
    """95 % interval on `speedup`; (1, 1) where they are the same."""
    num_samples: int
    """Samples of `dims` and `lhp` together."""

    @property
    def grow_by(self) -> Dims:
        """`lhp` minus `dims`, per axis."""
        return tuple(b - a for a, b in zip(self.dims, self.lhp, strict=True))


def find_answer(
    curve: LatencyCurve, dims: Sequence[int], *, prefer: Prefer, growth: Sequence[int]
) -> Answer | None:
    """The answer that `curve` holds for `dims`, or None where it holds none.

    `growth` bounds how far the answer may lie above `dims`, per axis (inclusive).
    """
    raise NotImplementedError
