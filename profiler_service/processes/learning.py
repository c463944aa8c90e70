"""The worker learns from its sweeps: from each when it ends, and from older ones when it is idle.

Knows neither how a sweep is measured nor what is done with the model.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence

from profiler_service.analysis.samples import Samples
from profiler_service.answering.learned_models import (
    LEARNED_MODES,
    empty_fit,
    get_basis,
    is_learned_from,
    load_fit,
)
from profiler_service.errors import HostTakenError, StoreUnavailableError
from profiler_service.grid import Grid
from profiler_service.kinds import CALLABLE
from profiler_service.latency_model.calibration import Score
from profiler_service.latency_model.first_visits import find_first_visits
from profiler_service.latency_model.fit import fit
from profiler_service.latency_model.learn import learn
from profiler_service.latency_model.settings import VERSION
from profiler_service.plan.base import Planner
from profiler_service.plan.race.ladder import LadderPlanner
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.spec import SweepSpec
from profiler_service.storage.model_records import ModelKey, ScoredPair
from profiler_service.storage.store import Host, Store

logger = logging.getLogger(__name__)

TURN_S = 1.0
"""An idle worker learns for so long at a time: others may wait for its heartbeat."""


class Learning:
    """Gives what ended sweeps say to the models of this host's platform."""

    def __init__(self, store: Store, host: Host) -> None:
        """`host` as it measures now: what is measured on another platform is another model's."""
        self._store = store
        self._host = host
        self._tuned: dict[ModelKey, int] = {}
        """Generation of each model when its spreads were learned last."""

    def learn_from(self, sweep_id: str, planner: Planner) -> None:
        """Scores the prediction that the ended sweep started from, and then learns from the sweep.

        What goes wrong here never fails a sweep: its curve is kept already. It is learned from
        later, when the host is idle. Raises HostTakenError, StoreUnavailableError.
        """
        sweep, host = self._store.get_sweep(sweep_id), self._host
        if not is_learned_from(sweep.spec):
            return
        key = ModelKey(
            workload=sweep.spec.workload,
            platform_key=host.platform_key,
            protocol_key=host.protocol_key,
        )
        try:
            scored = find_score(sweep.spec, planner)
            if scored is not None:
                self._store.add_score(sweep.id, key, scored)
            self._learn(sweep.id, key, sweep.spec.grid, self._store.load_batches(sweep.id))
        except (HostTakenError, StoreUnavailableError):
            raise
        except Exception:
            logger.exception("couldn't learn from sweep %s", sweep.id)

    def catch_up(self, *, clock: Callable[[], float] = time.monotonic) -> int:
        """How many times something was learned, as `consider` does, within TURN_S or so."""
        until_s, count = clock() + TURN_S, 0
        while clock() < until_s and self.consider():
            count += 1
        return count

    def consider(self) -> bool:
        """Whether something was learned: from one older sweep, or about the spreads of one model.

        Only if the host has nothing to measure. Raises StoreError.
        """
        if self._store.list_open(self._host.name):
            return False
        found = self._store.find_unlearned(
            self._host.name, version=VERSION, modes=LEARNED_MODES, without=[CALLABLE.name]
        )
        if found is None:
            return self._learn_spreads()
        self._learn(found.sweep_id, found.key, found.grid, found.batches)
        return True

    def _learn(self, sweep_id: str, key: ModelKey, grid: Grid, batches: Sequence[Samples]) -> None:
        before = load_fit(self._store, key) or empty_fit(len(key.workload.axes))
        found = learn(find_first_visits(batches, grid), before)
        if self._store.learn(sweep_id, key, found, version=VERSION):
            logger.info("learned from %d visits of sweep %s", found.num_visits, sweep_id)
            self._tuned.setdefault(key, 0)

    def _learn_spreads(self) -> bool:
        """Whether the spreads of a model that has changed were learned again."""
        for key, generation in self._tuned.items():
            model = self._store.find_model(key, version=VERSION)
            if model is None or model.header.generation == generation:
                continue
            # Without relatives: spreads are what effects deviate from the prior by. Others take
            # them over with the statistics.
            basis, spreads = get_basis(len(key.workload.axes)), model.header.spreads
            fitted = fit(basis, model.statistics, spreads=spreads)
            self._store.keep_spreads(key, fitted.find_spreads(), version=VERSION)
            self._tuned[key] = model.header.generation + 1
            return True
        return False


def find_score(spec: SweepSpec, planner: Planner) -> ScoredPair | None:
    """What the race measured of the pair that the model would have chosen; None if it didn't."""
    if spec.learned is None or not isinstance(planner, (RacePlanner, LadderPlanner)):
        return None
    comparison, pair = planner.find_score(), spec.learned.pair
    if comparison is None:
        return None
    return ScoredPair(
        workload_key=spec.workload.key,
        dims=spec.grid.first,
        rival=pair.dims,
        score=Score(
            predicted=pair.log_ratio,
            deviation=pair.deviation,
            half_width=pair.half_width,
            distance=pair.distance,
            measured=math.log(comparison.ratio),
        ),
    )
