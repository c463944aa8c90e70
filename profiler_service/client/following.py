"""Follows a sweep to its end: by server-sent events, or by polling.

Events arrive at once, but they may fail: a proxy may hold them back, and a stream breaks off when
the service restarts. The sweep is then polled. It is also polled shortly before the deadline,
because reading a stream can't be stopped at a given moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx_sse

from profiler_service.client.errors import NotMeasuredYetError
from profiler_service.client.problems import parse, parse_body
from profiler_service.client.retries import Deadline, Patience, retry_after_s
from profiler_service.client.transport import Call, Transport
from profiler_service.errors import LhpError, MeasurementFailedError, SweepCancelledError
from profiler_service.wire import SweepInfo

QUIET_S = 5.0
"""A stream that is silent for so long is opened again, or given up if it never sent anything."""
POLL_S = 0.5
"""Pause between two polls of a sweep, if the service doesn't ask for a longer one."""
AWAY_S = 30.0
"""How long the service or its database may be away (restarting) before we give up."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of an operation that the client waits for."""

    sweep: SweepInfo | None = None
    """The last known state of the sweep; None before there is one."""
    held_up_by: LhpError | None = None
    """Why the service doesn't answer at the moment, if that is temporary."""


OnProgress = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """Shows nothing."""


class Follower:
    """Follows one sweep until it ends or the deadline comes."""

    def __init__(
        self,
        transport: Transport[Any],
        sweep: SweepInfo,
        path: str,
        *,
        deadline: Deadline,
        on_progress: OnProgress,
        poll_s: float | None = None,
        quiet_s: float = QUIET_S,
    ) -> None:
        """`path` is the path of the sweep: `/sweeps/s1`."""
        self._transport = transport
        self._sweep = sweep
        self._path = path
        self._deadline = deadline
        self._on_progress = on_progress
        self._poll_s = POLL_S if poll_s is None else poll_s
        self._quiet_s = quiet_s
        self._streams = True
        """Whether the service's events reach this client, as far as it knows."""
        self._is_away = False
        self._heard_at_s = deadline.clock()

    async def follow(self) -> SweepInfo:
        """The sweep in its final state, or in its state at the deadline.

        Raises the service's error; a temporary one, such as ServiceUnreachableError, only if the
        service stays away for AWAY_S.
        """
        self._on_progress(Progress(sweep=self._sweep))
        while not self._sweep.is_final and not self._deadline.is_over:
            if self._streams and self._may_listen:
                await self._listen()
            if not self._sweep.is_final:
                await self._transport.pause(min(self._poll_s, self._deadline.left_s))
                await self._look()
        return self._sweep

    @property
    def _may_listen(self) -> bool:
        return self._deadline.left_s > self._quiet_s

    async def _listen(self) -> None:
        """Returns when the sweep or the stream has ended, or the stream is silent."""
        self._streams = False

        def take(event: httpx_sse.ServerSentEvent) -> bool:
            if event.event in ("progress", "end"):
                self._hear(parse_body(SweepInfo, event.data, source=f"{self._path}/events"))
                self._streams = True
            return event.event != "end" and self._may_listen

        with contextlib.suppress(LhpError):  # the next poll reports an error, if any
            await self._transport.listen(
                Call(path=f"{self._path}/events"), take, quiet_s=self._quiet_s
            )

    async def _look(self) -> None:
        patience = Patience.until(self._deadline, attempts=1)
        try:
            response = await self._transport.send(Call(path=self._path), patience)
        except LhpError as error:
            if not error.is_transient:
                raise
            if self._deadline.clock() - self._heard_at_s > AWAY_S:
                error.hint = "the sweep goes on when the service is back: ask again then"
                raise
            self._is_away = True
            self._on_progress(Progress(sweep=self._sweep, held_up_by=error))
        else:
            if self._is_away:
                # How listening ended meanwhile says nothing about the service's streams.
                self._streams, self._is_away = True, False
            self._poll_s = retry_after_s(response) or self._poll_s
            self._hear(parse(SweepInfo, response))

    def _hear(self, sweep: SweepInfo) -> None:
        self._sweep = sweep
        self._heard_at_s = self._deadline.clock()
        self._on_progress(Progress(sweep=sweep))


def check_measured(sweep: SweepInfo, *, waited_s: float) -> None:
    """Returns if the sweep is done.

    Raises MeasurementFailedError, SweepCancelledError; NotMeasuredYetError if it goes on.
    """
    see = f"/sweeps/{sweep.id}"
    if sweep.state == "failed":
        raise MeasurementFailedError(
            f"sweep {sweep.id} failed: {sweep.error}", hint="look at the worker's log", see=see
        )
    if sweep.state == "cancelled":
        raise SweepCancelledError(
            f"sweep {sweep.id}, which should measure this, has been cancelled",
            hint="ask again",
            see=see,
        )
    if sweep.state != "done":
        done = "" if sweep.progress is None else f", {sweep.progress.fraction:.0%} done"
        paused = f", paused: {sweep.error}" if sweep.error else ""
        ahead = f", with {sweep.ahead:,} others before it" if sweep.ahead else ""
        raise NotMeasuredYetError(
            f"not measured within {waited_s:.3g} s: sweep {sweep.id} is {sweep.state}{done}{ahead}"
            f"{paused}",
            hint="the sweep goes on: ask again later, or wait longer",
            see=see,
        )
