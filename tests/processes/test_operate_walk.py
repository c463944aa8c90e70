"""The guide to operating, command by command, with real processes on PostgreSQL.

Only the devices are simulated. What isn't `lhp` in the guide (installing, making databases) is done
by the fixtures.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from profiler_service.processes.exit_codes import DONE, FAILED
from tests.conftest import new_database
from tests.processes.fake_worker import PATIENCE_S, wait_until
from tests.storage.test_backup import programs

__all__ = ["programs"]

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "operate.md"
ROLE = "lhp_walk"
DIFFERS = re.compile(r"…|(?:service\.example|0\.0\.0\.0|127\.0\.0\.1):\d+|\b[0-9a-f]{32}\b")
"""What is different on each machine, as the guide writes it."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command of the guide, and the lines that it shows below."""

    command: str
    shown: Sequence[str]

    def of(self, host: str) -> Step:
        """The same on another host than the guide's."""
        return replace(self, shown=[line.replace("gpu-a", host) for line in self.shown])


def read_steps(text: str) -> Iterator[Step]:
    """The guide's `lhp` commands, in order, without comments and what a shell does with them."""
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.M | re.S):
        for typed, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M):
            command = re.sub(r"\s+# .*", "", typed)
            found = re.fullmatch(r"(?:export \w+=\$\(|\w+=\S+ |echo \S+ \| )?(lhp .*?)\)?", command)
            if found is not None:
                yield Step(command=found[1], shown=shown.splitlines())


def matches(shown: str, said: str) -> bool:
    """Whether it is the same but for what differs, and for the width of columns."""
    parts = DIFFERS.split(" ".join(shown.split()))
    return re.fullmatch(".*".join(map(re.escape, parts)), " ".join(said.split())) is not None


def find_missing(shown: Sequence[str], said: str) -> list[str]:
    """The guide's lines that weren't said, in the guide's order. Other lines may be between."""
    lines = iter(said.splitlines())
    return [each for each in shown if not any(matches(each, line) for line in lines)]


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command that was started."""

    step: Step
    process: subprocess.Popen[bytes]
    output: Path

    def has_shown(self) -> bool:
        assert self.process.poll() is None, self.output.read_text()
        return not find_missing(self.step.shown, self.output.read_text())

    def stop(self) -> None:
        """Ends it in good order."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == DONE, self.output.read_text()


class Walk:
    """Runs the guide's commands, each of which must be the next one there."""

    def __init__(self, directory: Path, cleanup: ExitStack) -> None:
        self.steps = read_steps(GUIDE.read_text())
        self._directory = directory
        self._cleanup = cleanup
        self._count = 0

    def start(
        self,
        command: str,
        settings: dict[str, str],
        *,
        step: Step,
        module: str,
        typed: str = "",
    ) -> Command:
        assert matches(step.command, f"lhp {command}"), step.command
        self._count += 1
        output = self._directory / f"{self._count}.output"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LHP_")}
        kept |= {"LHP_PARTITION": os.environ["LHP_PARTITION"], "PYTHONPATH": str(ROOT)}
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *shlex.split(command)],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**kept, "XDG_DATA_HOME": str(self._directory / "data"), **settings},
                cwd=self._directory,
            )
        assert process.stdin is not None
        process.stdin.write(typed.encode())
        process.stdin.close()
        self._cleanup.callback(process.wait)
        self._cleanup.callback(process.kill)
        return Command(step=step, process=process, output=output)

    def run(self, command: str, settings: dict[str, str]) -> str:
        """What the command says, which is what the guide shows."""
        step = next(self.steps)
        started = self.start(command, settings, step=step, module="profiler_service.cli")
        code = started.process.wait(PATIENCE_S)
        said = started.output.read_text()
        fails = any(line.startswith("error: ") for line in step.shown)
        assert (code, find_missing(step.shown, said)) == (FAILED if fails else DONE, []), said
        return said

    def serve(self, command: str, settings: dict[str, str]) -> tuple[Command, str]:
        """A service that listens, and its port."""
        step = next(self.steps)
        started = self.start(command, settings, step=step, module="profiler_service.cli")
        wait_until(started.has_shown)
        return started, find(r"listening on http://[\d.]+:(\d+),", started.output.read_text())

    def measure(
        self, command: str, settings: dict[str, str], *, step: Step, typed: str = ""
    ) -> Command:
        """A worker on a simulated machine."""
        module = "tests.processes.simulated_lhp"
        return self.start(command, settings, step=step, module=module, typed=typed)


def find(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.M)
    assert found is not None, text
    return found[1]


@pytest.fixture
def urls(postgres_url: str) -> Iterator[tuple[str, str]]:
    """Two empty databases of a role that the guide makes: it creates roles, and is no superuser."""
    engine = sa.create_engine(sa.make_url(postgres_url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {ROLE} LOGIN CREATEROLE")
    engine.dispose()
    options = f"OWNER {ROLE}"
    with new_database(postgres_url, options) as one, new_database(postgres_url, options) as two:
        first, second = (sa.make_url(url).set(username=ROLE) for url in (one, two))
        yield first.render_as_string(False), second.render_as_string(False)


def test_the_guide_leads_from_an_empty_database_to_a_restored_fleet(
    urls: tuple[str, str], tmp_path: Path
) -> None:
    names = ("gpu-a", "gpu-b", "gpu-c")
    machines = {
        name: {
            "LHP_HOST": name,
            "LHP_DEVICE": "cpu",
            # As on another machine, its lock isn't seen by others.
            "LHP_PARTITION": f"{os.environ['LHP_PARTITION']} {name}",
            "XDG_DATA_HOME": str(tmp_path / name),
            "SIMULATED_MACHINE": name,
        }
        for name in names
    }
    service = {"LHP_DATABASE_URL": urls[0], "LHP_PORT": "0"}
    with ExitStack() as cleanup:
        walk = Walk(tmp_path, cleanup)

        # Start the service.
        walk.run("db upgrade", service)
        service["LHP_TOKEN"] = find(r"^(lhp_\S+)$", walk.run("tokens bootstrap", service))
        serving, service["LHP_PORT"] = walk.serve("serve --no-worker --listen 0.0.0.0", service)
        service["LHP_URL"] = f"http://127.0.0.1:{service['LHP_PORT']}"

        # Let three machines join.
        said = walk.run("hosts add --label pool=train --approve --reusable", service)
        key, pasted = find(r"^echo (\S+) ", said), find(r"\| lhp (join \S+)$", said)
        step = next(walk.steps)
        workers = {
            name: walk.measure(pasted, machine, step=step.of(name), typed=f"{key}\n")
            for name, machine in machines.items()
        }
        wait_until(lambda: all(each.has_shown() for each in workers.values()))
        walk.run("hosts", service)
        key_id = find(r"^([0-9a-f]{32}) ", walk.run("hosts keys", service))
        walk.run(f"hosts keys revoke {key_id}", service)

        # Ask. By the simulated device, 1197,317 costs 1.1² and 1200,320 (384000/379449)⁴ = 1.0489
        # of the same: it is 1.21 / 1.0489 - 1 = 15.4 % faster. The next best, 1208,320, is not
        # uneven either, and (386560/384000)⁴ - 1 = 2.7 % slower.
        faster = find(
            r"^1200,320 +([\d.]+) % faster", walk.run("query 1197,317 --label pool=train", service)
        )
        assert float(faster) == pytest.approx(15.4, abs=1)
        walk.run("sweep matmul 256:288 --label pool=train", service)
        walk.run("tokens create trainer --scope measure", service)

        # Take a machine out of work.
        def list_sweeps() -> list[str]:
            bearer = {"authorization": f"Bearer {service['LHP_TOKEN']}"}
            found = httpx.get(f"{service['LHP_URL']}/sweeps?host=gpu-c", headers=bearer)
            return [each["id"] for each in found.json()["items"]]

        before = list_sweeps()
        walk.run("hosts drain gpu-c", service)
        assert "gpu-c" not in walk.run("sweep matmul 300:310 --label pool=train", service)
        walk.run("query 640,320 --host gpu-c", service)
        assert list_sweeps() == before != []
        workers["gpu-c"].stop()

        # Upgrade: the database, the service, a worker. The others go on.
        walk.run("db backup before-upgrade.backup", service)
        walk.run("db upgrade", service)
        serving.stop()
        walk.serve("serve --no-worker --listen 0.0.0.0", service)
        workers["gpu-c"] = walk.measure("worker", machines["gpu-c"], step=next(walk.steps))
        wait_until(workers["gpu-c"].has_shown)
        walk.run("hosts approve gpu-c", service)
        assert all(each.has_shown() for each in workers.values())

        # Back up, and restore into an empty database, for which no host works.
        walk.run("db backup monday.backup", service)
        restored = {**service, "LHP_DATABASE_URL": urls[1], "LHP_PORT": "0"}
        walk.run("db restore monday.backup", restored)
        _, port = walk.serve("serve --no-worker", restored)
        url = f"http://127.0.0.1:{port}"
        walk.run(f"query 1197,317 --label pool=train --url {url}", restored)
        assert list(walk.steps) == []
        for each in workers.values():
            each.stop()


def test_a_line_that_isn_t_said_in_its_place_is_missing() -> None:
    shown = ["host gpu-a is …", "on http://service.example:8000"]
    assert find_missing(shown, "host  gpu-a is ready\nmore\non http://127.0.0.1:9\n") == []
    assert find_missing(shown, "on http://127.0.0.1:9\nhost gpu-a is ready\n") == shown[1:]
    assert find_missing(shown, "host gpu-b is ready\n") == shown


def test_commands_are_read_as_a_shell_runs_them() -> None:
    text = "```console\n$ sudo x\n$ export A=$(lhp one two)  # why\nsaid\n$ B=1 lhp three\n```\n"
    assert [(each.command, list(each.shown)) for each in read_steps(text)] == [
        ("lhp one two", ["said"]),
        ("lhp three", []),
    ]
