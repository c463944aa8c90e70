"""The score of a prediction: measures the pair that the host's model had predicted.

numpy only. Knows neither the model nor how a score is used. Derivation: docs/explanation/races.md,
"What was predicted is measured".
"""

from __future__ import annotations

import abc
from collections.abc import Generator, Sequence

import numpy as np

from profiler_service.analysis.comparison import CONFIDENCE, Comparison
from profiler_service.analysis.samples import Samples
from profiler_service.plan.base import Batch
from profiler_service.plan.race.settings import RACE, RaceSettings
from profiler_service.plan.race.settle import Final
from profiler_service.plan.race.visits import QUERIED, RaceVisits
from profiler_service.plan.spec import SweepSpec


class RaceScore(RaceVisits):
    """A race that measures the predicted pair after its answer, if no final has judged it.

    These samples have no part in the answer: neither in its curve nor in its failures. They are
    only in what the race cost.
    """

    def __init__(self, spec: SweepSpec, settings: RaceSettings = RACE) -> None:
        self._num_answering: int | None = None
        """Batches that the answer comes from; None while there may be more of them."""
        self._is_predicted_failing = False
        """Whether one of the predicted pair failed when it was scored."""
        super().__init__(spec, settings)

    def find_score(self) -> Comparison | None:
        """The predicted point's comparison with the queried one; None if there is none.

        It comes from samples that chose nothing: a final's, whose interval has the confidence of
        the race, or else the score's own, with 95 %. None if the model predicted that nothing is
        faster, if either point failed, or if there was no time.
        """
        rival = self._find_predicted()
        if rival is None or self._is_predicted_failing:
            return None
        return self._find_judged_pair(rival) or self._compare_scored(rival)

    @abc.abstractmethod
    def _find_judged_pair(self, rival: int) -> Comparison | None:
        """What a final says of that point and the queried one; None if none says anything."""

    def _find_predicted(self) -> int | None:
        """The point that the model chose; None if it is the queried one, or no candidate."""
        if self._spec.learned is None:
            return None
        point = self._spec.grid.find_index(self._spec.learned.pair.dims)
        return None if point in {None, QUERIED, *self._excluded} else point

    def _score(self) -> Generator[Batch, Samples, None]:
        """Measures the predicted pair in a few rounds, in the judging processes.

        It takes a small part of the race's time, and no more than the caller's budget leaves.
        Nothing is measured where that isn't enough for a round in each arena.
        """
        rival = self._find_predicted()
        if rival is None or self._find_judged_pair(rival) is not None:
            return
        settings, began_s = self.settings.score, self._seconds
        left_s = max(settings.longest_s, settings.longest_share * began_s)
        if self._spec.budget_s is not None:
            left_s = min(left_s, self._spec.budget_s - began_s)
        rounds = min(settings.rounds, int(left_s / (2 * self._visit_s)))
        count = rounds // settings.arenas
        if count < 1:
            return
        self._num_answering, failures = len(self._batches), dict(self._failures)
        self._advance(0.97, "measuring what was predicted")
        field = np.array([QUERIED, rival], dtype=np.int32)
        took_s = 0.0
        for number in range(settings.arenas):
            # The time of a visit leaves out what a batch takes to begin.
            if self._seconds + took_s > began_s + left_s:
                break
            samples = yield self._batch(
                [self._rng.permutation(field) for _ in range(count)],
                self._round + number * count,
                child=2 * (self._num_arenas + number) + 1,
            )
            took_s = samples.seconds
            if samples.failures:
                # The answer was there before.
                self._is_predicted_failing, self._failures = True, failures
                break

    def _is_hopeless(self) -> bool:
        """What fails once the answer is there leaves it as it is."""
        return self._num_answering is None and super()._is_hopeless()

    @property
    def _answering(self) -> Sequence[Samples]:
        """All batches but those of the score."""
        return self._batches[: self._num_answering]

    def _compare_scored(self, rival: int) -> Comparison | None:
        """What the score's samples say; None if there are none."""
        if self._num_answering is None:
            return None
        # The model chose the point before anything was measured: no sample preferred it.
        final = Final(
            self.settings.settle,
            asked=QUERIED,
            finalists=[rival],
            margin=1.0,
            repeatability=self._expected,
            error=1 - CONFIDENCE,
        )
        for batch in self._batches[self._num_answering :]:
            final.add(batch, len(np.unique(batch.round)))
        judgement = final.judge(1.0)
        return None if judgement is None else judgement.comparisons[rival]
