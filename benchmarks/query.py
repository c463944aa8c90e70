"""How fast `GET /lhp` sends known answers, compared with a bare FastAPI route.

    apt-get install wrk        # the load generator; https://github.com/wg/wrk
    python -m benchmarks.query --out docs/results/query

One uvicorn server (uvloop, the service's connections, one process) serves the real application and
a bare route that returns a constant pydantic model. The bare route comes before all others. Its
store is SQLite with a saved 64 × 64 curve. wrk asks both in turn over 16 connections, A B A B …, so
that other load affects both alike. Variants:

- `constant`: the same query again and again;
- `distinct`: 1,000 queries in rotation, dims from 225 to 256;
- `respelled`: known questions, each written as it never was before;
- `unseen`: every question is new (not a goal: shows the cost of parsing and answering from the
  loaded curve).

Goals: at least 70 % of the bare route's requests per second (60 % for `respelled`), and a 99th
percentile below three times that of the bare route.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import uvicorn
from pydantic import BaseModel

from benchmarks.provenance import heading

CONNECTIONS = 16
FIRST, SIDE = 225, 64
HOST = "benchmark"

ROTATION = """
local paths = {}
for i = 0, 999 do
  paths[i] = string.format("/lhp?dims=%d,%d", 225 + math.floor(i / 32), 225 + i % 32)
end
local n = 0
request = function()
  n = (n + 1) % 1000
  return wrk.format("GET", paths[n])
end
"""
RESPELLED = """
local n = %d
request = function()
  n = n + 1
  return wrk.format("GET", string.format(
    "/lhp?wait=29.%%09d&workload=linear&batch=016&dims=%%d%%%%2C%%%%20%%d",
    n, 225 + n %% 32, 225 + n %% 31))
end
"""
UNSEEN = """
local n = %d
request = function()
  n = n + 1
  return wrk.format("GET", string.format(
    "/lhp?dims=%%d,%%d&budget=1.%%09d", 225 + n %% 32, 225 + n %% 31, n))
end
"""
REPORT = """
done = function(summary, latency, requests)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read
    + summary.errors.write + summary.errors.timeout
  io.write(string.format("RESULT %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), failed))
end
""".replace("%%", "%")


@dataclass(frozen=True, kw_only=True)
class Load:
    """The result of one run of the load generator."""

    requests_hz: float
    p50_s: float
    p99_s: float


class Constant(BaseModel):
    """The model that the bare route returns."""

    lhp: list[int] = [1200, 320]
    speedup: float = 1.08
    verdict: str = "faster"


def serve(database_url: str, port: int) -> None:
    """Runs the server until it is told to stop."""
    from fastapi import FastAPI

    from profiler_service.app import create_app
    from profiler_service.processes.connections import BoundedConnection
    from profiler_service.settings import Settings

    settings = Settings(database_url=database_url, host=HOST)
    app: FastAPI = create_app(settings, enqueue=lambda sweep: None)
    constant = Constant()

    @app.get("/bare")
    async def bare() -> Constant:
        return constant

    # The first route is found fastest, so /lhp has no advantage.
    app.router.routes.insert(0, app.router.routes.pop())
    uvicorn.run(
        app,
        port=port,
        loop="uvloop",
        http=BoundedConnection,
        ws="none",
        proxy_headers=False,
        log_level="warning",
        access_log=False,
    )


def save_curve(database_url: str) -> None:
    """Stores the curve that is asked about: 64 × 64 points, multiples of 8 are fast."""
    from benchmarks.stored_curve import PLATFORM, PROTOCOL, make_curve, store_curve
    from profiler_service.storage import schema
    from profiler_service.storage.store import Store

    schema.upgrade(database_url)
    store = Store.open(database_url)
    store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=("float32",))
    store_curve(store, HOST, make_curve(first=FIRST, side=SIDE))
    store.close()


@contextlib.contextmanager
def server(directory: Path) -> Iterator[str]:
    """The address of a running server, in a process of its own."""
    database_url = f"sqlite:///{directory / 'lhp.sqlite'}"
    save_curve(database_url)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.query", "--serve", database_url, str(port)]
    )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline_s = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"{address}/healthz").raise_for_status()
                break
            except httpx.TransportError:
                if process.poll() is not None or time.monotonic() > deadline_s:
                    sys.exit("the server didn't start")
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


def load(address: str, path: str, script: str, seconds: int, directory: Path) -> Load:
    """The figures of wrk; exits if any request failed."""
    lua = directory / "script.lua"
    lua.write_text(script + REPORT)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(lua), address + path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", done.stdout)
    if found is None:
        sys.exit(f"wrk said something else than expected:\n{done.stdout}{done.stderr}")
    requests, duration_us, p50_us, p99_us, failed = map(int, found.groups())
    if failed:
        sys.exit(f"{failed} requests to {path} failed")
    return Load(
        requests_hz=requests / (duration_us * 1e-6), p50_s=p50_us * 1e-6, p99_s=p99_us * 1e-6
    )


def spread(values: list[float]) -> str:
    """Median, least and greatest, as text."""
    digits = 0 if min(values) > 100 else 2
    median, least, most = statistics.median(values), min(values), max(values)
    return f"{median:,.{digits}f} ({least:,.{digits}f} to {most:,.{digits}f})"


def describe(variant: str, pairs: list[tuple[Load, Load]]) -> list[str]:
    """The rows of the report's table for one variant."""
    bare, lhp = zip(*pairs, strict=True)
    rows = []
    for name, unit, scale in (
        ("requests_hz", "requests/s", 1.0),
        ("p50_s", "p50, ms", 1e3),
        ("p99_s", "p99, ms", 1e3),
    ):
        of_bare = [getattr(each, name) * scale for each in bare]
        of_lhp = [getattr(each, name) * scale for each in lhp]
        medians = statistics.median(of_lhp) / statistics.median(of_bare)
        ratios = [b / a for a, b in zip(of_bare, of_lhp, strict=True)]
        rows.append(
            f"| {variant} | {unit} | {spread(of_bare)} | {spread(of_lhp)} | {medians:.2f}"
            f" ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    return rows


def main() -> None:
    """Runs the benchmark and prints the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=7, help="A B pairs a variant")
    parser.add_argument("--seconds", type=int, default=3, help="length of each run")
    parser.add_argument("--out", type=Path, help="write OUT.md and OUT.json")
    parser.add_argument("--serve", nargs=2, metavar=("URL", "PORT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve[0], int(args.serve[1]))
        return
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing; install it: apt-get install wrk (or https://github.com/wg/wrk)")

    header = heading(
        "Warm queries beside a bare FastAPI route",
        "benchmarks.query",
        "fastapi",
        "uvicorn",
        "pydantic",
    )
    results: dict[str, list[tuple[Load, Load]]] = {}
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as address:
        directory = Path(name)
        first = httpx.get(f"{address}/lhp?dims={FIRST},{FIRST}")
        if first.status_code != 200 or first.json()["lhp"] != [232, 232]:
            sys.exit(f"the service answers otherwise than expected: {first.text}")
        load(address, "/bare", "", 1, directory)
        for variant in ("constant", "distinct", "respelled", "unseen"):
            pairs = results[variant] = []
            for pair in range(args.pairs):
                script = {
                    "constant": "",
                    "distinct": ROTATION,
                    "respelled": RESPELLED % (pair * 10**6),
                    "unseen": UNSEEN % (pair * 10**6),
                }
                path = f"/lhp?dims={FIRST},{FIRST}"
                bare = load(address, "/bare", "", args.seconds, directory)
                lhp = load(address, path, script[variant], args.seconds, directory)
                pairs.append((bare, lhp))
                print(
                    f"{variant} {pair + 1}/{args.pairs}: bare {bare.requests_hz:.0f}/s,"
                    f" lhp {lhp.requests_hz:.0f}/s",
                    file=sys.stderr,
                )
    lines = [
        *header,
        f"{CONNECTIONS} connections, {args.pairs} pairs of {args.seconds} s, bare route and /lhp"
        " in turn on one server. `constant`: one query again and again; `distinct`: 1,000 queries"
        " in rotation; `respelled`: known questions, each written as never before; `unseen`: every"
        " question for the first time (its curve is loaded).",
        "",
        "Goals, for warm queries (`constant`, `distinct`): at least 0.7 of the bare route's"
        " requests per second (`respelled`: 0.6), p99 below 3 times the bare route's p99.",
        "",
        "Medians (least to greatest); the ratio is that of the medians (of the pairs).",
        "",
        "| queries | | bare route | /lhp | ratio |",
        "|---|---|---|---|---|",
        *(row for variant, pairs in results.items() for row in describe(variant, pairs)),
    ]
    print("\n".join(lines))
    if args.out:
        args.out.with_suffix(".md").write_text("\n".join(lines) + "\n")
        raw = {v: [[asdict(a), asdict(b)] for a, b in pairs] for v, pairs in results.items()}
        args.out.with_suffix(".json").write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    main()
