from __future__ import annotations

import io

from rich.console import Console

from profiler_service.cli import follow
from profiler_service.cli.client import ServiceClient
from profiler_service.cli.follow import follow_sweep, show_progress
from profiler_service.wire import ProgressInfo
from tests.cli.stub import DONE, StubService, make_sweep


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
    assert follow.LINE_EVERY_S == 10


def test_at_the_end_no_time_is_left(service: StubService) -> None:
    last = ProgressInfo(fraction=1.0, stage="finished", num_samples=18, seconds=0.5)
    service.reply("GET /sweeps/s1", DONE)
    log = io.StringIO()
    with (
        ServiceClient(service.url) as client,
        show_progress(Console(file=log, width=200)) as report,
    ):
        assert follow_sweep(client, make_sweep(progress=last), report) == DONE
    assert log.getvalue() == "100% done, finished, 18 samples, 36/s\n"
