"""What the stages of a race share: the budget, warm-ups, visits, and the history.

numpy only. Knows no strategy: `planner` asks `survey`, `narrow`, `contest` and `confirm` which
points to visit.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.samples import Samples
from profiler_service.plan.base import Batch, Points, SteppedPlanner
from profiler_service.plan.race.budget import Budget, VisitCost
from profiler_service.plan.race.contest import Rounds
from profiler_service.plan.race.seen import Seen
from profiler_service.plan.race.settings import RACE, RaceSettings
from profiler_service.plan.race.stages import End, RaceStage, StageLog, StageName
from profiler_service.plan.race.structure import Structure
from profiler_service.plan.race.warmup import WarmupRule, second_over_first
from profiler_service.plan.spec import SweepSpec

QUERIED = 0
"""The queried point is the window's first one."""


class RaceVisits(SteppedPlanner):
    """A race without its stages: makes their batches, and keeps their samples."""

    def __init__(self, spec: SweepSpec, settings: RaceSettings = RACE) -> None:
        self.settings = settings
        self.ends: dict[StageName, End] = {}
        """Why each stage ended. For the confirmation: why the last rival's ended."""
        self._log = StageLog()
        self._structure = Structure(
            [np.array(axis.dims) for axis in spec.grid.axes],
            spec.guide,
            settings.prior,
            [0 if axis.second is None else 1 for axis in spec.grid.axes],
        )
        self._calibrated_noise = settings.budget.reference_noise
        self._visit_cost = VisitCost(call_s=0.0, overhead_s=0.0, calls=1)
        self._budget: Budget | None = None
        self._warmup = WarmupRule(settings.warmup, 0.0)
        self._contested: list[Samples] = []
        """Samples of the contest and the confirmations."""
        self._round = 0
        super().__init__(spec)

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
        """What was seen while warming up, and the budget; None if there is no rival."""
        if not (yield from self._calibrate(QUERIED)):
            return None
        log = np.log(self._calibration_s)
        self._calibrated_noise = float(1.48 * np.median(np.abs(log - np.median(log))))
        self._round = 1
        if self._num_points == 1:
            return None
        self._visit_cost = VisitCost(
            call_s=float(np.median(self._calibration_s)),
            overhead_s=self._overhead_s,
            calls=self._calls,
        )
        self._budget = self._create_budget()
        return (yield from self._warm_up()), self._budget

    def _create_budget(self) -> Budget:
        # If rearranging the weight for its kernel takes longer than the call, it is most of the
        # time of a visit. Otherwise the overhead is small, and mostly noise.
        is_prepared = dict(self._spec.workload.params).get("backend", "dense") != "dense"
        preparing_s = self._overhead_s if is_prepared else 0.0
        visit_s = max(self._visit_cost.call_s * self._structure.mean_growth(), preparing_s)
        return Budget(
            self.settings.budget,
            self._visit_cost,
            num_points=self._spec.grid.num_candidates,
            once_s=self._spec.grid.num_candidates * visit_s,
            least_look_s=self.settings.confirm.least_look_s,
            noise=self._calibrated_noise,
            asked_s=self._spec.budget_s,
        )

    def _scale(self, visits: int, budget: Budget) -> int:
        """`visits`, which is stated for the reference noise, for the noise seen here."""
        # Only with long calls does little noise reduce the number of visits: it may be a quiet
        # moment.
        return budget.scale(visits, min(1.0, self.settings.warmup.dear_visit_s / self._visit_s))

    def _warm_up(self) -> Generator[Batch, Samples, Seen]:
        """What was seen while deciding which visits are warmed up."""
        self._warmup = WarmupRule(self.settings.warmup, self._visit_cost.call_s)
        probed: list[Samples] = []
        if self._warmup.wants_probe:
            probed.append((yield from self._probe()))
        is_warm = self._warmup.narrow_calls > 0
        # Calls without a warm-up, of shapes that need one, say nothing about latency.
        return self._create_seen(is_warm=is_warm, batches=() if is_warm else probed)

    def _probe(self) -> Generator[Batch, Samples, Samples]:
        """Visits some points twice, without a warm-up."""
        larger = np.setdiff1d(np.arange(1, self._num_points), self._others)
        count = min(self.settings.warmup.probe_points, len(larger))
        points = larger[self._rng.choice(len(larger), size=count, replace=False)]
        rounds = [self._rng.permutation(points), self._rng.permutation(points)]
        samples = yield self._batch(rounds, self._round, warmup_calls=0)
        ratios = second_over_first(samples, self._round)
        self._warmup.update(ratios, self._calibrated_noise)
        self._round += 2
        return samples

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
        samples = yield self._batch([part], self._round, warmup_calls=self._warmup.narrow_calls)
        self._learn_visit_s(samples)
        seen.add(samples)
        return len(part)

    def _race(self, rounds: Rounds, raced: Seen) -> Generator[Batch, Samples, None]:
        """Visits all of the field in each of the rounds."""
        per_batch = max(1, self._batch_visits() // len(rounds.field))
        done = 0
        while done < rounds.count:
            count = min(per_batch, rounds.count - done)
            samples = yield from self._meet(rounds.field, count)
            self._learn_visit_s(samples)
            raced.add(samples)
            done += count

    def _meet(self, field: Points, count: int) -> Generator[Batch, Samples, Samples]:
        """One batch of so many rounds. Each round visits the whole field in random order."""
        samples = yield self._batch(
            [self._rng.permutation(field) for _ in range(count)],
            self._round,
            warmup_calls=self._warmup.contest_calls,
        )
        self._round += count
        self._contested.append(samples)
        return samples

    def _rank(self, candidates: Points, raced: Seen) -> tuple[Points, F64]:
        """The candidates that didn't fail, fastest first, and how far each is behind."""
        candidates = self._without_failed(candidates)
        if raced.is_empty or not len(candidates):
            return candidates[:0], np.zeros(0)
        return raced.rank(candidates)

    def _create_seen(self, *, is_warm: bool, batches: Sequence[Samples] = ()) -> Seen:
        return Seen(
            self._structure,
            self._spec.grid.shape,
            is_warm=is_warm,
            known_noise=self._calibrated_noise,
            batches=batches,
        )

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
