from __future__ import annotations

import io

import pytest
from rich.console import Console

from profiler_service.cli import progress as module
from profiler_service.cli.progress import report_progress, show_progress
from profiler_service.client import Progress, ServiceUnreachableError
from profiler_service.errors import HostAwayError, LhpError, StoreUnavailableError
from profiler_service.wire import ProgressInfo
from tests.cli.stub import make_sweep


def shown(progress: Progress) -> str:
    """The line that a terminal without control codes gets of it."""
    log = io.StringIO()
    with show_progress(Console(file=log, width=200)) as report:
        report_progress(progress, report)
    return log.getvalue()


def test_a_terminal_gets_a_bar_with_stage_rate_and_share() -> None:
    screen = io.StringIO()
    with show_progress(Console(file=screen, force_terminal=True, width=120)) as report:
        report("queued")
        report("round [3] of 12", fraction=0.25, rate="18 samples, 36/s, 1.50 s left")
    assert "\x1b[" in screen.getvalue()
    # Brackets are markup to the bar's library, and must come out as they are.
    for text in ("round [3] of 12", "25%", "18 samples, 36/s, 1.50 s left"):
        assert text in screen.getvalue()


def test_anything_else_gets_plain_lines_now_and_then() -> None:
    log = io.StringIO()
    with show_progress(Console(file=log, width=20)) as report:
        report("queued")
        for number in range(100):
            report(f"round {number}", fraction=number / 100)
    # All within ten seconds of the first line.
    assert log.getvalue() == "queued\n"
    assert module.LINE_EVERY_S == 10


def test_at_the_end_no_time_is_left() -> None:
    last = ProgressInfo(fraction=1.0, stage="finished", num_samples=18, seconds=0.5)
    line = shown(Progress(sweep=make_sweep(progress=last)))
    assert line == "100% done, finished, 18 samples, 36/s\n"


def test_before_the_first_sample_the_state_is_shown() -> None:
    assert shown(Progress(sweep=make_sweep(state="queued", progress=None))) == "queued\n"
    assert shown(Progress(sweep=make_sweep(progress=None))) == "starting\n"
    assert shown(Progress()) == ""


def test_what_is_ahead_of_a_sweep_is_shown() -> None:
    queued = make_sweep(state="queued", progress=None, ahead=3, expected_wait_s=1234.4)
    assert shown(Progress(sweep=queued)) == "queued behind 3 sweeps, about 1,234 s\n"
    passed_over = make_sweep(state="running", ahead=1, expected_wait_s=2.6)
    assert "queued behind 1 sweep, about 3 s" in shown(Progress(sweep=passed_over))
    assert "queued" not in shown(Progress(sweep=make_sweep(state="running", ahead=0)))


def test_a_paused_sweep_says_why() -> None:
    line = shown(Progress(sweep=make_sweep(error="no CUDA device here")))
    assert line == "25% done, paused: no CUDA device here\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (HostAwayError("host 'anvil' isn't there"), "waiting for the worker to be ready\n"),
        (ServiceUnreachableError("no service"), "the service doesn't answer, waiting for it\n"),
        (StoreUnavailableError("the database is away"), "waiting: the database is away\n"),
    ],
)
def test_what_holds_a_sweep_up_is_shown(error: LhpError, line: str) -> None:
    assert shown(Progress(sweep=make_sweep(), held_up_by=error)) == line
