"""Kills the service's processes and its database at random under load, and checks what is left.

    python -m benchmarks.soak --kills 100 --out docs/results/soak.md

Prints a Markdown report. The exit code is 0 if everything holds, 1 if not, 2 without a verdict.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg

from benchmarks.provenance import heading
from benchmarks.soak.checks import Check, batch_counts, check_database, count_open
from benchmarks.soak.load import Client, Seen
from benchmarks.soak.machines import Postgres, Service, SoakError, kill, run_service

TARGETS = ("child", "child", "child", "worker", "worker", "serve", "serve", "database", "backend")
"""What is killed, each as often as it is listed."""
PAUSE_S = (2.0, 12.0)
"""Shortest and longest time between two kills."""
OUTAGE_S = (0.2, 6.0)
"""Shortest and longest time that the database is away."""
RECOVERY_LIMIT_S = 120
IDLE_LIMIT_S = 120
"""How long open sweeps may be without one that ends."""
NUM_CLIENTS = 6


@dataclass(kw_only=True)
class Course:
    """What happened."""

    kills: Counter[str] = field(default_factory=Counter)
    recovery_s: list[float] = field(default_factory=list)
    """From the last kill of a series until the service was ready, at the times it was tried."""
    lost_batches: list[str] = field(default_factory=list)
    """Sweeps whose number of kept batches fell."""
    lasted_s: float = 0
    """Of the kills alone."""


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="how many processes to kill")
    parser.add_argument("--seed", type=int, default=1, help="of the kills and of the requests")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report there, too")
    given = parser.parse_args()
    lines = heading("Random kills under load", "benchmarks.soak", "psycopg", "dbos", "torch")
    try:
        with run_service("soak", ready_s=RECOVERY_LIMIT_S) as (_, postgres, service):
            course, seen = _kill_at_random(postgres, service, given.kills, given.seed)
            checks = [*_settle(postgres, service), *_check(postgres, service, course, seen)]
            if not all(check.holds for check in checks):
                print(f"the service's log is kept: {service.keep_log()}", file=sys.stderr)
    except SoakError as error:
        print(f"no verdict: {error}", file=sys.stderr)
        return 2
    report = "\n".join([*lines, *_report(course, seen, checks)])
    print(report)
    if given.out is not None:
        given.out.write_text(report + "\n")
    return 0 if all(check.holds for check in checks) else 1


def _kill_at_random(
    postgres: Postgres, service: Service, num_kills: int, seed: int
) -> tuple[Course, Seen]:
    course, seen, stop = Course(), Seen(), threading.Event()
    clients = [
        threading.Thread(target=Client(service.url, seen, seed + number).run, args=(stop,))
        for number in range(NUM_CLIENTS)
    ]
    for thread in clients:
        thread.start()
    chooser = random.Random(seed)
    before: dict[str, int] = {}
    begun_s = time.monotonic()
    try:
        while course.kills.total() < num_kills:
            for _ in range(chooser.randint(1, 4)):  # several before it has recovered
                time.sleep(chooser.uniform(*PAUSE_S))
                _kill(chooser.choice(TARGETS), postgres, service, chooser, course)
                service.start()
            course.recovery_s.append(service.wait_until_ready(RECOVERY_LIMIT_S))
            with contextlib.suppress(psycopg.OperationalError):
                now = batch_counts(postgres.url)
                course.lost_batches += [s for s, count in before.items() if now.get(s, 0) < count]
                before = now
    finally:
        stop.set()
        for thread in clients:
            thread.join()
    course.lasted_s = time.monotonic() - begun_s
    return course, seen


def _kill(
    target: str, postgres: Postgres, service: Service, chooser: random.Random, course: Course
) -> None:
    if target == "database":
        postgres.kill()
        time.sleep(chooser.uniform(*OUTAGE_S))
        postgres.start()
    elif target == "backend":
        postgres.kill_backend(chooser.randrange(100))
    elif (pid := service.processes().get(target)) is not None:
        kill(pid)
    else:
        return  # not started again yet
    course.kills[target] += 1


def _settle(postgres: Postgres, service: Service) -> list[Check]:
    """Returns when every sweep has ended, or the time is over; what was seen of that."""
    ready_s = service.wait_until_ready(RECOVERY_LIMIT_S)
    begun_s = ended_s = time.monotonic()
    num_open = count_open(postgres.url)
    left = num_open
    while left and time.monotonic() - ended_s < IDLE_LIMIT_S:
        time.sleep(0.5)
        before, left = left, count_open(postgres.url)
        if left < before:
            ended_s = time.monotonic()
    return [
        Check(claim="ready after the last kill", found=f"in {ready_s:.1f} s", holds=True),
        Check(
            claim="the sweeps that are open after the last kill end",
            found=f"{left} of {num_open} are open after {ended_s - begun_s:.0f} s",
            holds=left == 0,
        ),
    ]


def _check(postgres: Postgres, service: Service, course: Course, seen: Seen) -> list[Check]:
    # Before the question below: comparing kernels follows its answer, as a sweep of its own.
    checks = check_database(postgres.url, seen.sweeps, seen.curves)
    reply = httpx.get(
        f"{service.url}/lhp",
        params={"dims": "411,211", "budget": 0.3, "wait": 60},
        timeout=120,
        trust_env=False,
    )
    alive = service.processes()
    orphans = service.stop()
    return [
        *checks,
        Check(
            claim="a batch that was kept stays kept",
            found=f"{len(course.lost_batches)} sweeps lost some",
            holds=not course.lost_batches,
        ),
        Check(
            claim="a new question is measured and answered",
            found=f"status {reply.status_code}, curve {reply.json().get('curve')}",
            holds=reply.status_code == 200,
        ),
        Check(
            claim="a worker and its measuring child live",
            found=", ".join(sorted(alive)),
            holds=alive.keys() == {"serve", "worker", "child"},
        ),
        Check(
            claim="no process is left when the service is stopped",
            found=f"{orphans} left",
            holds=orphans == 0,
        ),
        Check(
            claim="no reply that no kill excuses, and no wrong answer",
            found="; ".join(f"{n} × {text}" for text, n in Counter(seen.defects).most_common(5))
            or "none",
            holds=not seen.defects,
        ),
    ]


def _report(course: Course, seen: Seen, checks: list[Check]) -> list[str]:
    replies = sorted(seen.replies.items())
    kills = ", ".join(f"{count} × {target}" for target, count in course.kills.most_common())
    recovery = sorted(course.recovery_s)
    return [
        f"For {course.lasted_s / 60:.0f} minutes, {NUM_CLIENTS} clients asked, started, cancelled"
        " and followed sweeps and read curves, while processes were killed by SIGKILL: the"
        " measuring child, the worker, `lhp serve`, PostgreSQL's server, and one of its backends.",
        "",
        f"- {course.kills.total()} kills: {kills}",
        "- from the last kill of each series until ready:"
        f" median {statistics.median(recovery):.1f} s, longest {recovery[-1]:.1f} s",
        "",
        "| what must hold | found | |",
        "|---|---|---|",
        *(
            f"| {each.claim} | {_cell(each.found)} | {'holds' if each.holds else '**fails**'} |"
            for each in checks
        ),
        "",
        "| request | reply | number |",
        "|---|---|---:|",
        *(f"| {kind} | {status} | {count} |" for (kind, status), count in replies),
    ]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    sys.exit(main())
