"""What `lhp` and `lhp-train` do if a standard stream is closed, full or narrow."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from profiler_service.standard_streams import SIMILAR
from profiler_service.wire import CurvePage
from tests.cli.stub import ANSWER, HEADER, HOST, StubService
from tests.processes.fake_worker import wait_until
from tests.processes.test_serve import find_children

ALL_CLOSED = "<&- >&- 2>&-"
CLOSED = ["<&-", ">&-", "2>&-", ALL_CLOSED]
"""`make_safe` opens them before a command begins. So each alone is tried with one command, and all
together with the others."""
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def command_line(*arguments: str, redirect: str, module: str) -> list[str]:
    """The command line of a shell that becomes `lhp ARGUMENTS… REDIRECT`."""
    program = [sys.executable, "-m", module, *arguments]
    return ["sh", "-c", f'exec "$@" {redirect}', "sh", *program]


@pytest.fixture
def lhp_with(service: StubService, tmp_path: Path) -> Run:
    """Runs `lhp ARGUMENTS… REDIRECT` (or `module`'s command) against the stub."""

    def run(
        *arguments: str, redirect: str = "", module: str = "profiler_service.cli", **settings: str
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            command_line(*arguments, redirect=redirect, module=module),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            cwd=tmp_path,
            env=os.environ | {"LHP_URL": service.url} | settings,
        )
        for text in (done.stdout, done.stderr):
            assert b"Traceback" not in text and b"Exception ignored" not in text
        return done

    return run


# Closed


@pytest.mark.parametrize(
    ("command", "redirect"),
    [
        *(("hosts", redirect) for redirect in CLOSED),
        ("curves --json", ">&-"),  # writes bytes
        ("curves --json", ALL_CLOSED),
        ("--help", ALL_CLOSED),
    ],
)
def test_a_command_works_with_closed_streams(lhp_with: Run, command: str, redirect: str) -> None:
    done = lhp_with(*command.split(), redirect=redirect)
    assert done.returncode == 0
    assert bool(done.stdout) == (">&-" not in redirect.replace("2>&-", ""))


@pytest.mark.parametrize(
    ("command", "redirect", "code"),
    [
        ("plot missing", "<&-", 1),
        ("plot missing", "2>&-", 1),  # where it would be told
        ("plot missing", ALL_CLOSED, 1),
        ("query x --json", ">&-", 2),  # where it would be told, too
        ("query x --json", ALL_CLOSED, 2),
    ],
)
def test_an_error_ends_with_its_exit_code_though_streams_are_closed(
    lhp_with: Run, command: str, redirect: str, code: int
) -> None:
    assert lhp_with(*command.split(), redirect=redirect).returncode == code


@pytest.mark.parametrize(
    ("command", "redirect", "code"),
    [
        ("report missing", ALL_CLOSED, 1),
        ("report missing", "2>/dev/full", 1),
        ("--help", ALL_CLOSED, 0),
        ("--help", ">/dev/full", 1),
        ("--help", "2>/dev/full", 0),
    ],
)
def test_lhp_train_ends_without_a_traceback(
    lhp_with: Run, command: str, redirect: str, code: int
) -> None:
    done = lhp_with(*command.split(), redirect=redirect, module="trainer_client.cli")
    assert done.returncode == code


def find_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def streams_of(pid: int) -> list[str]:
    """What the standard streams of the process are, by descriptor."""
    return [str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in range(3)]


def is_ready(url: str) -> bool:
    """Whether the service at `url` is ready."""
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("redirect", [ALL_CLOSED, ">/dev/full 2>/dev/full"])
def test_the_service_and_its_worker_run_and_no_socket_is_a_standard_stream(
    tmp_path: Path, redirect: str
) -> None:
    port = find_port()
    arguments = ["serve", "--port", str(port)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LHP_")}
    environment |= {name: os.environ[name] for name in ("LHP_PARTITION", "LHP_CHILDREN")}
    with subprocess.Popen(
        command_line(*arguments, redirect=redirect, module="profiler_service.cli"),
        cwd=tmp_path,
        env=environment | {"XDG_DATA_HOME": str(tmp_path)},
    ) as service:
        try:
            wait_until(lambda: is_ready(f"http://127.0.0.1:{port}"))
            wanted = "/dev/full" if "full" in redirect else "/dev/null"
            assert streams_of(service.pid)[1:] == [wanted, wanted]
            pids = [service.pid, *find_children(service.pid)]
            pids += [child for pid in pids[1:] for child in find_children(pid)]
            assert len(pids) >= 2
            assert not [s for pid in pids for s in streams_of(pid) if s.startswith("socket:")]
            service.send_signal(signal.SIGTERM)
            assert service.wait(30) == 0
        finally:
            service.kill()


# Full


@pytest.mark.parametrize("command", ["hosts", "curves --json", "query 1197,317", "--help"])
def test_what_cant_be_printed_is_an_error(
    lhp_with: Run, service: StubService, command: str
) -> None:
    service.reply("GET /lhp", ANSWER)
    done = lhp_with(*command.split(), redirect=">/dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith(
        b"error: can't write to standard output: No space left on device\nhint: "
    )


def test_a_full_stderr_changes_nothing(lhp_with: Run, service: StubService) -> None:
    done = lhp_with("hosts", redirect="2>/dev/full")
    assert (done.returncode, b"anvil" in done.stdout) == (0, True)
    done = lhp_with("plot", "missing", redirect="2>/dev/full")
    assert done.returncode == 1


def test_output_waits_for_a_reader_though_the_pipe_doesnt_block(
    service: StubService, tmp_path: Path
) -> None:
    # A pipe holds 64 KiB; the page has more.
    page = CurvePage(items=[HEADER] * 200, next_cursor=None)
    service.reply("GET /curves", page)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with (
        open(reading, "rb") as pipe,  # noqa: PTH123  a descriptor
        subprocess.Popen(
            [sys.executable, "-m", "profiler_service.cli", "curves", "--json"],
            stdout=writing,
            stderr=subprocess.PIPE,
            env=os.environ | {"LHP_URL": service.url},
            cwd=tmp_path,
        ) as process,
    ):
        os.close(writing)
        assert select.select([reading], [], [], 60)[0]
        printed = pipe.read()
        assert process.wait(60) == 0
    assert CurvePage.model_validate_json(printed) == page


# Narrow


@pytest.mark.parametrize(
    ("settings", "encoding"),
    [
        (ASCII, "ascii"),
        ({"PYTHONIOENCODING": "ascii"}, "ascii"),
        ({"PYTHONIOENCODING": "latin-1"}, "latin-1"),
    ],
    ids=["C locale", "ascii", "latin-1"],
)
def test_characters_that_the_terminal_lacks_become_similar_ones(
    lhp_with: Run, service: StubService, settings: dict[str, str], encoding: str
) -> None:
    service.reply("GET /lhp", ANSWER)
    done = lhp_with("query", "1197,317", **settings)
    assert done.returncode == 0
    wanted = "116 us instead of 120 us - linear["
    if encoding == "latin-1":
        wanted = "116 µs instead of 120 µs · linear["
    assert wanted in done.stdout.decode(encoding)
    # No race has undecided points, and so a dash.
    service.reply("GET /curves", CurvePage(items=[HEADER], next_cursor=None))
    header = HEADER.model_copy(update={"mode": "race", "undecided": None, "redundancy": None})
    service.reply("GET /curves", CurvePage(items=[header], next_cursor=None))
    done = lhp_with("curves", **settings)
    assert done.stdout.decode(encoding).split().count("-") == 2
    assert lhp_with("--help", **settings).returncode == 0


def test_json_keeps_every_character_on_a_narrow_terminal(
    lhp_with: Run, service: StubService
) -> None:
    service.reply("GET /hosts", [HOST.model_copy(update={"name": "µ→"})])
    for settings in (ASCII, {"PYTHONIOENCODING": "latin-1"}):
        done = lhp_with("hosts", "--json", **settings)
        assert json.loads(done.stdout.decode("ascii"))[0]["name"] == "µ→"
    assert "µ→".encode() in lhp_with("hosts", "--json").stdout


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        ("query 1,\udcff", {}),
        ("query 1,\udcff", ASCII),
        ("curves --host \udce9", ASCII),
        ("plot \udcff", ASCII),
    ],
    ids=["as here", "C locale", "host", "curve"],
)
def test_arguments_that_are_no_text_are_a_usage_error(
    lhp_with: Run, command: str, settings: dict[str, str]
) -> None:
    done = lhp_with(*command.split(), **settings)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
    assert b"\nhint: " in done.stderr


def test_what_stands_for_a_character_is_ascii() -> None:
    assert all(text.isascii() for text in SIMILAR.values())
