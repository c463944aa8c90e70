"""Gets the answer to a question: finds it, or has it measured, or names the sweep.

    answer = await asking.ask(question, Where(host="gpu-7"), wait_s=30)

Knows questions only by their protocol, and no HTTP. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from cachetools import LRUCache

from profiler_service.access.caller import current_caller
from profiler_service.access.scopes import Scope
from profiler_service.answering.admission import Admission, is_own_code, refuse_own_code
from profiler_service.answering.curves import Conditions
from profiler_service.answering.hosts import HostDirectory
from profiler_service.answering.known import Known
from profiler_service.answering.questions import Question, Where
from profiler_service.answering.queue import SweepQueue
from profiler_service.answering.shutdown import Shutdown
from profiler_service.errors import (
    LhpError,
    MeasurementFailedError,
    StoreUnavailableError,
    SweepCancelledError,
    TooManyRequestsError,
    WindowTooLargeError,
)
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.storage.store import Host, Sweep
from profiler_service.telemetry.traces import link_span, span

AnswerT = TypeVar("AnswerT")
T = TypeVar("T")
MAX_REMEMBERED = 1024
"""So many measurements are remembered. One that isn't is found again in the store."""


@dataclass(kw_only=True)
class _Measurement:
    """A sweep that one or several questions wait for, or have waited for."""

    queued: asyncio.Task[Sweep | None]
    """The sweep, once it is in the queue; None if none was needed."""
    followed: asyncio.Task[Sweep] | None = None
    """The sweep, once it has ended and its curve can be found. None while nobody waits."""
    num_waiting: int = 0


class Asking:
    """Answers questions. Questions that the same sweep answers share one measurement.

    They share it from before the sweep is queued until its curve can be found: a question that
    comes in between must not start the same sweep again. Each question reads its own answer. A
    question that is asked again and again until its sweep has ended costs little: the sweep is
    remembered.
    """

    def __init__(
        self,
        *,
        known: Known,
        hosts: HostDirectory,
        admission: Admission,
        queue: SweepQueue,
        shutdown: Shutdown,
        beyond_wait_s: float,
    ) -> None:
        """`beyond_wait_s` is how much longer than `wait_s` a question may take."""
        self._beyond_wait_s = beyond_wait_s
        self._known = known
        self._hosts = hosts
        self._admission = admission
        self._queue = queue
        self._shutdown = shutdown
        self._measurements: LRUCache[tuple[str, str], _Measurement] = LRUCache(MAX_REMEMBERED)

    async def find(self, question: Question[AnswerT], where: Where) -> AnswerT | None:
        """The answer, if it is known; None if it must be measured. Starts nothing.

        Raises UnknownHostError, UnknownPlatformError, InvalidRequestError, StoreError.
        """
        return await self._find(question, await self._locate(question, where))

    async def _locate(self, question: Question[AnswerT], where: Where) -> Where:
        if is_own_code(question.sweep):
            return await self._hosts.locate_own_code(where)
        return await self._hosts.locate(where)

    async def _find(self, question: Question[AnswerT], where: Where) -> AnswerT | None:
        conditions = await self._hosts.find_conditions(where)
        return None if conditions is None else await question.find(self._known, conditions)

    async def ask(
        self,
        question: Question[AnswerT],
        where: Where,
        *,
        wait_s: float,
        client: str | None = None,
        when_queued: Callable[[], object] = lambda: None,
    ) -> AnswerT | Sweep:
        """The answer; or the sweep that will give it, if that takes longer than `wait_s`.

        `client` is who asks. One client can have only a part of a host's queue. `when_queued` is
        called when nothing is left to do but to wait for a measurement.

        A question whose answer is in memory never waits for the database. Every other one takes at
        most `beyond_wait_s` more than `wait_s`.

        Also the sweep if the service is about to end.

        Raises OwnCodeError if only the user's own command can measure it; InsufficientScopeError if
        the caller may not have it measured;
        UnknownHostError, UnknownPlatformError, HostAwayError; InvalidRequestError for an
        ambiguous beginning of a platform's key; WindowTooLargeError, UnsupportedOnHostError;
        ConflictError if the host isn't on that platform;
        SweepCancelledError; MeasurementFailedError if the sweep ended without an answer;
        StoreError.
        """
        try:
            async with asyncio.timeout(wait_s + self._beyond_wait_s) as limit:
                return await self._find_or_measure(
                    question, where, wait_s=wait_s, client=client, when_queued=when_queued
                )
        except TimeoutError:
            if not limit.expired():
                raise
            raise StoreUnavailableError(
                f"the database didn't answer within {self._beyond_wait_s:g} s",
                hint="ask again later; known questions are answered from memory meanwhile",
            ) from None

    async def _find_or_measure(
        self,
        question: Question[AnswerT],
        where: Where,
        *,
        wait_s: float,
        client: str | None,
        when_queued: Callable[[], object],
    ) -> AnswerT | Sweep:
        deadline_s = time.monotonic() + wait_s
        where = await self._locate(question, where)
        answer = await self._find(question, where)
        if answer is not None:
            return answer
        if is_own_code(question.sweep):
            # The user's command may have measured it since the last refresh.
            await self._known.refresh()
            if (answer := await self._find(question, where)) is not None:
                return answer
            refuse_own_code(question.sweep)
        return await self._measure(
            question, where, deadline_s=deadline_s, client=client, when_queued=when_queued
        )

    async def _measure(
        self,
        question: Question[AnswerT],
        where: Where,
        *,
        deadline_s: float,
        client: str | None,
        when_queued: Callable[[], object],
    ) -> AnswerT | Sweep:
        """The answer, measured by a host; or the sweep, if it hasn't ended by the deadline."""
        current_caller().check(Scope.MEASURE)
        spec_key = question.sweep.key
        host = await self._hosts.choose(
            where,
            wait_s=_left_s(deadline_s),
            spec_key=spec_key,
            preferred={name for name, each in self._measurements if each == spec_key},
        )
        key = (host.name, spec_key)
        measurement = await self._find_measurement(key)
        if measurement is None:
            measurement = _Measurement(
                queued=_create_task(self._queue_unless_known(question, host, client))
            )
            self._measurements[key] = measurement
        measurement.num_waiting += 1
        try:
            # Queueing is quick, and a 202 must name the sweep.
            await asyncio.wait({measurement.queued})
            when_queued()
            ended = sweep = measurement.queued.result()
            if sweep is not None:
                link_span(sweep.traceparent)
                ended = await self._wait_final(measurement, sweep, timeout_s=_left_s(deadline_s))
                if ended is None:
                    return sweep
            self._forget(key, measurement)
        finally:
            measurement.num_waiting -= 1
            if measurement.num_waiting == 0:
                self._leave(key, measurement)
        answer = await question.find(
            self._known, Conditions.of(host), measured=None if ended is None else ended.curve_id
        )
        if answer is not None:
            return answer
        # The host may have changed its platform since: a restart, or another machine of its name.
        if ended is None or await self._has_changed(host):
            return await self._measure(
                question, where, deadline_s=deadline_s, client=client, when_queued=when_queued
            )
        raise _why_unanswered(ended, question.wanted)

    async def _has_changed(self, host: Host) -> bool:
        """Whether the host measures on another platform or otherwise than when it was chosen."""
        conditions = await self._hosts.find_conditions(Where(host=host.name))
        return conditions != Conditions.of(host)

    async def _wait_final(
        self, measurement: _Measurement, sweep: Sweep, *, timeout_s: float
    ) -> Sweep | None:
        """The sweep when it has ended and its curve can be found; None if that takes too long."""
        if measurement.followed is None:
            if timeout_s <= 0:
                return None
            measurement.followed = _create_task(self._follow(sweep.id))
        with span("wait for sweep", {"lhp.sweep": sweep.id}):
            await self._shutdown.wait(measurement.followed, timeout_s=timeout_s)
        return measurement.followed.result() if measurement.followed.done() else None

    async def _follow(self, sweep_id: str) -> Sweep:
        ended = await self._queue.wait_final(sweep_id)
        await self._known.refresh()
        return ended

    def _leave(self, key: tuple[str, str], measurement: _Measurement) -> None:
        """Ends what goes on for those who wait: nobody does any more."""
        if measurement.followed is not None:
            measurement.followed.cancel()
            measurement.followed = None
        if not measurement.queued.done():
            measurement.queued.cancel()
            self._forget(key, measurement)

    async def _find_measurement(self, key: tuple[str, str]) -> _Measurement | None:
        """The current measurement; None if there is none that will give an answer."""
        measurement = self._measurements.get(key)
        if measurement is None or not measurement.queued.done():
            return measurement
        queued = _find_result(measurement.queued)
        sweep = None if queued is None else await self._queue.get(queued.id)
        # One that has ended is still good if somebody is about to read its curve.
        has_ended = sweep is None or (sweep.state.is_final and measurement.followed is None)
        if has_ended or (sweep is not None and sweep.cancel_requested):
            self._forget(key, measurement)
        return self._measurements.get(key)  # perhaps another one by now

    async def _queue_unless_known(
        self, question: Question[AnswerT], host: Host, client: str | None
    ) -> Sweep | None:
        """The sweep, queued; None if its result was already known."""
        # Somebody else may have measured it since the last refresh.
        await self._known.refresh()
        if await question.find(self._known, Conditions.of(host)) is not None:
            return None
        queued = await self._queue.find_awaited(question.sweep.key, host.name)
        return queued or await self._queue_for(question, host, client)

    async def _queue_for(
        self, question: Question[AnswerT], host: Host, client: str | None
    ) -> Sweep:
        """The sweep that answers the question, and its companion, queued."""
        question.check_host(host)
        admitted = await self._admission.admit(question.sweep, host, for_question=True)
        queued, _ = await self._queue.submit(admitted, client=client)
        companion = question.find_companion(host)
        if companion is not None:
            await self._queue_companion(companion, host, client)
        return queued

    async def _queue_companion(self, spec: SweepSpec, host: Host, client: str | None) -> None:
        """Has this sweep measured in the background, unless it is known or can't be now.

        It takes room of the same client: otherwise one client could fill the queue with these. The
        question's own sweep is asked for first, and somebody waits for it: it is never delayed
        (see `plan.turns`).
        """
        found = await self._known.curves.find_covering(
            spec.workload, spec.grid, spec.mode, Conditions.of(host)
        )
        if any(header.grid == spec.grid for header in found):
            return
        with contextlib.suppress(WindowTooLargeError, TooManyRequestsError):
            admitted = await self._admission.admit(spec, host, for_question=True, is_awaited=False)
            await self._queue.submit(admitted, client=client)

    def _forget(self, key: tuple[str, str], measurement: _Measurement) -> None:
        if self._measurements.get(key) is measurement:
            del self._measurements[key]


def _create_task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task whose error may stay unread: those who would have read it may have left."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda each: each.cancelled() or each.exception())
    return task


def _find_result(task: asyncio.Task[T | None]) -> T | None:
    """What the ended task returned; None if it failed."""
    return None if task.cancelled() or task.exception() is not None else task.result()


def _left_s(deadline_s: float) -> float:
    return max(0.0, deadline_s - time.monotonic())


def _why_unanswered(sweep: Sweep, wanted: str) -> LhpError:
    """The error that says why the sweep for `wanted` ended without an answer."""
    see = f"/sweeps/{sweep.id}"
    if sweep.state is SweepState.CANCELLED:
        return SweepCancelledError(
            f"sweep {sweep.id} was cancelled", hint="ask again to start a new measurement", see=see
        )
    if sweep.state is SweepState.FAILED:
        return MeasurementFailedError(
            f"sweep {sweep.id} failed: {sweep.error}", hint="look at the sweep", see=see
        )
    return MeasurementFailedError(
        f"sweep {sweep.id} could not measure {wanted}",
        hint="the curve lists what failed, and why; ask again to retry",
        see=f"/curves/{sweep.curve_id}",
    )
