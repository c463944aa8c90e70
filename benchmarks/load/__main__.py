"""Asks two API processes 200 known questions a second, while one of them has a sweep measured.

    python -m benchmarks.load --out docs/results/load.md

PostgreSQL holds 1,000 synthetic curves of 10,000 points each. Each process may keep all of them in
memory (`LHP_MAX_CACHED_POINTS`). The load has 64 connections and one processor. Before it, the same
sweep is measured without it: its verdicts must be the same. Prints a Markdown report. The exit code
is 0 if everything holds, 1 if not, 2 without a verdict.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from benchmarks.checked import publish
from benchmarks.load.generator import Outcome, pin_to, send
from benchmarks.load.stored import FIRST, HOST, LAST_ASKED, SIDE, fill
from benchmarks.provenance import heading
from benchmarks.soak.checks import Check
from benchmarks.soak.machines import Postgres, Service, SoakError

CONNECTIONS = 64
RATE_HZ = 200.0
MAX_P99_S = 0.05
WARM_UP_S = 30.0
SWEEP: dict[str, object] = {
    "workload": "matmul",
    "axes": [{"first": 256, "last": 384, "step": 8}],
    "budget": 40,
    "host": "soak",
}
"""17 points; the budget is shorter than the load."""
LEAST_KNOWN = 0.5
"""Share of the points that both sweeps must know. If neither knew any, none could be contrary."""
SWEEP_LIMIT_S = 120


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--curves", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60, help="how long to ask")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report there, too")
    parser.add_argument("--send", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.send is not None:
        return _send(given.send[:2], float(given.send[2]), given.curves)
    lines = heading("Known questions under load", "benchmarks.load", "psycopg", "uvicorn", "torch")
    begun_s = time.monotonic()
    try:
        with _parts(given.curves) as services:
            print(f"filled and started after {time.monotonic() - begun_s:.0f} s", file=sys.stderr)
            quiet = _finish_sweep(services[0], _start_sweep(services[0]))
            _ask(services, WARM_UP_S, given.curves)
            sweep = _start_sweep(services[0])
            outcomes = _ask(services, given.seconds, given.curves)
            loaded = _finish_sweep(services[0], sweep)
    except SoakError as error:
        print(f"no verdict: {error}", file=sys.stderr)
        return 2
    text = [
        f"{len(outcomes)} questions in {given.seconds:g} s, over {CONNECTIONS} connections to"
        f" two API processes, about {given.curves} curves of 10,000 points. Each counts from"
        " when it was due. All curves were asked about for some seconds before.",
    ]
    took_ms = [round(each.took_s * 1000, 2) for each in outcomes]
    return publish(
        given.out,
        lines,
        text,
        check(outcomes, quiet, loaded),
        took_ms=took_ms,
        quiet=quiet,
        loaded=loaded,
    )


@contextlib.contextmanager
def _parts(num_curves: int) -> Iterator[list[Service]]:
    """Two services, the first with a worker, on one filled database."""
    # By default, a process keeps a fifth of so many points, and reads all others again and again.
    os.environ["LHP_MAX_CACHED_POINTS"] = str(2 * num_curves * SIDE**2)
    with tempfile.TemporaryDirectory(prefix="lhp-load-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        for part in ("database", "first", "second"):
            (folder / part).mkdir()
        postgres = Postgres(folder / "database")
        stack.callback(postgres.stop)
        services = [Service(folder / "first", postgres.url)]
        services.append(Service(folder / "second", postgres.url, "--no-worker"))
        fill(postgres.url, num_curves)
        for service in services:
            stack.callback(service.stop)
            service.start()
        for service in services:
            service.wait_until_ready(120)
        yield services


def _ask(services: list[Service], seconds: float, num_curves: int) -> list[Outcome]:
    """The outcomes of the load, which runs in a process of its own."""
    command = [
        *(sys.executable, "-m", "benchmarks.load", "--curves", str(num_curves), "--send"),
        *(service.url for service in services),
        str(seconds),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SoakError(f"the load generator ended with {done.returncode}")
    return [Outcome(**each) for each in json.loads(done.stdout)]


def _send(urls: list[str], seconds: float, num_curves: int) -> int:
    pin_to(min(os.sched_getaffinity(0)))
    sending = send(
        urls, _paths(num_curves), rate_hz=RATE_HZ, seconds=seconds, connections=CONNECTIONS
    )
    json.dump([asdict(outcome) for outcome in asyncio.run(sending)], sys.stdout)
    return 0


def _paths(num_curves: int) -> Iterator[str]:
    """Known questions about every curve in turn."""
    chooser = random.Random(1)
    number = 0
    while True:
        number = number % num_curves + 1
        first, second = (chooser.randint(FIRST, LAST_ASKED) for _ in range(2))
        yield f"/lhp?dims={first},{second}&batch={number}&host={HOST}&wait=0"


def _start_sweep(service: Service) -> str:
    return str(_call(service, "POST", "/sweeps", json=SWEEP)["id"])


def _call(service: Service, method: str, path: str, **request: Any) -> dict[str, Any]:
    """What the service answers. Raises SoakError, with what it said, for a refusal."""
    try:
        reply = httpx.request(
            method, f"{service.url}{path}", timeout=60, trust_env=False, **request
        )
    except httpx.HTTPError as error:
        raise SoakError(f"{method} {path} got no answer: {error!r}") from error
    if not reply.is_success:
        raise SoakError(f"{method} {path} was refused: {reply.status_code} {reply.text}")
    found: dict[str, Any] = reply.json()
    return found


def _finish_sweep(service: Service, sweep: str) -> dict[str, str]:
    """The status of each point, by its dims, once the sweep has ended. Raises SoakError."""
    deadline_s = time.monotonic() + SWEEP_LIMIT_S
    while (found := _call(service, "GET", f"/sweeps/{sweep}"))["state"] in ("queued", "running"):
        if time.monotonic() > deadline_s:
            raise SoakError("the sweep doesn't end")
        time.sleep(0.5)
    if found["state"] != "done":
        raise SoakError(f"the sweep is {found['state']}: {found['error']}")
    points = _call(service, "GET", f"/curves/{found['curve']}")["points"]
    return {
        str(dims): status for dims, status in zip(points["dims"], points["status"], strict=True)
    }


def check(outcomes: list[Outcome], quiet: dict[str, str], loaded: dict[str, str]) -> list[Check]:
    """What must hold of the answers, and of the verdicts with and without load, by point."""
    failed = Counter(each.status for each in outcomes if each.status != 200)
    took_s = [each.took_s for each in outcomes]
    p50_s = statistics.median(took_s)
    p99_s = statistics.quantiles(took_s, n=100)[98]
    sure = ("lhp", "dominated")
    both = [dims for dims in quiet if quiet[dims] in sure and loaded.get(dims) in sure]
    contrary = [dims for dims in both if quiet[dims] != loaded[dims]]
    return [
        Check(
            claim="every question is answered",
            found=", ".join(f"{n} × {status}" for status, n in failed.items()) or "no error",
            holds=not failed,
        ),
        Check(
            claim=f"99 % within {MAX_P99_S * 1000:g} ms",
            found=f"median {p50_s * 1000:.1f} ms, 99 % within {p99_s * 1000:.1f} ms,"
            f" longest {max(took_s) * 1000:.0f} ms",
            holds=p99_s < MAX_P99_S,
        ),
        Check(
            claim="the sweep's verdicts are those of the quiet one, for"
            f" {LEAST_KNOWN:.0%} of its points or more",
            found=f"{len(contrary)} of {len(both)} points that both know are contrary;"
            f" {sum(s in sure for s in quiet.values())} of {len(quiet)} were known without load,"
            f" {sum(s in sure for s in loaded.values())} of {len(loaded)} with it",
            holds=not contrary
            and len(loaded) == len(quiet)
            and len(both) >= LEAST_KNOWN * len(quiet),
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
