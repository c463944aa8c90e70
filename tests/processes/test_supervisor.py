"""Keeping a worker: what is done when it ends."""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path

import pytest

from profiler_service.processes.supervisor import WorkerKeeper
from tests.processes.fake_worker import wait_until


def count_starts(path: Path, code: str) -> list[str]:
    """A command that leaves one letter in `path` for each time it is started."""
    script = f"import sys, os\nopen({str(path)!r}, 'a').write('x')\n{code}"
    return [sys.executable, "-c", script]


def test_a_worker_that_keeps_ending_is_given_up_after_its_restarts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    starts = tmp_path / "starts"
    command = count_starts(starts, "sys.exit(1)")
    keeper = WorkerKeeper(command, first_delay_s=0.01, max_restarts=3)
    with caplog.at_level(logging.WARNING):
        keeper.start()
        keeper.join()
    # The first start and three more.
    assert starts.read_text() == "xxxx"
    assert "restart 3 of 3" in caplog.text
    # 10 ms, then twice as much each time.
    assert [re.findall(r"in (\S+) s", r.message) for r in caplog.records] == [
        ["0.01"],
        ["0.02"],
        ["0.04"],
        [],
    ]
    assert "giving up after 3 restarts" in caplog.records[-1].message


def test_a_worker_that_had_lived_long_enough_is_given_its_restarts_anew(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    # Ends with 78 (won't be started again) on its fifth start; every life counts as long.
    command = count_starts(starts, f"sys.exit(78 if os.stat({str(starts)!r}).st_size == 5 else 1)")
    keeper = WorkerKeeper(command, first_delay_s=0.01, max_restarts=2, healthy_s=0)
    keeper.start()
    keeper.join()
    assert starts.read_text() == "xxxxx"


def test_a_worker_that_says_it_cant_run_isnt_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    starts = tmp_path / "starts"
    keeper = WorkerKeeper(count_starts(starts, f"sys.exit({os.EX_CONFIG})"), first_delay_s=0.01)
    keeper.start()
    keeper.join()
    assert starts.read_text() == "x"
    assert "this machine doesn't measure" in caplog.text


def test_a_worker_that_may_run_later_is_tried_for_as_long_as_it_takes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    starts = tmp_path / "starts"
    # Can't run now five times, which is more than the restarts; then never.
    command = count_starts(starts, f"sys.exit(78 if os.stat({str(starts)!r}).st_size == 6 else 75)")
    keeper = WorkerKeeper(command, first_delay_s=0.001, max_restarts=2)
    keeper.start()
    keeper.join()
    assert starts.read_text() == "xxxxxx"
    assert caplog.text.count("trying again at intervals") == 1
    assert "ended unexpectedly" not in caplog.text


def test_stopping_ends_the_worker_and_the_wait_for_the_next(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    running = WorkerKeeper(count_starts(starts, "import time; time.sleep(600)"))
    running.start()
    wait_until(starts.exists)
    running.stop()
    waiting = WorkerKeeper(count_starts(tmp_path / "more", "sys.exit(1)"), first_delay_s=600)
    waiting.start()
    wait_until((tmp_path / "more").exists)
    waiting.stop()
    assert starts.read_text() == "x"
