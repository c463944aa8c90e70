"""The long conversations with the service: a query, or a sweep, to their end.

Knows what to say on Ctrl-C and when to give up; neither typer nor exit codes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol, TypeVar

from rich.console import Console

from profiler_service.cli.client import Query, ServiceClient, ServiceFailedError
from profiler_service.cli.command import as_typed_here
from profiler_service.cli.follow import follow_sweep, show_progress
from profiler_service.errors import ConflictError, HostAwayError, MeasurementFailedError
from profiler_service.wire import CrossoverAnswer, LhpAnswer, SweepInfo, SweepRequest

Reply = TypeVar("Reply", covariant=True)

FIRST_WAIT_S = 1.0
"""A measured answer comes at once; after this we would rather show progress than silence."""
WORKER_START_S = 20.0
"""How long a service just started may take until its worker has registered."""
CANCEL_S = 60.0
"""How long a cancelled sweep may take to end before we stop watching."""


class NotMeasuredYetError(MeasurementFailedError):
    """The time to wait is over, and the sweep that will tell is still running."""


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """How a sweep ended, as far as we watched it."""

    sweep: SweepInfo
    interrupted: bool
    """Whether Ctrl-C was pressed."""


def ask(client: ServiceClient, query: Query, *, wait_s: float, console: Console) -> LhpAnswer:
    """The answer to `query`, measured first where need be, within `wait_s` seconds.

    Raises NotMeasuredYetError when they are over; MeasurementFailedError or ConflictError where the
    sweep failed or was cancelled; and what the client raises.
    """
    return _ask(client, client.query, query, wait_s, console)


def ask_crossover(
    client: ServiceClient, query: Query, *, wait_s: float, console: Console
) -> CrossoverAnswer:
    """As `ask`, from which sparsity on a sparse product is faster."""
    return _ask(client, client.find_crossover, query, wait_s, console)


class _Fetch(Protocol[Reply]):
    def __call__(self, query: Query, *, wait_s: float) -> Reply | SweepInfo: ...


def _ask(
    client: ServiceClient, fetch: _Fetch[Reply], query: Query, wait_s: float, console: Console
) -> Reply:
    until = time.monotonic() + wait_s
    with show_progress(console) as report:
        # A curve may be too old by the time it is asked, so once more; then something is wrong.
        for _ in range(3):
            left_s = max(0.0, until - time.monotonic())
            try:
                reply = fetch(query, wait_s=min(left_s, FIRST_WAIT_S))
            except HostAwayError:
                # The service waits for its own host to register: it may have just started.
                left_s = until - time.monotonic()
                if left_s <= 0:
                    raise
                report("waiting for the worker to be ready")
                reply = fetch(query, wait_s=min(left_s, WORKER_START_S))
            if not isinstance(reply, SweepInfo):
                return reply
            try:
                sweep = follow_sweep(client, reply, report, until=until)
            except KeyboardInterrupt:
                _say(
                    console,
                    "interrupted: the measuring goes on, ask again for the answer;"
                    f" `lhp cancel {reply.id}` stops it",
                )
                raise
            _check_measured(sweep)
    raise ServiceFailedError(
        f"sweep {sweep.id} is done, and still the service has no answer",
        hint="look at the service's log",
    )


def _check_measured(sweep: SweepInfo) -> None:
    if sweep.state == "failed":
        raise MeasurementFailedError(
            f"sweep {sweep.id} failed: {sweep.error}", hint="see the log of the worker"
        )
    if sweep.state == "cancelled":
        raise ConflictError(
            f"sweep {sweep.id}, which was to measure this, has been cancelled", hint="ask again"
        )
    if sweep.state != "done":
        done = f"{sweep.progress.fraction:.0%} done" if sweep.progress else sweep.state
        done += f", paused: {sweep.error}" if sweep.error else ""
        raise NotMeasuredYetError(
            f"not measured yet: sweep {sweep.id} is {done}",
            hint="it goes on: ask again later, or with a longer --wait;"
            f" `lhp cancel {sweep.id}` stops it",
        )


def run_sweep(client: ServiceClient, request: SweepRequest, *, console: Console) -> SweepOutcome:
    """The sweep's outcome, watched to its end; Ctrl-C asks the service to stop it.

    A sweep that someone else started earlier is left alone on Ctrl-C. A second Ctrl-C raises
    KeyboardInterrupt at once.
    """
    try:
        sweep, is_new = client.create_sweep(request)
    except KeyboardInterrupt:
        _say(console, "interrupted: where the service has already taken the sweep, it goes on")
        raise
    if not is_new:
        _say(console, f"joining sweep {sweep.id}, which is already under way")
    try:
        with show_progress(console) as report:
            return SweepOutcome(sweep=follow_sweep(client, sweep, report), interrupted=False)
    except KeyboardInterrupt:
        pass
    if not is_new:
        _say(
            console,
            f"interrupted: sweep {sweep.id} wasn't started here, and goes on;"
            f" `lhp cancel {sweep.id}` stops it",
        )
        return SweepOutcome(sweep=client.get_sweep(sweep.id), interrupted=True)
    _say(console, "interrupted: stopping the sweep and keeping what it measured")
    try:
        sweep = client.cancel_sweep(sweep.id)
    except ConflictError:  # it ended just now
        sweep = client.get_sweep(sweep.id)
    with show_progress(console) as report:
        sweep = follow_sweep(client, sweep, report, until=time.monotonic() + CANCEL_S)
    return SweepOutcome(sweep=sweep, interrupted=True)


def _say(console: Console, line: str) -> None:
    console.print(as_typed_here(line), markup=False, highlight=False, soft_wrap=True)
