"""What the stages of a race share: the budget, visits, and the history.

numpy only. Knows no strategy: `planner` asks `survey`, `narrow`, `contest` and `settle` which
points to visit.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from profiler_service.analysis.neighbours import Neighbours, Noise
from profiler_service.analysis.samples import Samples
from profiler_service.plan.base import MAX_BATCH_VISITS, Batch, Points, SteppedPlanner
from profiler_service.plan.race.budget import Budget
from profiler_service.plan.race.prior_settings import PriorSettings
from profiler_service.plan.race.repeatability import expect_repeatability
from profiler_service.plan.race.seen import Seen
from profiler_service.plan.race.settings import RACE, RaceSettings
from profiler_service.plan.race.stages import End, RaceStage, StageLog, StageName
from profiler_service.plan.race.structure import Structure
from profiler_service.plan.spec import SweepSpec

FEW_CALLS = 8
"""Fewer calls than this don't tell how noisy a host is."""
QUERIED = 0
"""The queried point is the window's first one."""


class RaceVisits(SteppedPlanner):
    """A race without its stages: makes their batches, and keeps their samples."""

    def __init__(self, spec: SweepSpec, settings: RaceSettings = RACE) -> None:
        self.settings = settings
        self.ends: dict[StageName, End] = {}
        """Why each stage ended. Of the contest and the final: the last one."""
        self._log = StageLog()
        self._axes = [np.array(axis.dims) for axis in spec.grid.axes]
        self._structure = Structure(
            self._axes,
            spec.guide,
            settings.prior,
            [0 if axis.second is None else 1 for axis in spec.grid.axes],
            spec.learned_effects,
        )
        self._expected = expect_repeatability(
            settings.settle,
            tau=spec.tau,
            is_compiled=dict(spec.workload.params).get("backend") == "compiled",
        )
        """What is expected of differences between processes and arenas."""
        self._calibrated_noise = settings.budget.reference_noise
        self._budget: Budget | None = None
        self._choosing: list[Samples] = []
        """Samples of the contest."""
        self._judging: list[Samples] = []
        """Samples of the final."""
        self._round = 0
        self._num_arenas = 0
        """Batches of the contest and the final so far."""
        super().__init__(spec)

    @property
    def _learned_prior(self) -> PriorSettings | None:
        """What a model of the host saves; None if it says nothing of this window."""
        return None if self._spec.learned_effects is None else self.settings.prior

    @property
    def _is_guided(self) -> bool:
        """Whether there is a guide. If a learned model holds, it takes the guide's place."""
        return self._spec.guide is not None

    @property
    def stages(self) -> Sequence[RaceStage]:
        """The stages that have ended, in order."""
        return self._log.stages

    @property
    def noise(self) -> float:
        """Relative scale of one call's noise, as far as it is known."""
        return self._calibrated_noise if self._budget is None else self._budget.noise

    def _is_hopeless(self) -> bool:
        """Without the queried point there is nothing to compare with."""
        return QUERIED in self._failures

    def _start(self) -> Generator[Batch, Samples, tuple[Seen, Budget] | None]:
        """A place for what will be seen, and the budget; None if there is no rival."""
        if not (yield from self._calibrate(QUERIED)):
            return None
        log = np.log(self._calibration_s)
        reference = self.settings.budget.reference_noise
        known = Neighbours.of_lengths([len(log)]).find_noise(log)
        if known is None or len(log) < FEW_CALLS:
            known = Noise(width=reference, deviation=reference)
        self._calibrated_noise = known.deviation
        call_s = float(np.median(self._calibration_s))
        self._warms_once = call_s >= self.settings.budget.dear_call_s
        self._round = 1
        if self._num_points == 1:
            return None
        self._budget = Budget(
            self.settings.budget,
            call_s=call_s,
            visit_s=self._visit_s,
            settle_s=self._spec.terms.settle_s,
            noise=self._calibrated_noise,
            asked_s=self._spec.budget_s,
        )
        seen = Seen(self._structure, self._spec.grid.shape, known_noise=known)
        return seen, self._budget

    def _visit(self, points: Points, seen: Seen) -> Generator[Batch, Samples, None]:
        """Visits the points in this order, except those that failed; each batch is a round."""
        points = self._without_failed(points)
        start = 0
        while start < len(points):
            start += yield from self._visit_some(points[start:], seen)
            self._round += 1

    def _visit_some(self, points: Points, seen: Seen) -> Generator[Batch, Samples, int]:
        """How many of the points fill a batch; visits those."""
        part = points[: self._batch_visits()]
        samples = yield self._batch([part], self._round)
        self._learn_visit_s(samples)
        seen.add(samples)
        return len(part)

    @property
    def _contested(self) -> Sequence[Samples]:
        """Samples of the contest and the final."""
        return [*self._choosing, *self._judging]

    def _meet(
        self, field: Points, count: int, *, is_judging: bool = False
    ) -> Generator[Batch, Samples, tuple[Samples, int]]:
        """One batch of at most `count` rounds, and their number.

        Each round visits the whole field in random order. The batch has an arena of its own. The
        processes take turns, those with even numbers where points are chosen, and those with odd
        ones where they are judged: what a process has of its own can't choose and judge, too.
        """
        settle = self.settings.settle
        fitting = int(settle.arena_s / max(self._visit_s, 1e-9)) // len(field)
        count = max(1, min(count, fitting, MAX_BATCH_VISITS // len(field)))
        samples = yield self._batch(
            [self._rng.permutation(field) for _ in range(count)],
            self._round,
            child=2 * self._num_arenas + is_judging,
        )
        self._round += count
        self._num_arenas += 1
        self._learn_visit_s(samples)
        (self._judging if is_judging else self._choosing).append(samples)
        return samples, count

    def _learn(self, budget: Budget, noise: float) -> None:
        budget.learn(noise=noise, visit_s=self._visit_s)

    @property
    def _excluded(self) -> set[int]:
        """The points that can't be the answer: they failed, or are no candidates."""
        return {*self._failures, *self._others.tolist()}

    def _without_failed(self, points: Points) -> Points:
        return points[~np.isin(points, list(self._excluded))]

    def _end_stage(
        self,
        name: StageName,
        field_size: tuple[int, ...],
        kept_size: tuple[int, ...],
        why: str,
        *,
        kept: Sequence[int] = (),
        dropped: Sequence[int] = (),
    ) -> None:
        self._log.end(
            name,
            num_samples=self._num_samples,
            seconds=self._seconds,
            field_size=field_size,
            kept_size=kept_size,
            why=why,
            kept=kept,
            dropped=dropped,
        )
