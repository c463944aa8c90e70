"""A host that learns from its races, by the service's own code and without its store.

Of the benchmarks of races, this module alone knows the latency model of the code under test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from benchmarks.race_verdict import F64

if TYPE_CHECKING:
    from profiler_service.analysis.samples import Samples
    from profiler_service.grid import Grid
    from profiler_service.latency_model.calibration import Score
    from profiler_service.plan.base import Planner
    from profiler_service.plan.learned import Learned
    from profiler_service.plan.spec import SweepSpec


class Host(Protocol):
    """What a race starts from, and what learns from it."""

    def start(self, grid: Grid) -> Learned | None:
        """What a race over that window starts from."""

    def learn(self, spec: SweepSpec, planner: Planner, batches: Sequence[Samples]) -> None:
        """Learns from a race that has ended."""


class ToldHost:
    """A host whose model says given effects of every window, and learns nothing."""

    def __init__(self, effects: Sequence[F64]) -> None:
        """`effects`: for each axis, the log latency that each position adds."""
        self._effects = effects

    def start(self, grid: Grid) -> Learned:
        """The effects, and the pair that they make the fastest."""
        from profiler_service.plan.learned import Learned, PredictedPair

        total = self._effects[0]
        for effect in self._effects[1:]:
            total = np.add.outer(total, effect)
        fastest = int(total.argmin())
        pair = PredictedPair(
            dims=grid.dims(fastest),
            log_ratio=float(total.min() - total.flat[0]),
            deviation=0.01,
            half_width=None,
            distance=0.0,
        )
        effects = tuple(tuple(effect.round(5).tolist()) for effect in self._effects)
        return Learned(effects=effects, pair=pair)

    def learn(self, spec: SweepSpec, planner: Planner, batches: Sequence[Samples]) -> None:
        """Nothing."""


class LearningHost:
    """What a host knows of one workload from its earlier races; at first, nothing."""

    def __init__(self, num_axes: int) -> None:
        from profiler_service.latency_model.basis import Basis
        from profiler_service.latency_model.fit import fit
        from profiler_service.latency_model.statistics import Statistics

        basis = Basis(num_axes)
        self._fit = fit(basis, Statistics.empty(basis.size, num_axes))
        self._scores: list[Score] = []
        self.num_races = 0
        """Races that it has learned from."""

    def start(self, grid: Grid) -> Learned:
        """What a race over that window starts from, as far as the host knows something of it."""
        from profiler_service.latency_model.calibration import Calibration
        from profiler_service.latency_model.predict import predict_landscape, start_race

        landscape = predict_landscape(self._fit, grid)
        return start_race(self._fit, landscape, Calibration(self._scores))

    def learn(self, spec: SweepSpec, planner: Planner, batches: Sequence[Samples]) -> None:
        """Learns from the first visits of a race that has ended, and from its score.

        After that the spreads are learned, as a worker does when it is idle.
        """
        from profiler_service.latency_model.first_visits import find_first_visits
        from profiler_service.latency_model.fit import fit
        from profiler_service.latency_model.learn import learn
        from profiler_service.processes.learning import find_score

        scored = find_score(spec, planner)
        if scored is not None:
            self._scores.append(scored.score)
        before = self._fit
        found = learn(find_first_visits(batches, spec.grid), before)
        self.num_races += 1
        if not found.num_visits:
            return
        statistics = before.statistics.followed_by(found)
        spreads = fit(before.basis, statistics, spreads=before.spreads).find_spreads()
        self._fit = fit(before.basis, statistics, spreads=spreads)
