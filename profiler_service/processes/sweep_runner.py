"""Runs sweeps batch by batch: plans a batch, measures it, keeps it. Resumes unfinished sweeps.

`plan.turns` decides whose batch is next.

Knows neither the job engine nor processes nor signals.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.samples import OthersUse
from profiler_service.errors import (
    DeviceLostError,
    HostTakenError,
    LhpError,
    MeasurementFailedError,
    MeasurementInterruptedError,
    PlatformMismatchError,
    StoreUnavailableError,
)
from profiler_service.measurement.device_use import LOOK_EVERY_S, wait_for_others
from profiler_service.measurement.turn import PATIENCE_S, DeviceTurn
from profiler_service.plan.base import Planner
from profiler_service.plan.create import create_planner
from profiler_service.plan.replay import replay
from profiler_service.plan.running_sweep import RunningSweep
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.plan.turns import OpenSweep, Turns
from profiler_service.processes.batch_measurer import BatchMeasurer
from profiler_service.processes.exit_codes import PLATFORM_CHANGED, TRY_LATER
from profiler_service.processes.keeper_line import Tell, Told, tell_nobody
from profiler_service.processes.kernel_naming import KernelNaming
from profiler_service.processes.learning import Learning
from profiler_service.storage.store import Store, Sweep
from profiler_service.telemetry.log_context import log_context
from profiler_service.telemetry.traces import span

logger = logging.getLogger(__name__)

BATCH_GRACE_S = 0.5
"""How long the current batch may go on after the worker was told to stop."""
INTERRUPT_S = 1.5
"""How long it may take to break off the batch."""
MAX_PAUSE_S = 60.0
"""Longest pause between two checks whether a lost device is back. The first pause is 1 s."""
CANCEL_POLL_S = 1.0
"""How often to check during a pause whether the sweep was cancelled."""
STORE_CHECK_S = 1.0
"""How often to make sure, before a batch, that its samples could be kept."""


class StopRequest(SystemExit):
    """The worker must end. It is no Exception, so that the current job stays and can be resumed.

    The code is 0 if the worker was told to stop, PLATFORM_CHANGED if the platform has changed.
    """


class SweepRunner:
    """Runs sweeps batch by batch. Only one thread may use it at a time, except for `stop`.

    Whichever sweep it is told to run, it measures the one whose turn it is (`plan.turns`): a
    question of a second doesn't wait for a sweep of hours.
    """

    def __init__(
        self,
        *,
        store: Store,
        measurer: BatchMeasurer,
        create_planner: Callable[[SweepSpec], Planner] = create_planner,
        first_pause_s: float = 1.0,
        yield_s: float = 0.0,
        turns: Turns | None = None,
        device_turn: DeviceTurn | None = None,
        tell: Tell = tell_nobody,
        naming: KernelNaming | None = None,
        learning: Learning | None = None,
    ) -> None:
        self._store = store
        self._learning = learning
        self._measurer = measurer
        self._create_planner = create_planner
        self._measured_as = f"{measurer.platform.key} {measurer.protocol.key}"
        self.platform_changed = threading.Event()
        """Set once the measurer's platform has changed. Nothing is measured after that."""
        self._running: dict[str, RunningSweep] = {}
        self._stopping = threading.Event()
        self._first_pause_s = first_pause_s
        self._yield_s = yield_s
        self._tell = tell
        self._naming = naming
        self._is_paused = False
        self._measuring_ended_s = time.monotonic()
        self._num_pauses = 0  # since the device last worked
        self._turns = turns or Turns()
        self._device_turn = device_turn
        self._host: str | None = None
        self._busy = threading.Lock()
        self._check_store_at_s = 0.0

    def run_batch(self, sweep_id: str) -> bool:
        """Whether the sweep has ended. If it hasn't, measures and keeps the next batch.

        That is a batch of the sweep of this host whose turn it is. A kept batch is never measured
        again: the store's count decides which one is next. A sweep that can't be measured ends as
        failed, with the reason.

        If the device is lost, the sweep stays open and says so, and this returns after a pause.
        Each pause is twice as long as the one before, up to MAX_PAUSE_S.

        Raises StoreUnavailableError if a batch couldn't be kept; it will be measured again. Raises
        StopRequest after `stop`, and if the platform has changed. The sweep then stays as it is,
        and a worker that has registered the new platform decides what becomes of it. Raises
        StopRequest, too, if another worker has taken the host's name: the sweep is that worker's.
        """
        with self._busy:
            if self._stopping.is_set():
                raise StopRequest(0)
            self._check_store()
            chosen = self._choose(sweep_id)
            if chosen is None:
                return True
            try:
                with (
                    log_context(sweep=chosen.id, request_id=chosen.request_id),
                    span("batch", {"lhp.sweep": chosen.id}, parent=chosen.traceparent),
                ):
                    has_ended = self._run_batch_or_fail(chosen.id)
            except HostTakenError as error:
                self._stopping.set()
                raise StopRequest(TRY_LATER) from error
            if has_ended:
                self._say_measuring()  # a sweep that was cancelled in a pause, for example
            return has_ended and chosen.id == sweep_id

    def _check_store(self) -> None:
        """Returns if samples can be kept: otherwise measuring them would be in vain.

        Looks once in STORE_CHECK_S at most. Raises StoreUnavailableError.
        """
        if time.monotonic() >= self._check_store_at_s:
            self._store.check_usable()
            self._check_store_at_s = time.monotonic() + STORE_CHECK_S

    def stop(self) -> None:
        """Returns when no batch is being measured any more, after about two seconds at most.

        A short batch is finished and kept. A longer one is broken off.
        """
        self._stopping.set()
        if not self._busy.acquire(timeout=BATCH_GRACE_S):
            self._measurer.interrupt()
            if not self._busy.acquire(timeout=INTERRUPT_S):
                logger.warning("the current batch doesn't end: not waiting for it any longer")
                return
        self._busy.release()

    def name_kernels_if_idle(self) -> bool:
        """Whether kernels of a curve were looked for, as the host is idle. Raises StoreError."""
        naming = self._naming
        if naming is None or self._stopping.is_set() or not self._busy.acquire(blocking=False):
            return False
        try:
            # Whoever calls this doesn't wait for a turn.
            with (
                contextlib.suppress(MeasurementInterruptedError),
                self._hold_turn(must_stop=lambda: True),
            ):
                return naming.consider()
            return False
        finally:
            self._measuring_ended_s = time.monotonic()
            self._busy.release()

    def _choose(self, sweep_id: str) -> OpenSweep | None:
        """The sweep whose turn it is; None if `sweep_id` has ended."""
        if self._host is None:
            self._host = self._store.get_sweep(sweep_id).host
        sweeps = self._store.list_open(self._host)
        if not any(each.id == sweep_id for each in sweeps):
            return None
        chosen_id = self._turns.choose(sweeps, now_s=time.monotonic())
        return next(each for each in sweeps if each.id == chosen_id)

    def _run_batch_or_fail(self, sweep_id: str) -> bool:
        try:
            return self._run_batch(sweep_id)
        except Exception as error:
            if self._stopping.is_set():
                raise StopRequest(0) from error
            if isinstance(error, (StoreUnavailableError, HostTakenError)):
                raise
            if isinstance(error, DeviceLostError):
                self._pause(sweep_id, error)
                return False
            if isinstance(error, LhpError):
                reason = _describe(error)
                logger.warning("sweep %s failed: %s", sweep_id, reason)
            else:
                reason = f"internal error: {error!r}"
                logger.exception("sweep %s failed with an unexpected error", sweep_id)
            self._store.fail_sweep(sweep_id, reason)
            return True

    def _pause(self, sweep_id: str, error: DeviceLostError) -> None:
        """Returns when the device should be checked again, or the worker or the sweep must end.

        Meanwhile nothing else could be measured here either.
        """
        # So many doublings exceed any limit, and more would overflow.
        pause_s = min(MAX_PAUSE_S, self._first_pause_s * 2.0 ** min(self._num_pauses, 30))
        self._num_pauses += 1
        self._store.pause_sweep(sweep_id, _describe(error))
        self._is_paused = True
        self._tell(Told(state="paused", reason=_describe(error)))
        logger.warning(
            "sweep %s is paused: %s; trying again in %g s", sweep_id, _describe(error), pause_s
        )
        until = time.monotonic() + pause_s
        while (left_s := until - time.monotonic()) > 0:
            if self._stopping.wait(min(left_s, CANCEL_POLL_S)):
                raise StopRequest(0)
            if self._store.get_sweep(sweep_id).cancel_requested:
                return

    def _say_measuring(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._tell(Told(state="measuring"))

    def _run_batch(self, sweep_id: str) -> bool:
        running = self._running.pop(sweep_id, None)  # put back once all below has succeeded
        if running is None:
            sweep = self._store.start_sweep(sweep_id, measured_as=self._measured_as)
            running = None if sweep.state.is_final else self._resume(sweep)
        else:
            sweep = self._store.get_sweep(sweep_id)
        if running is None or sweep.state.is_final:
            return True
        if sweep.cancel_requested:
            self._finish(running, SweepState.CANCELLED)
            return True
        with span("plan"):
            batch = running.next_batch()
        if batch is None:
            with span("finish"):
                curve = self._finish(running, SweepState.DONE)
            if curve is not None and self._naming is not None:
                with self._hold_turn(), span("name kernels"):
                    self._naming.name(*curve, mode=sweep.spec.mode)
                self._measuring_ended_s = time.monotonic()
            return True
        try:
            with self._hold_turn():
                self._wait_for_others(running)
                with span("measure", {"lhp.visits": len(batch.point)}):
                    part = self._measurer.measure_part(
                        sweep.spec.workload,
                        sweep.spec.grid,
                        batch,
                        must_yield=functools.partial(self._must_yield, sweep_id, time.monotonic()),
                    )
        except PlatformMismatchError as error:
            logger.error("%s (%s)", error, error.hint)
            self._stopping.set()
            self.platform_changed.set()
            raise StopRequest(PLATFORM_CHANGED) from error
        finally:
            self._measuring_ended_s = time.monotonic()
        if self._num_pauses:
            self._num_pauses = 0
            logger.info("sweep %s goes on: the device is back", sweep_id)
        self._say_measuring()
        if len(part.samples) or part.samples.failures:
            self._turns.end_turn(sweep_id, now_s=time.monotonic())
        samples = running.take(part)
        if samples is None:
            self._running[sweep_id] = running
            return False
        index = running.num_batches
        running.record(samples)
        running.watch(samples)
        with span("store"):
            is_kept = self._store.commit_batch(sweep_id, index, samples, running.progress())
        if is_kept:
            self._running[sweep_id] = running
        return False

    def _hold_turn(
        self, must_stop: Callable[[], bool] | None = None
    ) -> contextlib.AbstractContextManager[object]:
        """In this context, no user's command measures its own code on this device."""
        if self._device_turn is None:
            return contextlib.nullcontext()
        must_stop = must_stop or self._stopping.is_set
        return self._device_turn.held(patience_s=PATIENCE_S, must_stop=must_stop)

    def _must_yield(self, sweep_id: str, started_s: float, num_done: int) -> bool:
        """Whether the batch under way must be broken off: for another, or to be cancelled."""
        under_way_s, turn = time.monotonic() - started_s, self._device_turn
        if turn is not None and turn.must_yield(under_way_s=under_way_s, num_done=num_done):
            return True
        assert self._host is not None
        try:
            sweeps = self._store.list_open(self._host)
        except StoreUnavailableError:
            return False  # the batch can't be kept either, as long as that lasts
        return self._turns.must_yield(sweep_id, sweeps, under_way_s=under_way_s, num_done=num_done)

    def _wait_for_others(self, running: RunningSweep) -> None:
        """Returns when nobody else uses the GPU, or the sweep has waited long enough for that.

        A sweep looks before its first batch and every LOOK_EVERY_S, and waits `yield_s` in all.
        """
        started_s = time.monotonic()
        if started_s < running.next_look_s:
            return

        said = False

        def pause(seconds: float) -> bool:
            nonlocal said
            if not said:
                self._store.pause_sweep(
                    running.id, f"waiting for at most {self._yield_s:g} s: others use the GPU"
                )
                said = True
            if self._stopping.wait(seconds):
                raise StopRequest(0)
            return not self._store.get_sweep(running.id).cancel_requested

        running.gpu_others_share = wait_for_others(
            self._measurer.read_gpu_use,
            longest_s=self._yield_s - running.waited_s,
            own_use_ended_s=self._measuring_ended_s,
            pause=pause,
            clock_s=time.monotonic,
        )
        running.waited_s += time.monotonic() - started_s
        running.next_look_s = time.monotonic() + LOOK_EVERY_S

    def _resume(self, sweep: Sweep) -> RunningSweep:
        running = RunningSweep(id=sweep.id, planner=self._create_planner(sweep.spec))
        if sweep.progress is not None:
            running.use = OthersUse(
                others_s=sweep.progress.others_s, watched_s=sweep.progress.watched_s
            )
        replay(running, self._store.load_batches(sweep.id))
        if running.num_batches:
            logger.info("sweep %s goes on after %d batches", sweep.id, running.num_batches)
        else:
            logger.info("sweep %s starts", sweep.id)
        return running

    def _finish(self, running: RunningSweep, state: SweepState) -> tuple[str, LatencyCurve] | None:
        """The curve and its id, which are kept; None if there is none."""
        curve: LatencyCurve | None = None
        curve_id: str | None = None
        if running.num_samples:
            try:
                curve = running.label(
                    running.planner.build_curve(
                        self._measurer.platform,
                        self._measurer.protocol,
                        self._store.last_measured_at(running.id),
                    )
                )
            except MeasurementFailedError:
                if state is not SweepState.CANCELLED:
                    raise
                # it was still warming up
            curve_id = self._store.finish_sweep(running.id, curve, state=state)
            if curve is not None and state is SweepState.DONE and self._learning is not None:
                with span("learn"):
                    self._learning.learn_from(running.id, running.planner)
        elif state is SweepState.CANCELLED:
            self._store.finish_sweep(running.id, None, state=state)
        else:
            reason = running.first_failure or "the plan has no point to measure"
            self._store.fail_sweep(running.id, f"no point could be measured: {reason}")
        logger.info("sweep %s ended after %d batches", running.id, running.num_batches)
        return None if curve is None or curve_id is None else (curve_id, curve)


def _describe(error: LhpError) -> str:
    """The error and its hint, in one line."""
    return f"{error} ({error.hint})" if error.hint else str(error)
