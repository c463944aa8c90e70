"""Machines that aren't as one would wish: each command says so in one line, and what to do."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
import pytest

from profiler_service.cli.explaining import MachineError, explain
from profiler_service.errors import StoreUnavailableError, StoreUnusableError
from profiler_service.processes.exit_codes import CANNOT_RUN, FAILED
from profiler_service.storage import schema
from profiler_service.storage.store import Store
from tests.api.curves import PLATFORM, PROTOCOL
from tests.cli.conftest import Finished, Lhp
from tests.cli.stub import StubService
from tests.processes.fake_worker import wait_until
from tests.processes.test_serve import read_greeting

Start = Callable[..., "subprocess.Popen[str]"]
NO_HOME = {"HOME": "", "XDG_DATA_HOME": ""}
"""As for a user who has neither HOME nor an entry in /etc/passwd."""


def check_told(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Asserts that a command ended with an error, a hint, and no traceback."""
    lines = [line for line in done.stderr.splitlines() if line.startswith(("error", "hint"))]
    assert done.returncode == code, done.stderr
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"], done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def as_process(done: Finished) -> subprocess.CompletedProcess[str]:
    """A command that was run in this process, as if it had its own."""
    return subprocess.CompletedProcess([], done.code, done.out, done.err)


def run(start: Start, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """How the command ends."""
    process = start(*arguments, **settings)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def asks(start: Start, service: StubService, **settings: str) -> None:
    """Asserts that commands that only ask need nothing of all that."""
    for command in (["hosts"], ["curves"], ["workloads", "--help"]):
        done = run(start, *command, LHP_URL=service.url, **settings)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr


# Without a home directory


def test_commands_that_only_ask_need_no_home_directory(
    start_lhp: Start, service: StubService
) -> None:
    asks(start_lhp, service, **NO_HOME)


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["worker"]])
def test_without_a_home_directory_a_command_that_needs_one_says_what_to_set(
    start_lhp: Start, tmp_path: Path, command: list[str]
) -> None:
    done = run(start_lhp, *command, **NO_HOME)
    code = CANNOT_RUN if command == ["worker"] else FAILED
    check_told(done, code, "the home directory isn't known", "LHP_DATABASE_URL", "HOME")
    # Least of all does it make a directory of that name here.
    assert not (tmp_path / "~").exists()


def test_a_home_directory_that_isnt_known_is_no_directory_of_that_name(
    lhp: Lhp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in NO_HOME.items():
        monkeypatch.setenv(name, value)
    done = as_process(lhp("db", "upgrade"))
    check_told(done, FAILED, "the home directory isn't known", "LHP_DATABASE_URL", "HOME")
    monkeypatch.setenv("LHP_DATABASE_URL", "sqlite:///~/lhp.sqlite")
    done = as_process(lhp("db", "upgrade"))
    check_told(done, FAILED, "~/lhp.sqlite can't be found")
    assert not (tmp_path / "~").exists()


def test_with_a_database_elsewhere_no_home_directory_is_needed(
    start_lhp: Start, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'lhp.sqlite'}"
    assert run(start_lhp, "db", "upgrade", LHP_DATABASE_URL=url, **NO_HOME).returncode == 0
    # With a worker: below, where there is no directory that could be used either.
    command = ("serve", "--port", "0", "--no-worker")
    process = start_lhp(*command, LHP_DATABASE_URL=url, **NO_HOME)
    served, _ = read_greeting(process)
    wait_until_ready(served)
    process.send_signal(signal.SIGTERM)
    assert "Traceback" not in process.communicate(timeout=30)[1]
    assert sorted(each.name for each in tmp_path.iterdir() if not each.is_file()) == []


def wait_until_ready(url: str) -> None:
    """Returns once the service is ready, its worker included."""
    wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200)


# Directories that can't be used. Root may write everywhere, so they are no directories at all.


@pytest.fixture
def unusable(tmp_path: Path) -> str:
    """A path below which nothing can be made, not even by root."""
    file = tmp_path / "file"
    file.write_text("")
    return str(file / "below")


def test_commands_that_only_ask_never_touch_the_data_directory(
    start_lhp: Start, service: StubService, unusable: str
) -> None:
    asks(start_lhp, service, HOME=unusable, XDG_DATA_HOME=unusable)


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["worker"]])
def test_a_data_directory_that_cant_be_made_is_told(
    start_lhp: Start,
    lhp: Lhp,
    unusable: str,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", unusable)
    check_told(as_process(lhp("db", "upgrade")), FAILED, unusable)
    done = run(start_lhp, *command, XDG_DATA_HOME=unusable)
    assert done.returncode in (FAILED, os.EX_TEMPFAIL)
    check_told(done, done.returncode, unusable)


def test_with_a_database_elsewhere_the_data_directory_may_be_read_only(
    start_lhp: Start, tmp_path: Path, unusable: str
) -> None:
    url = f"sqlite:///{tmp_path / 'lhp.sqlite'}"
    surroundings = {"LHP_DATABASE_URL": url, "HOME": unusable, "XDG_DATA_HOME": unusable}
    assert run(start_lhp, "db", "upgrade", **surroundings).returncode == 0
    process = start_lhp("serve", "--port", "0", **surroundings)
    served, _ = read_greeting(process)
    wait_until_ready(served)


# Damaged databases


def overwrite(path: Path, pages: Iterable[int]) -> None:
    """Fills these pages of a database that nobody uses with nonsense; the first page is 0."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [size] = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        for page in pages:
            # The first page keeps its header, without which it is no database at all.
            file.seek(page * size + (100 if page == 0 else 0))
            file.write(b"\xff" * (size - 100))


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[[str], str]:
    """Makes a database with a host in it, and damages the root page of a table: its URL."""
    path = tmp_path / "damaged.sqlite"

    def damage(table: str) -> str:
        url = f"sqlite:///{path}"
        schema.upgrade(url)
        with contextlib.closing(Store.open(url)) as store:
            store.register_host("anvil", PLATFORM, protocol=PROTOCOL, dtypes=["float32"])
        with contextlib.closing(sqlite3.connect(path)) as connection:
            query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
            [page] = connection.execute(query, [table]).fetchone() or [1]
        overwrite(path, [page - 1])
        return url

    return damage


SERVE = ["serve", "--port", "0", "--no-worker"]
DAMAGED = "can't be used: database disk image is malformed"


@pytest.mark.parametrize(
    ("table", "commands"),
    [
        # Read before anything else, and by every command.
        ("alembic_version", [["worker"], SERVE]),
        # Read once the service has begun to start.
        ("hosts", [SERVE]),
        ("platforms", [SERVE]),
    ],
)
def test_a_damaged_database_is_told_by_every_command_that_reads_it(
    start_lhp: Start,
    damaged: Callable[[str], str],
    table: str,
    commands: list[list[str]],
) -> None:
    url = damaged(table)
    for command in commands:
        done = run(start_lhp, *command, LHP_DATABASE_URL=url, LHP_HOST="anvil")
        code = CANNOT_RUN if command == ["worker"] else FAILED
        check_told(done, code, f"damaged.sqlite {DAMAGED}", "hint: the file is damaged")


@pytest.mark.parametrize("table", ["sqlite_master", "alembic_version"])
def test_a_damaged_database_is_told_and_not_upgraded(
    lhp: Lhp, damaged: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    monkeypatch.setenv("LHP_DATABASE_URL", damaged(table))
    check_told(
        as_process(lhp("db", "upgrade")),
        FAILED,
        f"damaged.sqlite {DAMAGED}",
        "hint: the file is damaged",
    )


def test_a_damaged_queue_of_jobs_may_be_moved_away(
    start_lhp: Start, lhp: Lhp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'lhp.sqlite'}"
    monkeypatch.setenv("LHP_DATABASE_URL", url)
    assert lhp("db", "upgrade").code == 0
    jobs = tmp_path / "lhp.jobs.sqlite"
    overwrite(jobs, range(1, 9))
    done = run(start_lhp, "worker", LHP_DATABASE_URL=url)
    check_told(done, CANNOT_RUN, f"lhp.jobs.sqlite {DAMAGED}", "move that file away")
    for path in tmp_path.glob("lhp.jobs.sqlite*"):
        path.unlink()
    assert lhp("db", "upgrade").code == 0


# Whatever else the system refuses


@pytest.mark.parametrize(
    ("error", "said", "hint"),
    [
        (PermissionError(13, "Permission denied", "/a/b"), "'/a/b' can't be used: Perm", "right"),
        (OSError(28, "No space left on device", "/a"), "'/a' can't be used: No space", "space"),
        (OSError(30, "Read-only file system", b"/a"), "'/a' can't be used: Read-only", "written"),
        (FileExistsError(17, "File exists", "/a", None, "/b"), "'/a' and '/b' can't", "see that"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "Resource temp", "ulimit -u"),
        (TimeoutError(), "TimeoutError", "see that"),
    ],
)
def test_what_the_system_refuses_is_told_with_path_and_hint(
    error: OSError, said: str, hint: str
) -> None:
    explained = explain(error, command="serve")
    assert isinstance(explained, MachineError)
    assert said in str(explained)
    assert hint in explained.hint


def test_what_a_database_refuses_is_told_with_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LHP_DATABASE_URL", "sqlite:////srv/lhp.sqlite")
    locked = explain(sqlite3.OperationalError("database is locked"), command="serve")
    assert isinstance(locked, StoreUnavailableError)
    assert "/srv/lhp.sqlite can't be used: database is locked" in str(locked)
    damaged = sqlite3.DatabaseError("database disk image is malformed")
    damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    assert isinstance(explain(damaged, command="serve"), StoreUnusableError)


def test_a_defect_stays_one() -> None:
    for defect in (ValueError("?"), KeyError("x"), BrokenPipeError(32, "Broken pipe")):
        assert explain(defect, command="serve") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody without an entry")
def test_a_user_without_an_entry_needs_none(service: StubService) -> None:
    def run_as_nobody(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            user=54321,
            env={"PATH": os.defpath, "LHP_URL": service.url},
            capture_output=True,
            text=True,
            cwd="/",
        )

    try:
        may_read = run_as_nobody("profiler_service").returncode == 1  # it has no __main__
    except PermissionError:
        may_read = False
    if not may_read:
        pytest.skip("such a user can't read this Python")
    done = run_as_nobody("profiler_service.cli", "hosts")
    assert (done.returncode, done.stderr) == (0, "")
    check_told(run_as_nobody("profiler_service.cli", "serve"), FAILED, "home directory isn't known")
