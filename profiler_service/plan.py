"""Which points to measure next: rounds in random order, racing, when to stop.

numpy only: planners are pure objects fed with samples, so that tests can give them synthetic
devices. They know neither torch, nor storage, nor wall clocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol as TypingProtocol

import numpy as np
import numpy.typing as npt

from profiler_service.curve import LatencyCurve
from profiler_service.samples import Platform, Protocol, Samples
from profiler_service.sweep import Progress, SweepSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Visits to be made one after the other: the unit that is measured and committed."""

    point: npt.NDArray[np.int32]
    """Numbers of the points to visit, in this order; points recur (anchors do)."""
    round: npt.NDArray[np.int32]
    """The round that each visit belongs to."""
    calls: int = 1
    """Calls to time together in each visit."""
    warmup_calls: int = 1
    """Untimed calls at the start of each visit."""


class Planner(TypingProtocol):
    """Decides what to measure.

    `next_batch` and `record` alternate. Given the same spec and the same recorded samples, a
    planner makes the same decisions, so replaying committed batches restores it exactly.
    """

    def next_batch(self) -> Batch | None:
        """The next visits, or None when nothing more needs measuring."""

    def record(self, samples: Samples) -> None:
        """Takes the samples of the batch given last."""

    def progress(self) -> Progress:
        """How far the sweep is."""

    def build_curve(self, platform: Platform, protocol: Protocol) -> LatencyCurve:
        """The curve from everything recorded so far; works at any moment after one batch."""


def create_planner(spec: SweepSpec) -> Planner:
    """The planner for `spec.mode`."""
    raise NotImplementedError
