"""Waiting for a sweep before the user's eyes: a progress bar, or a few plain lines.

A terminal gets a bar with stage, rate and time left; anything else gets a plain line every
ten seconds and no control codes. Always on stderr. Knows neither typer nor exit codes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from profiler_service.cli.client import ServiceClient, ServiceUnreachableError
from profiler_service.cli.text import format_seconds
from profiler_service.wire import SweepInfo

POLL_S = 0.2
LINE_EVERY_S = 10.0
PATIENCE_S = 30.0
"""How long the service may be away (restarting) before following a sweep gives up."""


class Report(Protocol):
    """Takes how far a sweep is, and shows it."""

    def __call__(self, stage: str, *, fraction: float | None = None, rate: str = "") -> None:
        """Shows `stage`; a bar moves where a `fraction` from 0 to 1 is known."""


@contextmanager
def show_progress(console: Console) -> Iterator[Report]:
    """A report that shows what it is given on `console` until the context ends."""
    if not console.is_terminal:
        next_line = -math.inf

        def report_line(stage: str, *, fraction: float | None = None, rate: str = "") -> None:
            nonlocal next_line
            if time.monotonic() < next_line:
                return
            next_line = time.monotonic() + LINE_EVERY_S
            done = "" if fraction is None else f"{fraction:.0%} done, "
            line = f"{done}{stage}" + (f", {rate}" if rate else "")
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield report_line
        return

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", style="dim", markup=False),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task("", total=None, rate="")

        def report_bar(stage: str, *, fraction: float | None = None, rate: str = "") -> None:
            progress.update(
                task,
                description=stage,
                total=None if fraction is None else 1,
                completed=fraction or 0,
                rate=rate,
            )

        yield report_bar


def follow_sweep(
    client: ServiceClient, sweep: SweepInfo, report: Report, *, until: float = math.inf
) -> SweepInfo:
    """The sweep in a final state, or as it stands when `time.monotonic()` reaches `until`.

    Shows every step through `report`. Raises what the client raises; a service that is away
    for less than 30 s (it may be restarting) is waited for.
    """
    last_heard = time.monotonic()
    while True:
        if sweep.is_final or time.monotonic() >= until:
            return sweep
        _report_sweep(sweep, report)
        time.sleep(POLL_S)
        try:
            sweep = client.get_sweep(sweep.id)
            last_heard = time.monotonic()
        except ServiceUnreachableError as error:
            if time.monotonic() - last_heard > PATIENCE_S:
                error.hint = (
                    "the sweep goes on when the service is back: type the same again to follow it,"
                    f" `lhp cancel {sweep.id}` to stop it"
                )
                raise
            report("the service is away, waiting for it")


def _report_sweep(sweep: SweepInfo, report: Report) -> None:
    progress = sweep.progress
    if sweep.error:
        report(f"paused: {sweep.error}", fraction=progress.fraction if progress else None)
        return
    if progress is None:
        report("queued" if sweep.state == "queued" else "starting")
        return
    rate = f"{progress.num_samples} samples"
    if progress.seconds > 0:
        rate += f", {progress.num_samples / progress.seconds:,.0f}/s"
    # The first per cents are too short to tell the time left from; at the end none is left.
    if 0.02 <= progress.fraction < 1 and not sweep.cancel_requested:
        left_s = progress.seconds * (1 - progress.fraction) / progress.fraction
        rate += f", {format_seconds(left_s)} left"
    stage = "cancelling" if sweep.cancel_requested else progress.stage
    report(stage, fraction=progress.fraction, rate=rate)
