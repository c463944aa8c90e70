"""Shows progress on stderr: a progress bar, or a few plain lines.

A terminal gets a bar with stage, rate and time left. Any other stderr gets a plain line every
ten seconds, without control codes. Knows neither typer nor exit codes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich import progress as bars
from rich.console import Console

from profiler_service.cli.terminal import print_line
from profiler_service.cli.text import describe_queue
from profiler_service.client import Progress, ServiceUnreachableError
from profiler_service.errors import HostAwayError, LhpError
from profiler_service.printable import printable
from profiler_service.wire import SweepInfo
from profiler_service.wording import format_seconds

LINE_EVERY_S = 10.0


class Report(Protocol):
    """Shows how far a sweep is."""

    def __call__(self, stage: str, *, fraction: float | None = None, rate: str = "") -> None:
        """Shows `stage`, and `fraction` (from 0 to 1) if it is known."""


@contextmanager
def show_progress(console: Console) -> Iterator[Report]:
    """A report that shows progress on `console` until the context ends."""
    if not console.is_terminal:
        next_line = -math.inf

        def report_line(stage: str, *, fraction: float | None = None, rate: str = "") -> None:
            nonlocal next_line
            if time.monotonic() < next_line:
                return
            next_line = time.monotonic() + LINE_EVERY_S
            done = "" if fraction is None else f"{fraction:.0%} done, "
            line = f"{done}{stage}" + (f", {rate}" if rate else "")
            print_line(console, line)

        yield report_line
        return

    with bars.Progress(
        bars.SpinnerColumn(),
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(bar_width=30),
        bars.TaskProgressColumn(),
        bars.TextColumn("{task.fields[rate]}", style="dim", markup=False),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=None, rate="")

        def report_bar(stage: str, *, fraction: float | None = None, rate: str = "") -> None:
            bar.update(
                task,
                description=printable(stage),
                total=None if fraction is None else 1,
                completed=fraction or 0,
                rate=rate,
            )

        yield report_bar


def report_progress(progress: Progress, report: Report) -> None:
    """Shows how far the client's sweep is, or why it waits."""
    sweep, held_up_by = progress.sweep, progress.held_up_by
    if held_up_by is not None:
        report(_describe_delay(held_up_by))
    elif sweep is not None:
        _report_sweep(sweep, report)


def _describe_delay(error: LhpError) -> str:
    if isinstance(error, HostAwayError):
        return "waiting for the worker to be ready"
    if isinstance(error, ServiceUnreachableError):
        return "the service doesn't answer, waiting for it"
    return f"waiting: {error}"


def _report_sweep(sweep: SweepInfo, report: Report) -> None:
    done = sweep.progress
    if sweep.error:
        report(f"paused: {sweep.error}", fraction=done.fraction if done else None)
        return
    if sweep.ahead and not sweep.cancel_requested:
        report(f"queued {describe_queue(sweep)}", fraction=done.fraction if done else None)
        return
    if done is None:
        report("queued" if sweep.state == "queued" else "starting")
        return
    rate = f"{done.num_samples} samples"
    if done.seconds > 0:
        rate += f", {done.num_samples / done.seconds:,.0f}/s"
    # The first percent is too short to estimate the time left; at the end no time is left.
    if 0.02 <= done.fraction < 1 and not sweep.cancel_requested:
        rate += f", {format_seconds(done.seconds * (1 - done.fraction) / done.fraction)} left"
    stage = "cancelling" if sweep.cancel_requested else done.stage
    report(stage, fraction=done.fraction, rate=rate)
