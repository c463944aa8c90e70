"""Keeping a worker: whatever ends it, it is started again, and what is wrong is told."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from profiler_service.errors import WorkerAlreadyRunningError
from profiler_service.processes import supervisor
from profiler_service.processes.keeper_line import Told
from profiler_service.processes.supervisor import (
    RESTART_PAUSES,
    UNABLE_PAUSES,
    Pauses,
    WorkerKeeper,
    run_worker_alone,
)
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from tests.processes.fake_worker import PROTOCOL, platform, wait_until

QUICK = Pauses(first_s=0.01, longest_s=0.02)
NEVER = Pauses(first_s=600, longest_s=600)

STAYS = "import time; time.sleep(600)"
MEASURES = f"""
from profiler_service.processes.keeper_line import Told, attach
attach()(Told(state="measuring"))
{STAYS}
"""


def count_starts(path: Path, code: str) -> list[str]:
    """A command that leaves one letter in `path` for each time it is started."""
    script = f"import sys, os, signal\nopen({str(path)!r}, 'a').write('x')\n{code}"
    return [sys.executable, "-c", script]


def num_starts(path: Path) -> int:
    """How often the command of `count_starts` was started."""
    return len(path.read_text()) if path.exists() else 0


Keep = Callable[..., WorkerKeeper]


@pytest.fixture
def keep() -> Iterator[Keep]:
    """Starts a keeper of a command; it is stopped at the end."""
    with contextlib.ExitStack() as stack:

        def start(command: Sequence[str], **options: Pauses | float) -> WorkerKeeper:
            pauses = {"restart_pauses": QUICK, "unable_pauses": QUICK}
            keeper = WorkerKeeper(command, **{**pauses, **options})  # type: ignore[arg-type]
            keeper.start()
            stack.callback(keeper.stop)
            return keeper

        yield start


@pytest.mark.parametrize(
    ("end", "last_exit"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
        ("sys.exit(1)", "exit code 1"),
        ("sys.exit(0)", "exit code 0"),
        ("sys.exit(130)", "exit code 130"),
        (f"sys.exit({os.EX_TEMPFAIL})", "exit code 75"),
        (f"sys.exit({os.EX_CONFIG})", "exit code 78"),
    ],
)
def test_whatever_ends_a_worker_it_is_started_again_for_ever(
    keep: Keep, tmp_path: Path, end: str, last_exit: str
) -> None:
    starts = tmp_path / "starts"
    # Ends twelve times: more often than any number of restarts it was ever given. Then it stays.
    code = f"if os.stat({str(starts)!r}).st_size > 12: {STAYS}\n{end}"
    keeper = keep(count_starts(starts, code))
    wait_until(lambda: keeper.worker.num_ends == 12 and keeper.worker.pid is not None)
    wait_until(lambda: starts.read_text() == "x" * 13)
    assert (keeper.worker.state, keeper.worker.last_exit) == ("starting", last_exit)
    assert f"12 times in a row ({last_exit}" in keeper.worker.describe()


def test_it_is_started_again_slower_and_slower_up_to_a_longest_pause() -> None:
    # Twice the pause before, each time; at last always the longest one, however often it ended.
    assert [RESTART_PAUSES.after(n) for n in (1, 2, 3, 4, 5, 6, 9, 10**6)] == [
        *(1, 2, 4, 8, 16, 30, 30, 30)
    ]
    assert [UNABLE_PAUSES.after(n) for n in (1, 2, 3, 4, 5, 10**6)] == [60, 120, 240, 480, 600, 600]


def test_each_end_is_told_with_the_pause_that_follows(
    keep: Keep, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    starts = tmp_path / "starts"
    with caplog.at_level(logging.WARNING):
        pauses = Pauses(first_s=0.01, longest_s=0.02)
        keeper = keep(count_starts(starts, "sys.exit(1)"), restart_pauses=pauses)
        wait_until(lambda: keeper.worker.num_ends >= 3)
    told = [re.findall(r"\((\S+ \S+ \S+)\).* in (\S+) s", r.message) for r in caplog.records[:3]]
    assert told == [[("exit code 1", pause)] for pause in ("0.01", "0.02", "0.02")]


def test_a_worker_that_ran_for_long_enough_begins_with_short_pauses_again(
    keep: Keep, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    # Every life counts as long, so that no end is a second one in a row.
    keeper = keep(count_starts(starts, "sys.exit(1)"), healthy_s=0)
    wait_until(lambda: num_starts(starts) > 4)
    assert keeper.worker.num_ends == 1


def test_a_worker_that_cant_run_says_why_and_is_tried_again_later_than_one_that_crashed(
    keep: Keep, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    starts = tmp_path / "starts"
    code = f"""
from profiler_service.processes.keeper_line import Told, attach
attach()(Told(state="ending", reason="there is no CUDA device"))
sys.exit({os.EX_CONFIG})
"""
    keeper = keep(count_starts(starts, code), unable_pauses=NEVER)
    wait_until(lambda: keeper.worker.state == "unable")
    worker = keeper.worker
    assert worker.reason == "there is no CUDA device"
    assert worker.next_try_at is not None
    assert (worker.next_try_at - worker.since).total_seconds() == pytest.approx(600, abs=1)
    assert not worker.is_on_its_way
    assert "can't run: there is no CUDA device; it is started again at " in worker.describe()
    assert "this machine doesn't measure" in caplog.text
    assert starts.read_text() == "x"


def test_a_worker_that_ended_keeps_its_reason_until_the_next_one_speaks(keep: Keep) -> None:
    code = f"""
from profiler_service.processes.keeper_line import Told, attach
attach()(Told(state="ending", reason="the database is away"))
raise SystemExit({os.EX_TEMPFAIL})
"""
    keeper = keep([sys.executable, "-c", code], restart_pauses=NEVER)
    wait_until(lambda: keeper.worker.state == "restarting")
    assert keeper.worker.is_on_its_way
    assert "ended (exit code 75: the database is away); it is started" in keeper.worker.describe()


def test_a_worker_is_known_to_measure_once_it_says_so(keep: Keep) -> None:
    keeper = keep([sys.executable, "-c", MEASURES])
    assert keeper.worker.state == "starting"
    wait_until(lambda: keeper.worker.state == "measuring")
    assert keeper.worker.describe() == ""


def test_a_suspended_worker_is_told_and_still_ends_with_its_keeper(keep: Keep) -> None:
    keeper = keep([sys.executable, "-c", MEASURES])
    wait_until(lambda: keeper.worker.state == "measuring")
    pid = keeper.worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: keeper.worker.state == "suspended")
    assert not keeper.worker.is_on_its_way
    assert f"kill -CONT {pid}" in keeper.worker.hint
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: keeper.worker.state == "measuring")
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: keeper.worker.state == "suspended")
    keeper.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_no_memory_for_a_new_process_doesnt_end_the_keeping(
    keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    starts = tmp_path / "starts"
    tries = itertools.count(1)

    class Scarce(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **options: object) -> None:
            if next(tries) <= 3:
                raise BlockingIOError(11, "Resource temporarily unavailable")
            super().__init__(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(supervisor.subprocess, "Popen", Scarce)  # type: ignore[attr-defined]
    keeper = keep(count_starts(starts, STAYS))
    wait_until(lambda: num_starts(starts) > 0)
    assert keeper.worker.num_ends == 3
    assert "couldn't be started: [Errno 11] Resource temporarily" in keeper.worker.last_exit
    assert caplog.text.count("couldn't be started") == 3


def test_a_python_that_has_gone_is_looked_for_again(keep: Keep, tmp_path: Path) -> None:
    python = tmp_path / "python"
    keeper = keep([str(python), "-c", MEASURES])
    wait_until(lambda: keeper.worker.num_ends > 2)
    assert "No such file or directory" in keeper.worker.last_exit
    python.symlink_to(sys.executable)
    wait_until(lambda: keeper.worker.state in ("starting", "measuring"))


def test_stopping_ends_the_worker_and_the_wait_for_the_next(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    running = WorkerKeeper(count_starts(starts, STAYS))
    running.start()
    wait_until(lambda: num_starts(starts) > 0)
    running.stop()
    more = tmp_path / "more"
    waiting = WorkerKeeper(count_starts(more, "sys.exit(1)"), restart_pauses=NEVER)
    waiting.start()
    wait_until(lambda: num_starts(more) > 0)
    waiting.stop()
    assert starts.read_text() == more.read_text() == "x"


def test_what_a_worker_starts_doesnt_hold_the_line_to_its_keeper(keep: Keep) -> None:
    """Otherwise a dead worker would be taken for a living one as long as its children live."""
    code = f"""
import subprocess, sys, os
from profiler_service.processes.keeper_line import Told, attach
tell = attach()
subprocess.Popen([sys.executable, "-c", "{STAYS}"])
tell(Told(state="measuring"))
{STAYS}
"""
    keeper = keep([sys.executable, "-c", code], restart_pauses=NEVER)
    wait_until(lambda: keeper.worker.state == "measuring")
    pid = keeper.worker.pid
    assert pid is not None
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    try:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: keeper.worker.state == "restarting")
    finally:
        for child in map(int, children):
            os.kill(child, signal.SIGKILL)
    assert len(children) == 1


def test_a_worker_of_another_host_isnt_said_to_measure_for_this_service(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This service's own worker has just ended, and another service's was faster to follow."""
    monkeypatch.setattr(supervisor, "OTHER_WORKER_POLL_S", 0)
    store.register_host("mine", platform(), protocol=PROTOCOL, dtypes=["float32"])
    others = ["other", ""]
    said: list[Told] = []

    def run(_settings: Settings) -> None:
        if others:
            error = WorkerAlreadyRunningError(f"on this machine, a worker of {others[0]!r} runs")
            error.host = others.pop(0)
            raise error

    def tell(told: Told) -> None:
        said.append(told)

    run_worker_alone(Settings(database_url=database_url, host="mine"), run, tell)

    assert [told.state for told in said] == ["standing by"] * 2
    assert "nothing new is measured for host 'mine' here until it ends" in said[0].reason
    assert "this service uses it" in said[1].reason  # by its heartbeat
