"""Latency curves: the latency of a workload at each point of a grid, with intervals.

numpy only. Knows neither how samples were taken nor how curves are stored.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.grid import Grid
from profiler_service.workload import Workload

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I8 = npt.NDArray[np.int8]


class PointStatus(enum.IntEnum):
    """What a curve says about one of its points."""

    UNMEASURED = 0
    LHP = 1
    """Every larger point of the grid is confidently slower."""
    DOMINATED = 2
    """Some larger point of the grid is confidently faster."""
    UNDECIDED = 3
    """Measured, but neither of these is certain."""
    EDGE = 4
    """Measured, but no larger point of the grid was."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AnswerTable:
    """For every point of a grid, the point that answers "fastest at or above it".

    All arrays have length n, the grid's number of points. `target` was chosen on one part of
    the samples, and its ratio comes from the other part, so that the choice does not bias it.
    """

    target: I32
    """Number of the best point at or above; the point's own number if nothing larger is confidently
    faster; -1 if the curve has no answer (not measured, or not confirmed)."""
    ratio: F64
    """Latency of the best larger point that was found, divided by that of the point itself; NaN if
    there was none to compare with."""
    ratio_low: F64
    """Lower end of the 95 % interval on `ratio`."""
    ratio_high: F64
    """Upper end of the 95 % interval on `ratio`."""
    rival: I32 | None = None
    """Number of that best larger point, whether or not it is confidently faster; -1 if there is
    none. The whole array is None if the table doesn't name rivals (in old curves)."""

    def find_rivals(self) -> I32:
        """`rival`; if the table doesn't name rivals, the points that answers moved to."""
        if self.rival is not None:
            return self.rival
        moved = self.target != np.arange(len(self.target))
        return np.where(moved, self.target, -1).astype(np.int32)


@dataclass(frozen=True, kw_only=True, eq=False)
class LatencyCurve:
    """Latency over a grid, for one workload on one platform under one protocol.

    All arrays have length n, the grid's number of points, row-major.
    """

    workload: Workload
    platform: Platform
    protocol: TimingProtocol
    grid: Grid
    latency_s: F64
    """Median latency of each point, seconds per call; NaN if it wasn't measured."""
    low_s: F64
    """Lower end of the 95 % interval on `latency_s`; NaN if it isn't known."""
    high_s: F64
    """Upper end of the 95 % interval on `latency_s`; NaN if it isn't known."""
    num_samples: I32
    status: I8
    """A PointStatus for each point."""
    answers: AnswerTable
    measured_at: dt.datetime
    """When the last sample was taken, UTC."""
    failures: Mapping[int, str] = field(default_factory=dict)
    """Point number → why it couldn't be measured."""
    evidence: Evidence = field(default_factory=Evidence)
    """What the measurement took."""
    confirmed: tuple[ConfirmedPair, ...] = ()
    """The pairs that were confirmed. Only a curve fresh from its planner has them: the store keeps
    them as facts."""

    @property
    def num_lhps(self) -> int:
        """Number of confirmed LHPs. Edges don't count."""
        return int(np.count_nonzero(self.status == PointStatus.LHP))

    @property
    def num_undecided(self) -> int:
        """Number of measured points that are neither confirmed LHPs nor confirmed dominated."""
        return int(np.count_nonzero(self.status == PointStatus.UNDECIDED))

    @property
    def num_measured(self) -> int:
        """Number of points with at least one sample."""
        return int(np.count_nonzero(self.num_samples))

    @property
    def redundancy(self) -> float:
        """1 − #LHPs / #measured points (Source: Yin et al., Fig. 3); NaN for no points.

        Only confirmed LHPs count, so this is an upper bound;
        `redundancy − num_undecided / num_measured` is the lower one.
        """
        return 1 - self.num_lhps / self.num_measured if self.num_measured else float("nan")
