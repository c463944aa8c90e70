"""The history of races, computed from their stored samples by replaying them.

Races are deterministic: if the stored batches are replayed, the same decisions are made again.
So only the samples need to be stored. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from cachetools import LRUCache

from profiler_service.analysis.samples import Samples
from profiler_service.errors import ConflictError, NotReadyError, TooManyRequestsError
from profiler_service.grid import Grid
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import MODES
from profiler_service.plan.race.stages import RaceStage
from profiler_service.plan.race.visits import RaceVisits
from profiler_service.plan.replay import replay
from profiler_service.storage.store import Store, Sweep
from profiler_service.wire import RaceInfo, RaceStageInfo

MAX_KEPT = 256
MAX_REPLAYING = 16
"""So many races may wait to be replayed."""
PATIENCE_S = 4.0
"""Who asks for a race waits no longer; the replay goes on."""
MAX_REPLAYED_POINTS = 65_536
"""Most points of a race that is replayed: more would take seconds, and this process answers
queries."""


class RaceHistory:
    """How races went; kept once a race has ended.

    Races are replayed one at a time, in a thread of their own: nothing else waits for it. Belongs
    to one event loop.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: LRUCache[str, RaceInfo] = LRUCache(MAX_KEPT)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="race-history")
        self._replaying: dict[str, Future[RaceInfo]] = {}

    def close(self) -> None:
        """Begins no further replay."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def get(self, sweep_id: str) -> RaceInfo:
        """Each stage so far.

        Raises NotFoundError; ConflictError if the sweep is no race, or a race over more than
        MAX_REPLAYED_POINTS; ReplayError if another version raced; NotReadyError if it takes longer
        than PATIENCE_S, TooManyRequestsError if MAX_REPLAYING others come first.
        """
        sweep = await asyncio.to_thread(self._store.get_sweep, sweep_id)
        _check(sweep)
        race = self._kept.get(sweep_id)
        if race is not None:
            return race
        replaying = asyncio.wrap_future(self._find_or_begin(sweep))
        replaying.add_done_callback(lambda each: self._keep(sweep, each))
        await asyncio.wait({replaying}, timeout=PATIENCE_S)
        if not replaying.done():
            raise NotReadyError(
                f"the race of sweep {sweep_id} is still being worked out",
                hint="ask again: it is kept as soon as it is there",
            )
        return replaying.result()

    def _find_or_begin(self, sweep: Sweep) -> Future[RaceInfo]:
        """The replay of that sweep, which all who ask meanwhile share."""
        if sweep.id not in self._replaying:
            if len(self._replaying) >= MAX_REPLAYING:
                raise TooManyRequestsError(
                    f"{MAX_REPLAYING} races are being worked out already",
                    hint="ask again when some of them are done",
                )
            self._replaying[sweep.id] = self._thread.submit(
                lambda: _replay(sweep, self._store.load_batches(sweep.id))
            )
        return self._replaying[sweep.id]

    def _keep(self, sweep: Sweep, replayed: asyncio.Future[RaceInfo]) -> None:
        self._replaying.pop(sweep.id, None)
        if not replayed.cancelled() and replayed.exception() is None and sweep.state.is_final:
            self._kept[sweep.id] = replayed.result()


def _check(sweep: Sweep) -> None:
    """Returns if the sweep is a race that can be replayed. Raises ConflictError."""
    mode = MODES[sweep.spec.mode]
    see = "/curves" if sweep.curve_id is None else f"/curves/{sweep.curve_id}"
    if not mode.is_race:
        raise ConflictError(
            f"sweep {sweep.id} is no race: it {mode.description}",
            hint="its curve has the points",
            see=see,
        )
    if sweep.spec.grid.size > MAX_REPLAYED_POINTS:
        raise ConflictError(
            f"sweep {sweep.id} is over {sweep.spec.grid.size:,} points; races over more than"
            f" {MAX_REPLAYED_POINTS:,} aren't replayed",
            hint="its curve has what it found",
            see=see,
        )


def _replay(sweep: Sweep, batches: Iterable[Samples]) -> RaceInfo:
    planner = create_planner(sweep.spec)
    assert isinstance(planner, RaceVisits), "every mode that is a race has such a planner"
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
