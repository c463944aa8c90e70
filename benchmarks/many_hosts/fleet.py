"""Many workers on one database, each kept running as its keeper would do it.

A worker that can't use the database while it starts ends, and is started again. What it said is
kept. Shares no code with the service.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from benchmarks.soak.machines import SoakError, kill

SIMULATED = (sys.executable, "-m", "benchmarks.many_hosts.simulated")
AT_ONCE = 2
"""So many workers start at a time: the machine may have few processors."""
AT_WORK_S = 6.0
"""A host that was heard of so long after it registered is at work: workers tell every 5 s."""
PRESENT_S = 15.0
"""A host that was silent for longer is away: `LHP_PRESENCE_S`."""
MAX_STARTS = 3
LAST_LINES = 5
STOP_LIMIT_S = 20.0


@dataclass
class _Worker:
    name: str
    log: Path
    process: subprocess.Popen[bytes]
    starts: int = 1


@dataclass
class Fleet:
    """`count` workers, hosts `host-00` and so on. Call `tend` often: it starts again what ended."""

    folder: Path
    database_url: str
    count: int
    command: Sequence[str] = SIMULATED
    ended: list[str] = field(default_factory=list)
    """What is known of each worker that ended: its host, its exit code, its last words."""
    _workers: list[_Worker] = field(default_factory=list)

    def start(self, limit_s: float) -> float:
        """Seconds until all were at work. Raises SoakError."""
        begun_s = time.monotonic()
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            while (num_at_work := _count(connection, AT_WORK_S)) < self.count:
                if time.monotonic() - begun_s > limit_s:
                    raise SoakError(
                        f"{num_at_work} of {self.count} hosts are at work after {limit_s:g} s:"
                        f" {self.describe_missing(connection)}"
                    )
                self.tend()
                num_starting = len(self._workers) - _count(connection, 0)
                if len(self._workers) < self.count and num_starting < AT_ONCE:
                    self._workers.append(self._launch(name_host(len(self._workers))))
                time.sleep(0.1)
        return time.monotonic() - begun_s

    def tend(self) -> None:
        """Starts again each worker that has ended. Raises SoakError for one that ends each time."""
        for worker in self._workers:
            code = worker.process.poll()
            if code is None:
                continue
            said = " / ".join(_read_last_lines(worker.log))
            self.ended.append(f"{worker.name} ended with {code}: {said}")
            if worker.starts == MAX_STARTS:
                raise SoakError("a worker ends whenever it is started: " + self.ended[-1])
            worker.process = self._launch(worker.name).process
            worker.starts += 1

    def stop(self) -> None:
        """Ends all of them."""
        for worker in self._workers:
            worker.process.terminate()
        deadline_s = time.monotonic() + STOP_LIMIT_S
        for worker in self._workers:
            try:
                worker.process.wait(timeout=max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                kill(worker.process.pid)
                worker.process.wait()

    def describe_missing(self, connection: psycopg.Connection[tuple[object, ...]]) -> str:
        """The hosts that aren't at work, each with its process's state and last words."""
        found = connection.execute(
            "SELECT name, extract(epoch FROM now() - last_seen_at)::float FROM hosts"
        ).fetchall()
        silent_s = {str(name): float(str(silence)) for name, silence in found}
        told = []
        for worker in self._workers:
            silence_s = silent_s.get(worker.name)
            if silence_s is not None and silence_s <= PRESENT_S:
                continue
            state = "never heard of" if silence_s is None else f"silent for {silence_s:.0f} s"
            code = worker.process.poll()
            runs = "runs" if code is None else f"ended with {code}"
            said = " / ".join(_read_last_lines(worker.log))
            told.append(f"{worker.name} {state}, its process {runs}, and said last: {said}")
        return "; ".join([*told, *self.ended]) or "each was heard of lately"

    def _launch(self, name: str) -> _Worker:
        environment = {
            "LHP_DATABASE_URL": self.database_url,
            "LHP_HOST": name,
            # Not kept waiting by another worker of this machine.
            "LHP_PARTITION": f"many-hosts-{os.getpid()}-{name}",
        }
        path = self.folder / f"{name}.log"
        with path.open("ab") as log:
            process = subprocess.Popen(
                self.command, env=os.environ | environment, stdout=log, stderr=log
            )
        return _Worker(name=name, log=path, process=process)


def _count(connection: psycopg.Connection[tuple[object, ...]], after_s: float) -> int:
    """The present hosts that were heard of at least so long after they registered."""
    row = connection.execute(
        "SELECT count(*) FROM hosts WHERE name LIKE 'host-%%'"
        " AND last_seen_at >= registered_at + make_interval(secs => %s)"
        " AND last_seen_at > now() - make_interval(secs => %s)",
        [after_s, PRESENT_S],
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


def find_silence(connection: psycopg.Connection[tuple[object, ...]]) -> tuple[float, str]:
    """Seconds since the host was heard of that has been silent for longest, and its name."""
    row = connection.execute(
        "SELECT extract(epoch FROM clock_timestamp() - last_seen_at)::float, name FROM hosts"
        " WHERE name LIKE 'host-%' ORDER BY last_seen_at LIMIT 1"
    ).fetchone()
    assert row is not None
    return float(str(row[0])), str(row[1])


def name_host(number: int) -> str:
    """The name of the host with that number."""
    return f"host-{number:02}"


def _read_last_lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()[-LAST_LINES:]
