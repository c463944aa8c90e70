"""What every planner shares: batches, the planner protocol, and planning as one generator.

numpy only. Knows no strategy.
"""

from __future__ import annotations

import abc
import datetime as dt
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.errors import MeasurementFailedError
from profiler_service.plan.modes import MODES
from profiler_service.plan.spec import Progress, SweepSpec
from profiler_service.plan.window import find_refused

Points = npt.NDArray[np.int32]

ANCHOR_EVERY = 16
"""Visits of other points between two visits of the anchor."""
MIN_SAMPLE_S = 8e-6
"""Shortest time of a sample: short calls are repeated, because reading the clock takes time too."""
MAX_CALLS = 8
CALIBRATION_VISITS = 24
CALIBRATION_S = 0.05
FIRST_VISITS = 2
"""Visits of the first batch, when the time of a visit is not known yet."""
BATCH_S = 0.5
"""Intended length of a batch. A worker that is killed loses at most one batch."""
MAX_BATCH_VISITS = 2048
LEAST_VISIT_S = 1e-7
"""No visit is taken to be shorter, whatever the clock says."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Visits to make one after the other. A batch is measured and committed as a whole."""

    point: Points
    """Numbers of the points to visit, in this order. A point may occur several times, as anchors
    do."""
    round: npt.NDArray[np.int32]
    """The round that each visit belongs to."""
    calls: int = 1
    """Calls to time together in each visit."""
    warmup_calls: int = 1
    """Untimed calls at the start of each visit."""
    warms_once: bool = False
    """Whether a CPU makes them only at a process' first visit of each point."""
    child: int = 0
    """Which of the host's measuring processes makes the visits: this number modulo theirs."""

    def select(self, visits: npt.NDArray[np.intp]) -> Batch:
        """The batch of only these visits."""
        return replace(self, point=self.point[visits], round=self.round[visits])


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What was measured of a batch."""

    samples: Samples
    rest: Batch | None
    """The visits that are left, in order; None if the batch is done."""


class Planner(Protocol):
    """Decides what to measure.

    `next_batch` and `record` alternate. Given the same spec and the same recorded samples, a
    planner makes the same decisions, so replaying committed batches restores it.
    """

    def next_batch(self) -> Batch | None:
        """The next visits, or None when nothing more needs measuring."""

    def record(self, samples: Samples) -> None:
        """Takes the samples of the last batch."""

    def progress(self) -> Progress:
        """How far the sweep is."""

    def build_curve(
        self, platform: Platform, protocol: TimingProtocol, measured_at: dt.datetime
    ) -> LatencyCurve:
        """The curve from everything recorded so far.

        Raises MeasurementFailedError if nothing could be measured.
        """


class SteppedPlanner(abc.ABC):
    """A planner written as one generator, which yields batches and receives their samples."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self._num_points = spec.grid.size
        refused = find_refused(spec.workload, spec.grid)
        self._others = np.union1d(spec.grid.find_others(), refused[refused > 0])
        """Points of the grid that are no candidates, or that the kind refuses: they are never
        measured. The first one is."""
        self._rng = np.random.default_rng(spec.seed)
        self._batches: list[Samples] = []
        self._failures: dict[int, str] = {}
        self._fraction = 0.0
        self._stage = "calibrating"
        self._calls = 1
        self._warms_once = False
        self._warmed: dict[int, set[int]] = {}
        """The points that each measuring process has visited."""
        self._num_calls = 0
        self._num_samples = 0
        self._seconds = 0.0
        self._visit_s = 0.0
        self._calibration_s: F64 = np.zeros(0)
        self._steps = self._plan()
        self._pending: Batch | None = next(self._steps)

    @abc.abstractmethod
    def _plan(self) -> Generator[Batch, Samples, None]:
        """The plan itself."""

    def next_batch(self) -> Batch | None:
        """The next visits, or None when nothing more needs measuring."""
        return self._pending

    def record(self, samples: Samples) -> None:
        """Takes the samples of the last batch."""
        assert self._pending is not None, "nothing was to be measured"
        self._num_calls += self._count_calls(self._pending, samples.child)
        self._num_samples += len(samples)
        self._seconds += samples.seconds
        self._batches.append(samples)
        self._failures.update(samples.failures)
        try:
            self._pending = None if self._is_hopeless() else self._steps.send(samples)
        except StopIteration:
            self._pending = None
        if self._pending is None:
            self._advance(1.0, "finished")

    def _count_calls(self, batch: Batch, child: int) -> int:
        """Calls of the batch, the untimed ones included, if that process made its visits."""
        warmed = self._warmed.setdefault(child, set())
        new = {*batch.point.tolist()} - warmed
        warmed |= new
        num_warmed = len(new) if batch.warms_once else len(batch.point)
        return len(batch.point) * batch.calls + num_warmed * batch.warmup_calls

    def _is_hopeless(self) -> bool:
        """Whether so many points failed that nothing can be found any more."""
        return False

    def progress(self) -> Progress:
        """How far the sweep is."""
        return Progress(
            fraction=self._fraction,
            stage=self._stage,
            num_samples=self._num_samples,
            seconds=self._seconds,
        )

    def _advance(self, fraction: float, stage: str) -> None:
        self._fraction = max(self._fraction, min(fraction, 1.0))
        self._stage = stage

    def _calibrate(self, anchor: int) -> Generator[Batch, Samples, bool]:
        """Warms up the host on the anchor and learns how long a visit takes; False if it fails."""
        latencies_s: list[F64] = []
        visits, per_visit_s = FIRST_VISITS, 0.0
        while visits:
            samples = yield self._batch([np.full(visits, anchor, dtype=np.int32)], 0)
            if not len(samples):
                return False
            is_first = not latencies_s
            latencies_s.append(samples.latency_s)
            per_visit_s = find_visit_s(samples)
            more = min(CALIBRATION_VISITS - visits, int(CALIBRATION_S / per_visit_s))
            visits = more if is_first else 0
        self._calibration_s = np.concatenate(latencies_s)
        latency_s = float(np.median(self._calibration_s))
        self._calls = int(np.clip(np.ceil(MIN_SAMPLE_S / latency_s), 1, MAX_CALLS))
        self._visit_s = max(per_visit_s, 2 * latency_s) + (self._calls - 1) * latency_s
        return True

    def _batch(
        self, rounds: Sequence[Points], first_round: int, *, warmup_calls: int = 1, child: int = 0
    ) -> Batch:
        """One batch of these rounds, numbered from `first_round`, for that measuring process."""
        return Batch(
            point=np.concatenate(rounds).astype(np.int32),
            round=np.repeat(
                np.arange(first_round, first_round + len(rounds)), [len(r) for r in rounds]
            ).astype(np.int32),
            calls=self._calls,
            warmup_calls=warmup_calls,
            warms_once=self._warms_once,
            child=child,
        )

    def _with_anchors(self, points: Points, anchor: int) -> Points:
        """The points with the anchor before every ANCHOR_EVERY of them, and at the end.

        If the anchor has failed, it is left out: the residuals of the other points then show the
        drift.
        """
        if anchor in self._failures:
            return points
        every = np.arange(0, len(points), ANCHOR_EVERY)
        return np.append(np.insert(points, every, anchor), anchor).astype(np.int32)

    def _batch_visits(self) -> int:
        """Number of visits that fill a batch."""
        return int(np.clip(BATCH_S / max(self._visit_s, 1e-9), 1, MAX_BATCH_VISITS))

    def _learn_visit_s(self, samples: Samples) -> None:
        """Learns how long visits really take (larger points, shapes called for the first time)."""
        if len(samples):
            self._visit_s = (self._visit_s + find_visit_s(samples)) / 2

    def _cost(self) -> Evidence:
        """The evidence that every planner has."""
        is_race = MODES[self._spec.mode].is_race
        return Evidence(
            seconds=round(self._seconds, 4),
            batches=len(self._batches),
            samples=self._num_samples,
            calls=self._num_calls,
            discarded=sum(b.num_discarded for b in self._batches),
            unstable=sum(int(b.unstable.sum()) for b in self._batches),
            asked_budget_s=self._spec.budget_s,
            asked_margin=self._spec.terms.margin if is_race else None,
            asked_settle_s=self._spec.terms.settle_s if is_race else None,
        )

    def _first_failure(self) -> MeasurementFailedError:
        reason = next(iter(self._failures.values()), "nothing was measured")
        return MeasurementFailedError(
            f"no point could be measured: {reason}",
            hint="the reason is the first failed point's; see the sweep's failures",
        )


def find_visit_s(samples: Samples) -> float:
    """The time of a visit, from one sample to the next, without what a batch takes to begin.

    A batch maps its memory first, which takes as long as many visits.
    """
    if len(samples) < 2:
        return samples.seconds
    span_s = float(samples.time_s[-1] - samples.time_s[0])
    return max(span_s / (len(samples) - 1), LEAST_VISIT_S)
