"""The wheel of `dist/` in empty environments: the base asks, `[server]` serves, neither has torch.

Not a part of `make test`: it installs from the package index. `make wheel-test` builds the wheel
and runs this file.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """An environment that has the wheel, and an empty directory to work in."""

    directory: Path

    def run(self, name: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Runs the environment's command `name` to its end."""
        return subprocess.run(
            [self.directory / "bin" / name, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.directory,
            env=self.variables(**settings),
        )

    def variables(self, **settings: str) -> dict[str, str]:
        """Variables of a process that knows nothing of the project's tree."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LHP_", "PYTHON"))}
        return kept | {"XDG_DATA_HOME": str(self.directory / "data")} | settings

    def packages(self) -> dict[str, str]:
        """Versions of what is installed, by normalised name."""
        listed = self.pip("list", "--format", "json")
        return {normalise(each["name"]): each["version"] for each in json.loads(listed)}

    def pip(self, *arguments: str) -> str:
        """What pip prints. It is ours, so that the environment needn't have one."""
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
        done = subprocess.run(
            [*pip, "--python", str(self.directory), *arguments], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def normalise(name: str) -> str:
    """The name of a distribution as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The one wheel in `dist/`."""
    (built,) = (ROOT / "dist").glob("*.whl")
    return built


def install(directory: Path, requirement: str) -> Environment:
    """A new environment with that installed, every version as the project pins it."""
    venv.create(directory, symlinks=True)
    environment = Environment(directory=directory)
    environment.pip(
        *("install", "--quiet", "--no-compile", "--constraint", str(CONSTRAINTS)), requirement
    )
    return environment


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel alone."""
    return install(tmp_path_factory.mktemp("base"), str(wheel))


@pytest.fixture(scope="module")
def server(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and its extra `server`."""
    return install(tmp_path_factory.mktemp("server"), f"{wheel}[server]")


@pytest.fixture(scope="module")
def url(server: Environment) -> Iterator[str]:
    """The address of a service that runs from the wheel, without any worker."""
    with subprocess.Popen(
        [server.directory / "bin" / "lhp", "serve", "--no-worker", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=server.directory,
        env=server.variables(),
    ) as process:
        assert process.stdout is not None
        heard = re.match(r"listening on (\S+),", process.stdout.readline())
        try:
            assert heard is not None, process.communicate(timeout=30)[1]
            yield heard[1]
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Traceback" not in err


def test_the_wheel_has_what_it_needs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        described = archive.read(metadata).decode()
        licence = archive.read(metadata.replace("METADATA", "licenses/LICENSE"))
    assert "Name: lhp-profiler\n" in described
    assert "License-Expression: Apache-2.0\n" in described
    assert licence == (ROOT / "LICENSE").read_bytes()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"profiler_service", "trainer_client", metadata.partition("/")[0]}
    ours = {
        str(path.relative_to(ROOT))
        for package in ("profiler_service", "trainer_client")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    ours |= {
        f"profiler_service/{path.relative_to(ROOT)}" for path in (ROOT / "migrations").rglob("*.py")
    }
    assert {name for name in names if ".dist-info/" not in name} == ours


@pytest.mark.parametrize("name", ["base", "server"])
def test_every_package_is_pinned_and_none_is_torch(
    name: str, request: pytest.FixtureRequest
) -> None:
    installed = request.getfixturevalue(name).packages()
    pins = dict(line.split("==") for line in CONSTRAINTS.read_text().splitlines() if "==" in line)
    pinned = {normalise(each): version for each, version in pins.items()}
    del installed["lhp-profiler"]
    assert {each: pinned.get(each) for each in installed} == installed
    unwanted = {"torch", "matplotlib"}
    if name == "base":
        unwanted |= {"numpy", "sqlalchemy", "fastapi", "pyarrow", "dbos", "jinja2", "plotly"}
    assert not unwanted & set(installed)


def test_the_base_says_its_version(base: Environment, wheel: Path) -> None:
    assert base.run("lhp", "--version").stdout == f"lhp {wheel.name.split('-')[1]}\n"


def test_the_base_says_what_the_rest_needs(base: Environment) -> None:
    for name, argument, command in (
        ("lhp", "serve", "pip install 'lhp-profiler[server]'"),
        ("lhp", "plot", "pip install 'lhp-profiler[plot]'"),
        ("lhp-train", "estimate", "pip install 'lhp-profiler[trainer]'"),
    ):
        done = base.run(name, argument)
        assert done.returncode == 1
        error, hint = done.stderr.splitlines()
        assert error.endswith("which isn't installed")
        assert hint == f"hint: {command}"


def test_without_torch_nothing_measures_and_says_why(server: Environment) -> None:
    done = server.run("lhp", "worker")
    assert done.returncode == 78
    assert "error: measuring needs torch" in done.stderr
    assert "hint: pip install 'lhp-profiler[measure]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_server_serves(url: str, wheel: Path) -> None:
    with httpx.Client(base_url=url, trust_env=False) as http:
        assert http.get("/healthz").json()["status"] == "ok"
        assert http.get("/docs").status_code == 200
        assert http.get("/openapi.json").json()["info"]["version"] == wheel.name.split("-")[1]
        assert http.get("/curves").json()["items"] == []
        problem = http.get("/lhp", params={"dims": "8,8", "wait": 0})
    # Nobody has registered to measure.
    assert problem.status_code in (404, 503)
    assert problem.headers["content-type"].startswith("application/problem+json")
    assert problem.json()["hint"]


@pytest.mark.parametrize("name", ["base", "server"])
def test_a_question_gets_the_services_own_error(
    name: str, url: str, request: pytest.FixtureRequest
) -> None:
    environment: Environment = request.getfixturevalue(name)
    with httpx.Client(base_url=url, trust_env=False) as http:
        problem = http.get("/lhp", params={"dims": "8,8", "wait": 0}).json()
    done = environment.run("lhp", "query", "8,8", "--wait", "0", LHP_URL=url)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {problem['detail']}\nhint: ")
    assert "Traceback" not in done.stderr


def test_the_base_asks_from_python(base: Environment, url: str) -> None:
    program = (
        "from profiler_service import LhpError, ServiceClient\n"
        "from trainer_client.oracle.http import HttpLatencyOracle\n"
        "def ask(question):\n"
        "    try:\n"
        "        question()\n"
        "    except LhpError as error:\n"
        "        print(type(error).__name__, error.hint)\n"
        "with HttpLatencyOracle(URL, max_wait_s=2) as oracle:\n"
        "    ask(lambda: oracle.query((8, 8)))\n"
        "with ServiceClient(URL) as client:\n"
        "    ask(lambda: client.ask_lhp({'dims': '8,8'}, wait_s=0))\n"
    )
    done = base.run("python", "-c", program.replace("URL", repr(url)))
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"(\w+Error \S.*\n){2}", done.stdout)
