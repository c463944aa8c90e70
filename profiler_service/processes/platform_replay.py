"""After its host's platform has changed, an idle worker measures some facts again.

Knows neither how a sweep is measured nor how it is queued.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from profiler_service.analysis.platform_change import (
    PLATFORM_CHANGE,
    Candidate,
    choose_contrasts,
    find_patterns,
    judge,
)
from profiler_service.answering.admission import check_affordable, check_values
from profiler_service.answering.platform_changes import summarize
from profiler_service.answering.repeatability import read_tau
from profiler_service.errors import LhpError
from profiler_service.grid import Grid
from profiler_service.kinds import CALLABLE
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.processes.idle_races import IdleRaces
from profiler_service.settings import Settings
from profiler_service.storage.platform_change_records import PlatformChange, ReplayedFact
from profiler_service.storage.store import Fact, Host, Store, Sweep

logger = logging.getLogger(__name__)

MOST_FACTS = 200
"""So many of the newest facts about one point are looked at."""


class PlatformReplay:
    """Races the pairs of some facts of the platform before, one after the other.

    Nobody waits for these races, so every question comes first. What was begun is kept, and the
    next worker goes on with it. What can't be measured again is kept with its reason, and isn't
    tried again. Call `consider` at intervals.
    """

    def __init__(
        self,
        store: Store,
        host: Host,
        enqueue: Callable[[Sweep], None],
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`enqueue` gives a sweep to the host."""
        self._store = store
        self._host = host
        self._settings = settings
        self._races = IdleRaces(store, host, enqueue, share=1.0, clock=clock)
        self._has_ended = False

    def consider(self) -> Sweep | None:
        """The race that was started, if there is something to measure again. Raises StoreError."""
        if self._has_ended:
            return None
        change = self._store.find_open_change(self._host.name)
        if change is None or change.new_platform_key != self._host.platform_key:
            # The platform changes only from one worker to the next.
            self._has_ended = True
            return None
        if change.num_contrasts is None:
            self._choose(change)
        for replayed in self._store.list_replayed(change.id):
            if replayed.outcome is not None or self._settle(change, replayed):
                continue
            if replayed.sweep_id is not None or not self._races.may_start():
                return None
            return self._start(change, replayed)
        self._finish(change)
        return None

    def _choose(self, change: PlatformChange) -> None:
        """Chooses what is measured again. Users' own code isn't: only their command can do that."""
        facts = self._store.find_replayable(
            change.old_platform_key,
            change.protocol_key,
            most_of_workload=PLATFORM_CHANGE.most_of_workload,
        )
        chosen = choose_contrasts(
            [
                Candidate(id=each.id, workload_key=each.workload.key, pair=each.pair)
                for each in facts
                if each.workload.kind != CALLABLE.name
            ]
        )
        self._store.keep_contrasts(change, chosen)
        logger.info("the platform has changed: idle, %d facts are measured again", len(chosen))

    def _settle(self, change: PlatformChange, replayed: ReplayedFact) -> bool:
        """Whether it is known what became of the fact; then that is kept."""
        if change.protocol_key != self._host.protocol_key:
            reason = f"timing has changed from {change.protocol_key} to {self._host.protocol_key}"
        elif (after := self._find_after(replayed.before)) is not None:
            outcome = judge(replayed.before.pair, after.pair)
            self._store.settle_replayed(change, replayed.number, outcome, after=after)
            return True
        elif replayed.sweep_id is None:
            reason = self._find_obstacle(replayed.before)
        else:
            reason = self._find_failure(replayed.sweep_id)
        if reason:
            self._store.settle_replayed(change, replayed.number, "failed", reason=reason)
            pair = replayed.before.pair
            logger.warning("%s beside %s can't be measured: %s", pair.rival, pair.dims, reason)
        return bool(reason)

    def _find_after(self, before: Fact) -> Fact | None:
        """The newest fact about the same pair on the platform of now, whoever asked for it."""
        key = (before.workload.key, self._host.platform_key, self._host.protocol_key)
        found = self._store.find_facts(*key, before.pair.dims, limit=MOST_FACTS)
        return next((each for each in found[::-1] if each.pair.rival == before.pair.rival), None)

    def _find_obstacle(self, before: Fact) -> str:
        """Why the host can't measure the fact's pair; empty if it can."""
        spec = self._plan(before)
        platform = self._store.get_platform(self._host.platform_key)
        max_operand_bytes = self._settings.max_operand_bytes
        try:
            check_values(spec)
            check_affordable(
                spec.workload,
                spec.grid,
                self._host,
                platform,
                max_operand_bytes=max_operand_bytes,
            )
        except LhpError as error:
            return str(error)
        except Exception as error:
            # Its kind may have been another version's: one old fact must end no worker.
            logger.exception("the workload %s can't be checked", before.workload.key)
            return f"internal error: {error!r}"
        return ""

    def _find_failure(self, sweep_id: str) -> str:
        """Why the race told nothing of its pair; empty if it hasn't ended."""
        sweep = self._store.get_sweep(sweep_id)
        if not sweep.state.is_final:
            return ""
        if sweep.state is SweepState.CANCELLED:
            return "its race was cancelled"
        return sweep.error or "its race confirmed nothing"

    def _plan(self, before: Fact) -> SweepSpec:
        """The race between the two points of the fact."""
        host, kind = self._host, before.workload.kind
        return SweepSpec(
            workload=before.workload,
            mode="race",
            grid=Grid.pair(before.pair.dims, before.pair.rival),
            tau=read_tau(self._store, kind, host.platform_key, host.protocol_key),
        )

    def _start(self, change: PlatformChange, replayed: ReplayedFact) -> Sweep:
        sweep = self._races.start(self._plan(replayed.before))
        self._store.begin_replayed(change, replayed.number, sweep.id)
        pair = replayed.before.pair
        logger.info("idle: measuring %s beside %s again", pair.rival, pair.dims)
        return sweep

    def _finish(self, change: PlatformChange) -> None:
        """Keeps and tells what the change changed."""
        contrasts = [each.contrast for each in self._store.list_replayed(change.id)]
        finished = self._store.finish_change(change, find_patterns(contrasts))
        before, after = (
            self._store.get_platform(key)
            for key in (finished.old_platform_key, finished.new_platform_key)
        )
        logger.info("the platform has changed: %s", summarize(finished, before, after))
