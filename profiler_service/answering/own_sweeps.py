"""Sweeps of users' own code: checks what a user's command has measured, and makes the curve of it.

The command plans and measures. Here the same plan is made again from the samples, as a worker does
that goes on with a sweep: samples that don't fit it are refused, and the curve is computed from
them alone. No code arrives, only its name. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import numpy as np

from profiler_service.access.caller import current_caller
from profiler_service.analysis.samples import OthersUse, Platform, Samples, TimingProtocol
from profiler_service.answering.admission import Admission
from profiler_service.answering.resources import read_sweep_request
from profiler_service.errors import (
    ConflictError,
    InvalidRequestError,
    LhpError,
    MeasurementFailedError,
    NotReadyError,
    ReplayError,
    StoreError,
    TooManyRequestsError,
    WindowTooLargeError,
)
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import MODES
from profiler_service.plan.replay import replay
from profiler_service.plan.running_sweep import RunningSweep
from profiler_service.plan.spec import Progress, SweepState
from profiler_service.plan.turns import Demand
from profiler_service.storage.store import Store, Sweep
from profiler_service.wire import OwnBatch, OwnSweepEnd, OwnSweepRequest, PlatformFields
from profiler_service.workload import OWN_CODE

logger = logging.getLogger(__name__)

MAX_POINTS: Final = 8192
"""Most points of a grid of own code: its plan is made again in the process that answers queries."""
MAX_BATCHES: Final = 100_000
MAX_ENDING: Final = 16
"""So many sweeps may wait for their curves to be made."""
PATIENCE_S: Final = 4.0
"""A request that ends a sweep waits no longer for its curve, which is made in any case."""
LOOK_EVERY_S: Final = 60.0
"""How often to look for sweeps whose command has ended without a word."""


class OwnSweeps:
    """Sweeps that users' commands measure. Belongs to one event loop."""

    def __init__(self, store: Store, admission: Admission) -> None:
        self._store = store
        self._admission = admission
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="own-sweeps")
        self._ending: dict[str, Future[None]] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """In this context, sweeps of commands that have ended without a word are ended."""
        looking = asyncio.create_task(self._look_for_silent())
        try:
            yield
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def open(self, request: OwnSweepRequest, *, client: str) -> Sweep:
        """A new sweep, which the caller measures.

        Raises InvalidWorkloadError, InvalidDimsError, WindowTooLargeError, InvalidRequestError,
        ConflictError, TooManyRequestsError, StoreError.
        """
        spec = replace(read_sweep_request(request), seed=request.seed)
        self._admission.check_bounds(spec, for_question=MODES[spec.mode].is_race)
        if spec.grid.size > MAX_POINTS:
            raise WindowTooLargeError(
                f"{spec.grid.size:,} points are asked for; a sweep of own code has at most"
                f" {MAX_POINTS:,}",
                hint="ask for fewer: smaller ranges, or larger steps",
            )
        protocol = request.protocol
        return await asyncio.to_thread(
            self._store.open_own_sweep,
            spec,
            machine=request.machine,
            platform=_read_platform(request.platform),
            protocol=TimingProtocol(
                timer=protocol.timer, cache=protocol.cache, version=protocol.version
            ),
            demand=Demand(expected_s=spec.budget_s or 60.0, is_awaited=False, client=client),
            by=current_caller(),
        )

    async def add(self, sweep_id: str, batch: OwnBatch) -> Sweep:
        """The sweep with that batch; one that is stored already changes nothing.

        Raises UnknownSweepError, InvalidRequestError, ConflictError, StoreError.
        """
        sweep = await self._get(sweep_id)
        samples = _read_samples(batch, num_points=sweep.spec.grid.size)
        before = sweep.progress
        use = OthersUse(others_s=batch.others_s, watched_s=batch.watched_s)
        if before is not None:
            use += OthersUse(others_s=before.others_s, watched_s=before.watched_s)
        progress = Progress(
            fraction=max(batch.fraction, 0.0 if before is None else before.fraction),
            stage=batch.stage,
            num_samples=len(samples) + (0 if before is None else before.num_samples),
            seconds=samples.seconds + (0.0 if before is None else before.seconds),
            others_s=use.others_s,
            watched_s=use.watched_s,
        )
        return await asyncio.to_thread(
            self._store.commit_own_batch, sweep_id, batch.number, samples, progress
        )

    async def end(self, sweep_id: str, end: OwnSweepEnd) -> Sweep:
        """The sweep, ended, with its curve. One that has ended already stays as it is.

        Raises UnknownSweepError; ConflictError if it is no sweep of own code, or isn't at the end
        of its plan; ReplayError if its samples don't fit the plan; NotReadyError if its curve takes
        longer than PATIENCE_S, TooManyRequestsError if too many others come first; StoreError.
        """
        sweep = await self._get(sweep_id)
        if sweep.state.is_final:
            return sweep
        if end.state == "failed":
            await asyncio.to_thread(
                self._store.fail_sweep, sweep_id, end.error or "no reason given"
            )
            return await self._get(sweep_id)
        if sweep_id not in self._ending:
            if len(self._ending) >= MAX_ENDING:
                raise TooManyRequestsError(
                    f"the curves of {MAX_ENDING} sweeps are being made already",
                    hint="ask again when some of them are done",
                )
            self._ending[sweep_id] = self._thread.submit(self._finish, sweep, SweepState(end.state))
        ending = asyncio.wrap_future(self._ending[sweep_id])
        ending.add_done_callback(lambda each: self._forget(sweep_id, each))
        await asyncio.wait({ending}, timeout=PATIENCE_S)
        if not ending.done():
            raise NotReadyError(
                f"the curve of sweep {sweep_id} is being made",
                hint="ask again: it is kept as soon as it is there",
            )
        ending.result()
        return await self._get(sweep_id)

    async def _get(self, sweep_id: str) -> Sweep:
        sweep = await asyncio.to_thread(self._store.get_sweep, sweep_id)
        if sweep.spec.workload.kind != OWN_CODE:
            raise ConflictError(
                f"sweep {sweep_id} is measured by host {sweep.host!r}",
                hint="only sweeps of own code take samples from a user's command",
            )
        return sweep

    def _forget(self, sweep_id: str, ended: asyncio.Future[None]) -> None:
        self._ending.pop(sweep_id, None)
        if not ended.cancelled():
            ended.exception()  # whoever waited has raised it; nobody else needs it

    def _finish(self, sweep: Sweep, state: SweepState) -> None:
        """Makes the sweep's plan again from its samples, keeps its curve, and ends it."""
        batches = self._store.load_batches(sweep.id)
        running = RunningSweep(id=sweep.id, planner=create_planner(sweep.spec))
        if sweep.progress is not None:
            running.use = OthersUse(
                others_s=sweep.progress.others_s, watched_s=sweep.progress.watched_s
            )
        try:
            replay(running, batches)
        except ReplayError as error:
            self._store.fail_sweep(sweep.id, str(error))
            raise
        if state is SweepState.DONE and running.next_batch() is not None:
            raise ConflictError(
                f"the plan of sweep {sweep.id} isn't at its end after {len(batches)} batches",
                hint="measure the rest, or end it as cancelled",
            )
        try:
            curve = running.label(
                running.planner.build_curve(
                    *self._store.get_own_conditions(sweep.id),
                    self._store.last_measured_at(sweep.id),
                )
            )
        except MeasurementFailedError as error:
            if state is SweepState.CANCELLED:
                self._store.finish_sweep(sweep.id, None, state=state)  # it was still warming up
            else:
                self._store.fail_sweep(sweep.id, running.first_failure or str(error))
            return
        self._store.finish_sweep(sweep.id, curve, state=state)

    async def _look_for_silent(self) -> None:
        while True:
            with contextlib.suppress(StoreError):  # others say that the database is away
                await self.end_silent()
            await asyncio.sleep(LOOK_EVERY_S)

    async def end_silent(self) -> None:
        """Ends the sweeps whose command has ended without a word. What they measured is kept."""
        for sweep_id in await asyncio.to_thread(self._store.find_silent_own_sweeps):
            logger.warning("sweep %s of own code ends: nobody measures it any more", sweep_id)
            try:
                await self.end(sweep_id, OwnSweepEnd(state="cancelled"))
            except StoreError:
                raise
            except LhpError as error:
                logger.info("%s", error)
            except Exception as error:  # one broken sweep must keep no other one open
                logger.exception("no curve could be made of sweep %s", sweep_id)
                reason = f"no curve could be made of its samples: {type(error).__name__}"
                await asyncio.to_thread(self._store.fail_sweep, sweep_id, reason)


def _read_platform(fields: PlatformFields) -> Platform:
    return Platform(
        device=fields.device,
        device_model=fields.device_model,
        memory_bytes=fields.memory_bytes,
        driver=fields.driver,
        framework=fields.framework,
        libraries=tuple(sorted(fields.libraries.items())),
        threads=fields.threads,
        cpus=fields.cpus,
        flags=tuple(sorted(fields.flags.items())),
    )


def _read_samples(batch: OwnBatch, *, num_points: int) -> Samples:
    """The samples. Raises InvalidRequestError."""
    failures = {each.point: each.reason for each in batch.failures}
    points = [*batch.point, *failures]
    if points and max(points) >= num_points:
        raise InvalidRequestError(
            f"point {max(points)} is outside the grid of {num_points} points",
            hint="points are numbered from 0, as the grid has them",
        )
    if both := sorted(failures.keys() & set(batch.point)):
        raise InvalidRequestError(
            f"point {both[0]} has failed, and has a sample as well",
            hint="leave out the samples of points that failed",
        )
    if batch.number >= MAX_BATCHES:
        raise InvalidRequestError(
            f"a sweep has at most {MAX_BATCHES:,} batches", hint="end it, and begin another one"
        )
    columns = (batch.round, batch.time_s, batch.latency_s, batch.unstable, batch.lost_s)
    lengths = {len(batch.point), *(len(column) for column in columns if column is not None)}
    if len(lengths) > 1:
        raise InvalidRequestError(
            f"the lists of a batch have {', '.join(map(str, sorted(lengths)))} items",
            hint="send one item for each sample in every list",
        )
    lost_s = batch.lost_s
    return Samples(
        point=np.array(batch.point, dtype=np.int32),
        round=np.array(batch.round, dtype=np.int32),
        time_s=np.array(batch.time_s, dtype=np.float32),
        latency_s=np.array(batch.latency_s, dtype=np.float64),
        unstable=np.array(batch.unstable, dtype=np.bool_),
        lost_s=None
        if lost_s is None
        else np.array([np.nan if each is None else each for each in lost_s], dtype=np.float32),
        calls=batch.calls,
        child=batch.child,
        num_discarded=batch.num_discarded,
        seconds=batch.seconds,
        failures=failures,
    )
