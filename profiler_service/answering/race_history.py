"""The history of races, computed from their stored samples by replaying them.

Races are deterministic: if the stored batches are replayed, the same decisions are made again.
So only the samples need to be stored. Knows no HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from cachetools import LRUCache

from profiler_service.analysis.samples import Samples
from profiler_service.errors import InvalidRequestError
from profiler_service.grid import Grid
from profiler_service.plan.modes import MODES
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.race.stages import RaceStage
from profiler_service.plan.replay import replay
from profiler_service.storage.store import Store, Sweep
from profiler_service.wire import RaceInfo, RaceStageInfo

MAX_KEPT = 256
MAX_REPLAYED_POINTS = 65_536
"""Most points of a race that is replayed: more would take seconds, and this process answers
queries."""


class RaceHistory:
    """Histories of races, kept in memory. Called from threads; one replay at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: LRUCache[str, RaceInfo] = LRUCache(MAX_KEPT)
        self._replaying = threading.Lock()

    def get(self, sweep_id: str) -> RaceInfo:
        """Each stage so far.

        Raises NotFoundError; InvalidRequestError if it is no race, or one over more than
        MAX_REPLAYED_POINTS; ReplayError if another version ran the race.
        """
        sweep = self._store.get_sweep(sweep_id)
        mode = MODES[sweep.spec.mode]
        see = "/curves" if sweep.curve_id is None else f"/curves/{sweep.curve_id}"
        if not mode.is_race:
            raise InvalidRequestError(
                f"sweep {sweep_id} is no race: it {mode.description}",
                hint="its curve has the points",
                see=see,
            )
        if sweep.spec.grid.size > MAX_REPLAYED_POINTS:
            raise InvalidRequestError(
                f"sweep {sweep_id} is over {sweep.spec.grid.size:,} points; races over more than"
                f" {MAX_REPLAYED_POINTS:,} aren't replayed",
                hint="its curve has what it found",
                see=see,
            )
        with self._replaying:
            race = self._kept.get(sweep_id)
            if race is None:
                race = _replay(sweep, self._store.load_batches(sweep_id))
                if sweep.state.is_final:
                    self._kept[sweep_id] = race
            return race


def _replay(sweep: Sweep, batches: Iterable[Samples]) -> RaceInfo:
    planner = RacePlanner(sweep.spec)
    replay(planner, batches)
    return RaceInfo(
        sweep=sweep.id,
        asked=list(sweep.spec.grid.first),
        noise=planner.noise,
        stages=[_stage_info(stage, sweep.spec.grid) for stage in planner.stages],
    )


def _stage_info(stage: RaceStage, grid: Grid) -> RaceStageInfo:
    return RaceStageInfo(
        name=stage.name,
        num_visits=stage.num_visits,
        seconds=stage.seconds,
        field_size=list(stage.field_size),
        kept_size=list(stage.kept_size),
        kept=[list(grid.dims(point)) for point in stage.kept],
        dropped=[list(grid.dims(point)) for point in stage.dropped],
        why=stage.why,
    )
