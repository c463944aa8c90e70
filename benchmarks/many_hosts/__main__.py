"""Counts connections and statements of idle workers, and times how soon a job starts.

    python -m benchmarks.many_hosts --out docs/results/many-hosts.md

Starts one PostgreSQL, one service and 50 workers whose latencies are made up. PostgreSQL logs every
statement, transactions' own included, for as long as they are counted; connections are counted once
a second. Then a sweep is asked for on one host after the other. A worker that ends is started
again, as its keeper would do it, and is told of. Prints a Markdown report. The exit
code is 0 if everything holds, 1 if not, 2 without a verdict.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg

from benchmarks.checked import publish
from benchmarks.many_hosts.fleet import AT_ONCE, PRESENT_S, Fleet, find_silence, name_host
from benchmarks.provenance import heading
from benchmarks.soak.checks import Check
from benchmarks.soak.machines import Postgres, Service, SoakError, run_service

MAX_CONNECTIONS = 1.0
MAX_STATEMENTS_HZ = 2.0
MAX_START_S = 1.0
"""What an idle worker may cost, and how soon its job must start."""
SETTLED_S = 15
"""How long the workers are left alone before counting: longer than a worker stays awake."""
START_LIMIT_S = 300


@dataclass(frozen=True, kw_only=True)
class Idle:
    """What the workers cost while nobody asked."""

    connections: float
    """The most at one moment, for each worker."""
    statements_hz: float
    """For each worker."""
    silent: tuple[float, str]
    """The longest that a host wasn't heard of, seconds, and which one."""


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60, help="how long to count")
    parser.add_argument("--jobs", type=int, default=20, help="how many sweeps to start")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report there, too")
    given = parser.parse_args()
    lines = heading("Many idle hosts", "benchmarks.many_hosts", "psycopg", "dbos", "sqlalchemy")
    try:
        with (
            run_service("hosts", "--no-worker", ready_s=START_LIMIT_S) as (
                folder,
                postgres,
                service,
            ),
            _running(Fleet(folder, postgres.url, given.workers)) as (fleet, started_s),
        ):
            time.sleep(SETTLED_S)
            fleet.tend()
            idle = _count(postgres, folder, fleet, given.seconds)
            starts_s = _start_jobs(postgres, service, fleet, given.jobs)
            ended = list(fleet.ended)
    except SoakError as error:
        print(f"no verdict: {error}", file=sys.stderr)
        return 2
    text = [
        f"{given.workers} workers on one PostgreSQL, {AT_ONCE} started at a time: all were at work"
        f" after {started_s:.0f} s. Then they were idle for {given.seconds:g} s, and"
        f" {len(starts_s)} sweeps were asked for, each on another host."
    ]
    return publish(
        given.out,
        lines,
        text,
        check(idle, starts_s, ended),
        starts_s=starts_s,
        started_s=started_s,
    )


@contextlib.contextmanager
def _running(fleet: Fleet) -> Iterator[tuple[Fleet, float]]:
    """The fleet, all of it at work, and the seconds that this took. Raises SoakError."""
    try:
        yield fleet, fleet.start(START_LIMIT_S)
    finally:
        fleet.stop()


def _count(postgres: Postgres, folder: Path, fleet: Fleet, seconds: float) -> Idle:
    """What the workers cost in the next `seconds`, less what the service costs."""
    workers = fleet.count
    log = folder / "database" / "log"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET log_line_prefix = '[%p %a] '")
        connection.execute("ALTER SYSTEM SET log_statement = 'all'")
        connection.execute("SELECT pg_reload_conf()")
        time.sleep(1)
        before = log.stat().st_size
        most, silent = 0, (0.0, "")
        end_s = time.monotonic() + seconds
        begun_s = time.monotonic()
        while time.monotonic() < end_s:
            most = max(
                most,
                _scalar(
                    connection,
                    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                    " AND pid <> pg_backend_pid() AND application_name <> 'service'",
                ),
            )
            silent = max(silent, find_silence(connection))
            time.sleep(1)
        lasted_s = time.monotonic() - begun_s
        own = _scalar(connection, "SELECT pg_backend_pid()")
        with log.open("rb") as lines:
            lines.seek(before)
            count = sum(_is_statement_of_worker(line, own) for line in lines)
        connection.execute("ALTER SYSTEM SET log_statement = 'none'")
        connection.execute("SELECT pg_reload_conf()")
    return Idle(connections=most / workers, statements_hz=count / lasted_s / workers, silent=silent)


def _is_statement_of_worker(line: bytes, own_pid: int) -> bool:
    """Whether a line of the log begins a statement of a worker."""
    prefix, _, text = line.partition(b"] LOG:  ")
    is_statement = text.startswith((b"statement:", b"execute "))
    pid, _, application = prefix.removeprefix(b"[").partition(b" ")
    return is_statement and application != b"service" and pid != str(own_pid).encode()


def _start_jobs(postgres: Postgres, service: Service, fleet: Fleet, jobs: int) -> list[float]:
    """From asking for each sweep until it was begun, by the database's clock. Raises SoakError."""
    starts_s = []
    for number in range(min(jobs, fleet.count)):
        fleet.tend()
        body = {
            "workload": "matmul",
            "axes": [{"first": 16, "last": 20}],
            "budget": 0.5,
            "host": name_host(number),
        }
        reply = httpx.post(f"{service.url}/sweeps", json=body, timeout=60, trust_env=False)
        if not reply.is_success:
            with psycopg.connect(postgres.url, autocommit=True) as connection:
                missing = fleet.describe_missing(connection)
            raise SoakError(
                f"the service refused a sweep: {reply.status_code} {reply.text}; {missing}"
            )
        starts_s.append(_wait_for_start(postgres, reply.json()["id"]))
    return starts_s


def _wait_for_start(postgres: Postgres, sweep_id: str) -> float:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        for _ in range(600):
            row = connection.execute(
                "SELECT extract(epoch FROM started_at - created_at) FROM sweeps WHERE id = %s",
                [sweep_id],
            ).fetchone()
            if row is not None and row[0] is not None:
                return float(row[0])
            time.sleep(0.1)
    raise SoakError("a sweep wasn't begun after a minute")


def check(idle: Idle, starts_s: list[float], ended: list[str]) -> list[Check]:
    """What must hold of idle workers, and of sweeps asked for then."""
    silent_s, silent_host = idle.silent
    return [
        Check(
            claim="no worker ends by itself",
            found="; ".join(ended) or "none",
            holds=not ended,
        ),
        Check(
            claim=f"no idle host is silent for {PRESENT_S:g} s",
            found=f"{silent_host} was for {silent_s:.1f} s",
            holds=silent_s < PRESENT_S,
        ),
        Check(
            claim=f"at most {MAX_CONNECTIONS:g} connection a worker",
            found=f"{idle.connections:.2f}",
            holds=idle.connections <= MAX_CONNECTIONS,
        ),
        Check(
            claim=f"at most {MAX_STATEMENTS_HZ:g} statements a second and worker",
            found=f"{idle.statements_hz:.2f}",
            holds=idle.statements_hz <= MAX_STATEMENTS_HZ,
        ),
        Check(
            claim=f"a sweep is begun within {MAX_START_S:g} s",
            found=f"median {statistics.median(starts_s):.2f} s, longest {max(starts_s):.2f} s",
            holds=max(starts_s) <= MAX_START_S,
        ),
    ]


def _scalar(connection: psycopg.Connection[tuple[object, ...]], query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(str(row[0]))


if __name__ == "__main__":
    sys.exit(main())
