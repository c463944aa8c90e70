"""The clock of lost time, on this machine and on written files."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from profiler_service.measurement.lost_time import open_lost_clock


def write_waits(root: Path, waits_ns: dict[int, int]) -> None:
    """The files of these threads: time on a processor, time waiting for one, turns."""
    for number, wait_ns in waits_ns.items():
        task = root / f"proc/self/task/{number}"
        task.mkdir(parents=True, exist_ok=True)
        (task / "schedstat").write_text(f"123456789 {wait_ns} 42\n")


def test_work_loses_nothing_and_sleep_is_lost() -> None:
    lost_ns = open_lost_clock(1)
    before_ns = lost_ns()
    time.sleep(0.02)
    assert lost_ns() - before_ns >= 19e6
    # 2 ms of work: on a busy machine some of it may be interrupted, but not every time.
    shares = []
    for _ in range(50):
        lost_before_ns, cpu_before_ns = lost_ns(), time.thread_time_ns()
        while (worked_ns := time.thread_time_ns() - cpu_before_ns) < 2e6:
            pass
        shares.append((lost_ns() - lost_before_ns) / worked_ns)
    assert min(shares) < 0.01


def test_the_waits_of_several_threads_add_up(tmp_path: Path) -> None:
    write_waits(tmp_path, {11: 1_000, 12: 500})
    lost_ns = open_lost_clock(2, tmp_path)
    assert lost_ns() == 1_500
    write_waits(tmp_path, {12: 7_500})
    assert lost_ns() == 8_500


def test_other_threads_of_python_are_left_out(tmp_path: Path) -> None:
    started, ended = threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        ended.wait()

    other = threading.Thread(target=wait)
    other.start()
    try:
        started.wait()
        assert other.native_id is not None
        write_waits(tmp_path, {os.getpid(): 1_000, other.native_id: 500})
        assert open_lost_clock(2, tmp_path)() == 1_000
    finally:
        ended.set()
        other.join()


def test_where_the_kernel_shows_no_waits_the_own_time_counts(tmp_path: Path) -> None:
    lost_ns = open_lost_clock(2, tmp_path)
    before_ns = lost_ns()
    time.sleep(0.01)
    assert lost_ns() - before_ns == pytest.approx(10e6, rel=1) and lost_ns() > before_ns


def test_a_thread_that_has_ended_counts_no_more(tmp_path: Path) -> None:
    write_waits(tmp_path, {11: 1_000, 12: 500})
    lost_ns = open_lost_clock(2, tmp_path)
    (tmp_path / "proc/self/task/12/schedstat").write_text("")
    assert lost_ns() == 1_000
