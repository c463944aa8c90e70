"""What the command line's tests share: a stub service, and ways to run `lhp` against it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from profiler_service.cli.app import run
from tests.cli.advised_models import MODELS
from tests.cli.stub import StubService


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def service() -> Iterator[StubService]:
    """A stub service that listens."""
    stub = StubService()
    stub.start()
    yield stub
    stub.stop()


Lhp = Callable[..., Finished]


@pytest.fixture
def lhp(
    service: StubService,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Lhp:
    """Runs `lhp ARGUMENTS…` in this process, in an empty directory, against the stub."""
    monkeypatch.setenv("LHP_URL", service.url)
    monkeypatch.chdir(tmp_path)

    def run_here(*arguments: str) -> Finished:
        code = run(arguments)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        assert "\x1b" not in out + err  # no terminal here, so no control codes
        return Finished(code=code, out=out, err=err)

    return run_here


@pytest.fixture
def models(lhp: Lhp, tmp_path: Path) -> str:
    """Name of a module of models in the working directory, new for each test."""
    name = f"advised_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    return name


@pytest.fixture
def start_lhp(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `lhp ARGUMENTS…` as a process of its own, with `LHP_*` and `typed` as given."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str, typed: str | None = None, **settings: str) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LHP_")}
        environment |= {name: os.environ[name] for name in ("LHP_PARTITION", "LHP_CHILDREN")}
        environment["XDG_DATA_HOME"] = str(tmp_path / "data")
        process = subprocess.Popen(
            [sys.executable, "-m", "profiler_service.cli", *arguments],
            stdin=subprocess.DEVNULL if typed is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | settings,
            cwd=tmp_path,
        )
        processes.append(process)
        if typed is not None and process.stdin is not None:
            process.stdin.write(typed)
            process.stdin.close()
            process.stdin = None  # otherwise, `communicate` would write to it, too
        return process

    yield start
    for process in processes:
        with process:
            process.kill()


@pytest.fixture
def real_service(start_lhp: Callable[..., subprocess.Popen[str]]) -> str:
    """The address of a service that measures, with an empty database of its own."""
    process = start_lhp("serve", "--port", "0")
    assert process.stdout is not None
    found = re.match(r"listening on (http://\S+:\d+),", process.stdout.readline())
    assert found
    return found[1]
