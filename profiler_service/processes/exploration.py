"""An idle worker measures where questions come and its model is least sure.

Knows neither how a sweep is measured nor how it is queued.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from profiler_service.answering.admission import check_affordable, check_values
from profiler_service.answering.learned_models import (
    empty_fit,
    is_learned_from,
    load_calibration,
    load_fit,
)
from profiler_service.answering.repeatability import read_tau
from profiler_service.errors import InvalidRequestError, UnknownWorkloadError
from profiler_service.grid import MAX_DIM, Grid
from profiler_service.latency_model.predict import predict_landscape, start_race
from profiler_service.plan.modes import MODES
from profiler_service.plan.spec import SweepSpec
from profiler_service.plan.window import find_refused
from profiler_service.processes.idle_races import IdleRaces
from profiler_service.settings import Settings
from profiler_service.storage.model_records import ModelKey
from profiler_service.storage.store import Host, Store, Sweep

logger = logging.getLogger(__name__)

RECENT = 50
"""So many of the newest races show where questions come."""
CANDIDATES = 16
"""So many windows near them are looked at; the one that the model knows least of is raced over."""
REACH_OCTAVES = 0.5
"""A window is at most so far from where a question was."""
BUDGET_S = 1.0
"""Most measuring time of such a race."""


class Exploration:
    """Races over windows near those of questions, if the host is idle. Call it at intervals.

    Nobody asked for these windows. What is measured makes predictions better, and says how good
    they were.
    """

    def __init__(
        self,
        store: Store,
        host: Host,
        races: IdleRaces,
        settings: Settings,
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        """`races` starts the races, and says how much time they may take."""
        self._store = store
        self._host = host
        self._races = races
        self._settings = settings
        self._rng = rng or np.random.default_rng()

    def consider(self) -> Sweep | None:
        """The race that was started, if it was time for one. Raises StoreError."""
        if not self._races.may_start():
            return None
        found = [spec for spec in self._draw() if self._is_possible(spec)]
        if not found:
            return None
        spec = max(map(self._prepare, found), key=_find_doubt)
        logger.info("idle: measuring near what was asked: %s", spec.grid.first)
        return self._races.start(spec)

    def _draw(self) -> list[SweepSpec]:
        """Races over windows near those of the newest questions of this host."""
        recent = self._store.list_sweeps(host=self._host.name, limit=RECENT).items
        asked = [
            sweep.spec
            for sweep in recent
            if sweep.request_id is not None
            and MODES[sweep.spec.mode].is_race
            and is_learned_from(sweep.spec)
        ]
        if not asked:
            return []
        return [self._move(asked[self._rng.integers(len(asked))]) for _ in range(CANDIDATES)]

    def _move(self, spec: SweepSpec) -> SweepSpec:
        """A race over a window of the same form near that one's."""
        octaves = self._rng.uniform(-REACH_OCTAVES, REACH_OCTAVES, len(spec.grid.axes))
        first = [
            max(1, round(axis.first * 2**octave))
            for axis, octave in zip(spec.grid.axes, octaves, strict=True)
        ]
        growth = [axis.last - axis.first for axis in spec.grid.axes]
        steps = [axis.step for axis in spec.grid.axes]
        # Fixed axes stay fixed.
        dims = [
            axis.first if axis.count == 1 else dim
            for axis, dim in zip(spec.grid.axes, first, strict=True)
        ]
        return SweepSpec(
            workload=spec.workload,
            mode="race",
            grid=Grid.window(dims, growth, steps),
            seed=int(self._rng.integers(1 << 31)),
            budget_s=BUDGET_S,
        )

    def _is_possible(self, spec: SweepSpec) -> bool:
        limit = min(self._settings.max_dim, MAX_DIM)
        if max(spec.grid.last) > limit:
            return False
        try:
            check_values(spec)
            check_affordable(
                spec.workload,
                spec.grid,
                self._host,
                self._store.get_platform(self._host.platform_key),
                max_operand_bytes=self._settings.max_operand_bytes,
            )
        except (InvalidRequestError, UnknownWorkloadError):
            return False
        return True

    def _prepare(self, spec: SweepSpec) -> SweepSpec:
        """The race with what the model says of its window."""
        host = self._host
        key = ModelKey(
            workload=spec.workload,
            platform_key=host.platform_key,
            protocol_key=host.protocol_key,
        )
        fitted = load_fit(self._store, key) or empty_fit(len(spec.grid.axes))
        refused = find_refused(spec.workload, spec.grid).tolist()
        landscape = predict_landscape(fitted, spec.grid, refused=refused)
        return replace(
            spec,
            learned=start_race(fitted, landscape, load_calibration(self._store, key)),
            tau=read_tau(self._store, spec.workload.kind, host.platform_key, host.protocol_key),
        )


def _find_doubt(spec: SweepSpec) -> float:
    """How unsure the model is of the pair that it would choose."""
    assert spec.learned is not None
    return spec.learned.pair.deviation
