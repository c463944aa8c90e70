"""Asks a question or follows a sweep, and shows the progress on the terminal.

Says what goes on after Ctrl-C. The client does the waiting.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.console import Console

from profiler_service.cli.command_name import as_typed_here
from profiler_service.cli.progress import report_progress, show_progress
from profiler_service.cli.terminal import print_line
from profiler_service.client import NotMeasuredYetError, OnProgress, Progress, ServiceClient
from profiler_service.errors import ConflictError, LhpError
from profiler_service.wire import CrossoverAnswer, LhpAnswer, SweepInfo, SweepRequest

Query = Mapping[str, str | int | float]

CANCEL_S = 60.0
"""How long to wait for a cancelled sweep to end."""


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """The last state that was seen of a sweep."""

    sweep: SweepInfo
    interrupted: bool
    """Whether Ctrl-C was pressed."""


def ask(client: ServiceClient, query: Query, *, wait_s: float, console: Console) -> LhpAnswer:
    """The answer to `query`, measured first if needed. Raises as the client's `ask_lhp`."""
    with _watching(console) as on_progress:
        return client.ask_lhp(query, wait_s=wait_s, on_progress=on_progress)


def ask_crossover(
    client: ServiceClient, query: Query, *, wait_s: float, console: Console
) -> CrossoverAnswer:
    """As `ask`, for the question from which sparsity on a sparse product is faster."""
    with _watching(console) as on_progress:
        return client.ask_crossover(query, wait_s=wait_s, on_progress=on_progress)


def run_sweep(client: ServiceClient, request: SweepRequest, *, console: Console) -> SweepOutcome:
    """The sweep's outcome. Ctrl-C asks the service to stop a sweep that this call started.

    On Ctrl-C, a sweep that someone else started goes on. A second Ctrl-C raises KeyboardInterrupt
    at once.
    """
    try:
        sweep, is_new = client.create_sweep(request)
    except KeyboardInterrupt:
        _say(console, "interrupted: if the service has already queued the sweep, it goes on")
        raise
    if not is_new:
        _say(console, f"joining sweep {sweep.id}, which is already under way")
    try:
        with _showing(console) as on_progress:
            sweep = client.follow_sweep(sweep, on_progress=on_progress)
            return SweepOutcome(sweep=sweep, interrupted=False)
    except KeyboardInterrupt:
        pass
    except LhpError as error:
        if error.is_transient:
            error.hint = (
                "the sweep goes on when the service is back: run this command again to follow it,"
                f" `lhp cancel {sweep.id}` to stop it"
            )
        raise
    if not is_new:
        _say(
            console,
            f"interrupted: sweep {sweep.id} goes on, because this command didn't start it;"
            f" `lhp cancel {sweep.id}` stops it",
        )
        return SweepOutcome(sweep=client.get_sweep(sweep.id), interrupted=True)
    _say(console, "interrupted: stopping the sweep and keeping what it measured")
    try:
        sweep = client.cancel_sweep(sweep.id)
    except ConflictError:  # it has just ended
        sweep = client.get_sweep(sweep.id)
    with _showing(console) as on_progress:
        sweep = client.follow_sweep(sweep, wait_s=CANCEL_S, on_progress=on_progress)
    return SweepOutcome(sweep=sweep, interrupted=True)


@contextlib.contextmanager
def _showing(console: Console) -> Iterator[OnProgress]:
    """In this context, `console` shows the client's progress."""
    with show_progress(console) as report:
        yield lambda progress: report_progress(progress, report)


@contextlib.contextmanager
def _watching(console: Console) -> Iterator[OnProgress]:
    """As `_showing`, for a question. After Ctrl-C its sweep goes on; says how to stop it."""
    followed: SweepInfo | None = None
    with _showing(console) as show:

        def on_progress(progress: Progress) -> None:
            nonlocal followed
            followed = progress.sweep or followed
            show(progress)

        try:
            yield on_progress
        except KeyboardInterrupt:
            if followed is not None:
                _say(
                    console,
                    "interrupted: the sweep goes on; ask again later for the answer;"
                    f" `lhp cancel {followed.id}` stops it",
                )
            raise
        except NotMeasuredYetError as error:
            error.hint = "the sweep goes on: ask again later, or with a longer --wait"
            if followed is not None:
                error.hint += f"; `lhp cancel {followed.id}` stops it"
            raise


def _say(console: Console, line: str) -> None:
    print_line(console, as_typed_here(line))
