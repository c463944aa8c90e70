"""Answers measured on demand: what a query waits for where no curve covers its window.

Knows no HTTP. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from profiler_service.answering.closing import Closing
from profiler_service.answering.known import AnswerBook, Conditions, Question
from profiler_service.answering.queue import SweepDesk, max_window_points
from profiler_service.errors import (
    ConflictError,
    LhpError,
    MeasurementFailedError,
    SweepCancelledError,
    WindowTooLargeError,
)
from profiler_service.kinds.kernels import DENSE_BACKENDS, DENSE_KERNELS, LINEAR_KERNELS
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.settings import Settings
from profiler_service.storage.store import Host, Sweep
from profiler_service.wire import LhpAnswer


@dataclass(kw_only=True)
class _Measurement:
    """A measurement that one or many queries wait for."""

    ended: asyncio.Task[Sweep | None]
    """The sweep when it has ended; None where none was needed after all."""
    queued: asyncio.Future[Sweep] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    num_waiting: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How far a measurement has come."""

    sweep: Sweep | None
    """None where none was needed after all."""
    has_ended: bool


class OnDemand:
    """Has windows measured; queries that need the same one share the measurement.

    From before the sweep is queued until its curve can be found, so that no query falls
    between the two and has the window measured again.
    """

    def __init__(
        self, book: AnswerBook, desk: SweepDesk, settings: Settings, closing: Closing
    ) -> None:
        self._book = book
        self._closing = closing
        self._desk = desk
        self._settings = settings
        self._measurements: dict[tuple[str, str], _Measurement] = {}

    async def answer(
        self, question: Question, host: Host, platform_key: str, *, wait_s: float
    ) -> LhpAnswer | Sweep:
        """The answer; or, where that takes longer than `wait_s`, the sweep that will bring it.

        The latter also where the service is about to end.

        Raises WindowTooLargeError, UnsupportedOnHostError; ConflictError where `host` isn't on
        that platform, or the sweep was cancelled; MeasurementFailedError where it left no answer.
        """

        async def is_known() -> bool:
            return await self._book.find(question, Conditions.of(host)) is not None

        spec = SweepSpec(
            workload=question.workload,
            mode=question.mode,
            grid=question.window,
            budget_s=question.budget_s,
        )
        outcome = await self.measure(
            spec,
            host,
            platform_key,
            first=_contest(question, host),
            is_known=is_known,
            wait_s=wait_s,
        )
        if not outcome.has_ended:
            assert outcome.sweep is not None
            return outcome.sweep
        answer = await self._book.find(question, Conditions.of(host))
        if answer is None:
            raise unanswered(outcome.sweep, ",".join(map(str, question.dims)))
        return answer

    async def measure(
        self,
        spec: SweepSpec,
        host: Host,
        platform_key: str,
        *,
        first: SweepSpec | None = None,
        is_known: Callable[[], Awaitable[bool]],
        wait_s: float,
    ) -> Outcome:
        """How far a sweep of `spec` on `host` has come after at most `wait_s`.

        There is none where, once the book is up to date, the result `is_known` already. `first`
        is handed in before it where nothing like it is known: a comparison of kernels that the
        answer is better with, and good without.

        Raises WindowTooLargeError, UnsupportedOnHostError; ConflictError where `host` isn't on
        that platform.
        """
        if host.platform_key != platform_key:
            raise ConflictError(
                f"host {host.name!r} is on platform {host.platform_key}, not on {platform_key}",
                hint="leave out `host` or `platform`",
            )
        key = (host.name, spec.key)
        measurement = self._measurements.get(key)
        if measurement is not None and await self._was_cancelled(measurement):
            self._forget(key, measurement)
            measurement = self._measurements.get(key)  # somebody else's, perhaps, by now
        if measurement is None:
            measurement = _Measurement(
                ended=asyncio.create_task(self._measure(key, spec, first, host, is_known))
            )
            self._measurements[key] = measurement
        measurement.num_waiting += 1
        try:
            # Queueing takes a moment only, and 202 must name the sweep.
            under_way: list[asyncio.Future[Any]] = [measurement.ended, measurement.queued]
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            await self._closing.wait(measurement.ended, timeout_s=wait_s)
        finally:
            measurement.num_waiting -= 1
            if measurement.num_waiting == 0:
                self._forget(key, measurement)
                measurement.ended.cancel()
        if not measurement.ended.done():
            return Outcome(sweep=measurement.queued.result(), has_ended=False)
        return Outcome(sweep=measurement.ended.result(), has_ended=True)

    async def _was_cancelled(self, measurement: _Measurement) -> bool:
        """Whether somebody has cancelled it: it ends, and brings no answer."""
        if not measurement.queued.done():
            return False
        sweep = await self._desk.get(measurement.queued.result().id)
        return sweep.cancel_requested

    async def _measure(
        self,
        key: tuple[str, str],
        spec: SweepSpec,
        first: SweepSpec | None,
        host: Host,
        is_known: Callable[[], Awaitable[bool]],
    ) -> Sweep | None:
        measurement = self._measurements[key]
        try:
            # Someone else may have measured it since the snapshot was taken.
            await self._book.refresh()
            if await is_known():
                return None
            if first is not None:
                await self._desk.check(**self._request(spec, host))
                await self._submit_contest(first, host)
            sweep, _ = await self._desk.submit(**self._request(spec, host))
            measurement.queued.set_result(sweep)
            ended = await self._desk.wait_final(sweep.id)
            await self._book.refresh()
            return ended
        finally:
            self._forget(key, measurement)

    async def _submit_contest(self, spec: SweepSpec, host: Host) -> None:
        known = await self._book.find_kernels(spec.workload, spec.grid, Conditions.of(host))
        if known is None:
            with contextlib.suppress(WindowTooLargeError):
                await self._desk.submit(**self._request(spec, host))

    def _request(self, spec: SweepSpec, host: Host) -> dict[str, Any]:
        return {
            "workload": spec.workload,
            "grid": spec.grid,
            "host": host,
            "mode": spec.mode,
            "max_points": max_window_points(spec.mode, self._settings),
            "budget_s": spec.budget_s,
        }

    def _forget(self, key: tuple[str, str], measurement: _Measurement) -> None:
        if self._measurements.get(key) is measurement:
            del self._measurements[key]


def _contest(question: Question, host: Host) -> SweepSpec | None:
    """The comparison of the workload's kernels; None where there is one at most.

    None, too, where a network's race has a budget: comparing its kernels would take a good
    part of that, and isn't what was asked for.
    """
    kernels = question.kernels
    if kernels is None:
        return None
    if question.budget_s is not None and kernels.kind != LINEAR_KERNELS.name:
        return None
    dtype = question.workload.param("dtype")
    contestants = DENSE_BACKENDS[: DENSE_KERNELS.size]
    if sum(dtype in host.backends.get(backend, ()) for backend in contestants) < 2:
        return None
    return SweepSpec(workload=kernels, mode="kernels", grid=DENSE_KERNELS)


def unanswered(sweep: Sweep | None, wanted: str) -> LhpError:
    """Why a measurement of what was `wanted` has ended and left no answer."""
    if sweep is None:
        return MeasurementFailedError("the answer was there and is gone", hint="ask again")
    where = f"/sweeps/{sweep.id}"
    if sweep.state == SweepState.CANCELLED:
        return SweepCancelledError(
            f"sweep {sweep.id} was cancelled", hint="ask again to measure anew", see=where
        )
    if sweep.state == SweepState.FAILED:
        return MeasurementFailedError(
            f"sweep {sweep.id} failed: {sweep.error}", hint="look at the sweep", see=where
        )
    return MeasurementFailedError(
        f"sweep {sweep.id} could not measure {wanted}",
        hint="the curve lists what failed, and why; ask again to retry",
        see=f"/curves/{sweep.curve_id}",
    )
