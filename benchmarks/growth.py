"""What a service costs that holds many races and has many clients: memory, time, SELECTs.

    python -m benchmarks.growth --out docs/results/growth [--before OTHER.json]

A server in a process of its own (uvicorn, SQLite) holds 10,000 races of one workload. Each starts
from a point of its own. Then 200 clients wait for sweeps that nobody measures, and after them 200
streams of events follow these sweeps. Meanwhile one client asks, one request after the other:

- a known question, spelled differently every time, so that no ready-made response answers it;
- `/readyz`.

SELECTs are counted in the server, by SQLAlchemy's events. Copied into an earlier commit's
`benchmarks/`, this file measures that one; `--before` shows its figures beside the new ones.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import sqlalchemy as sa
import uvicorn

from benchmarks.provenance import commit, heading
from benchmarks.stored_curve import PLATFORM, PROTOCOL
from profiler_service.analysis.curve import AnswerTable, LatencyCurve, PointStatus
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.storage import schema
from profiler_service.storage.store import Store

NUM_RACES, NUM_CLIENTS = 10_000, 200
NUM_REQUESTS = 300
COUNTED_S = 5.0
HOST = "benchmark"
FIRST, GROWTH = 200, 25
"""Races start from 200 to 299 on both axes, and look so far above: `max_growth=0.125`."""

Figures = dict[str, str]


def fill(url: str) -> None:
    """Stores the races: one through the store, and its rows again for every other point."""
    schema.upgrade(url)
    store = Store.open(url)
    store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=("float32",))
    grid = Grid.window((FIRST, FIRST), (37, 37))
    sweep, _ = store.create_sweep(
        SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid), host=HOST
    )
    latency_s = np.full(grid.size, np.nan)
    latency_s[:64] = np.linspace(2e-5, 1e-5, 64)
    none = np.full(grid.size, np.nan)
    target = np.full(grid.size, -1, dtype=np.int32)
    target[0] = 63
    ratio = none.copy()
    ratio[0] = 0.5
    curve = LatencyCurve(
        workload=LINEAR.describe(),
        platform=PLATFORM,
        protocol=PROTOCOL,
        grid=grid,
        latency_s=latency_s,
        low_s=latency_s,
        high_s=latency_s,
        num_samples=np.isfinite(latency_s).astype(np.int32) * 30,
        status=np.where(
            np.isfinite(latency_s), PointStatus.UNDECIDED, PointStatus.UNMEASURED
        ).astype(np.int8),
        answers=AnswerTable(target=target, ratio=ratio, ratio_low=ratio, ratio_high=ratio),
        measured_at=dt.datetime.now(dt.UTC),
    )
    store.start_sweep(sweep.id)
    store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
    store.close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        rows = {
            name: dict(connection.exec_driver_sql(f"SELECT * FROM {name}").mappings().one())
            for name in ("sweeps", "curves", "curve_arrays")
        }
        for name in rows:
            copies = [_copy(name, rows[name], number) for number in range(1, NUM_RACES)]
            columns = ", ".join(copies[0])
            values = ", ".join(f":{column}" for column in copies[0])
            connection.execute(sa.text(f"INSERT INTO {name} ({columns}) VALUES ({values})"), copies)
        connection.exec_driver_sql(f"UPDATE generation SET value = {NUM_RACES + 10}")
    engine.dispose()


def first_point(number: int) -> tuple[int, int]:
    """Where race `number` starts."""
    return FIRST + number % 100, FIRST + number // 100


def _copy(table: str, row: dict[str, Any], number: int) -> dict[str, Any]:
    """The row of race `number`."""
    a, b = first_point(number)
    changed: dict[str, Any] = {
        "id": f"{number:032x}",
        "sweep_id": f"{number:032x}",
        "curve_id": f"{number:032x}",
        "grid": json.dumps([[a, 38, 1], [b, 38, 1]]),
        "spec_key": f"race {number}",
        "raced_from": f"{a},{b}",
        "generation": number + 2,
    }
    return row | {name: value for name, value in changed.items() if name in row}


def serve(url: str, port: int) -> None:
    """Runs the server until it is told to stop. `/counts` tells of its SELECTs and memory."""
    from profiler_service.app import create_app
    from profiler_service.settings import Settings

    counts = {"selects": 0}

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def count(_c: object, _cursor: object, statement: str, *_others: object) -> None:
        counts["selects"] += statement.lstrip().startswith("SELECT")

    app = create_app(Settings(database_url=url, host=HOST), enqueue=lambda sweep: None)

    @app.get("/counts")
    async def tell() -> dict[str, int]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return {**counts, "rss_bytes": pages * os.sysconf("SC_PAGE_SIZE")}

    uvicorn.run(
        app, port=port, loop="uvloop", http="httptools", log_level="error", access_log=False
    )


@contextlib.contextmanager
def server(url: str) -> Iterator[str]:
    """The address of a running server whose host stays present."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.growth", "--serve", url, str(port)]
    )
    ended = threading.Event()

    def keep_present() -> None:
        with contextlib.closing(Store.open(url)) as store:
            while not ended.wait(3):
                store.touch_host(HOST)

    threading.Thread(target=keep_present).start()
    try:
        address = f"http://127.0.0.1:{port}"
        while True:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{address}/healthz")
                break
            if process.poll() is not None:
                sys.exit("the server didn't start")
            time.sleep(0.1)
        yield address
    finally:
        ended.set()
        process.kill()
        process.wait()


async def time_requests(client: httpx.AsyncClient, addresses: list[str]) -> str:
    """Median and 99th percentile of the time that a response took, in words."""
    taken_s = []
    for address in addresses:
        began = time.perf_counter()
        response = await client.get(address)
        taken_s.append(time.perf_counter() - began)
        if response.status_code != 200:
            sys.exit(f"{address}: {response.text}")
    p99 = statistics.quantiles(taken_s, n=100)[98]
    return f"{statistics.median(taken_s) * 1e3:.1f} ms, {p99 * 1e3:.1f} ms"


async def measure_now(client: httpx.AsyncClient, when: str) -> Figures:
    """What the server costs in its present state."""
    known = [f"/lhp?dims=200,200&max_growth=0.12{n:06d}" for n in range(NUM_REQUESTS)]
    before = (await client.get("/counts")).json()
    await asyncio.sleep(COUNTED_S)
    after = (await client.get("/counts")).json()
    selects_hz = (after["selects"] - before["selects"]) / COUNTED_S
    return {
        f"{when}: memory": f"{after['rss_bytes'] / 2**20:,.0f} MiB",
        f"{when}: SELECTs a second": f"{selects_hz:,.0f}",
        f"{when}: a known question, median and p99": await time_requests(client, known),
        f"{when}: `/readyz`, median and p99": await time_requests(
            client, ["/readyz"] * NUM_REQUESTS
        ),
    }


@contextlib.asynccontextmanager
async def many(
    address: str, run: Any, arguments: list[Any]
) -> AsyncIterator[list[asyncio.Task[object]]]:
    """In this context, `run(client, argument)` runs for each argument."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=300, limits=limits) as client:
        tasks = [asyncio.create_task(run(client, argument)) for argument in arguments]
        await asyncio.sleep(15)  # until all of them wait
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def wait_for_sweep(client: httpx.AsyncClient, number: int) -> None:
    """Asks what isn't known, and waits."""
    await client.get(f"/lhp?dims={1000 + number},500&wait=110")


async def follow(client: httpx.AsyncClient, sweep: str) -> None:
    """Reads the sweep's events."""
    async with client.stream("GET", f"/sweeps/{sweep}/events") as response:
        async for _ in response.aiter_raw():
            pass


async def measure(address: str) -> Figures:
    """Every figure."""
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        started = (await client.get("/counts")).json()
        figures = {"after the start: memory": f"{started['rss_bytes'] / 2**20:,.0f} MiB"}
        began = time.perf_counter()
        (await client.get("/lhp?dims=201,201")).raise_for_status()
        figures["the first question"] = f"{(time.perf_counter() - began) * 1e3:.0f} ms"
        points = [first_point(number) for number in range(0, NUM_RACES, 20)]
        figures["500 more, of other races: median and p99"] = await time_requests(
            client, [f"/lhp?dims={a},{b}" for a, b in points]
        )
        figures |= await measure_now(client, "nobody waits")
        sweep = {"workload": "linear", "axes": [{"first": 1, "last": 90}, {"first": 1, "last": 90}]}
        began = time.perf_counter()
        (await client.post("/sweeps", json=sweep)).raise_for_status()
        figures["`POST /sweeps`"] = f"{(time.perf_counter() - began) * 1e3:.0f} ms"
        async with many(address, wait_for_sweep, list(range(NUM_CLIENTS))):
            figures |= await measure_now(client, f"{NUM_CLIENTS} wait")
        listed = (await client.get(f"/sweeps?state=queued&limit={NUM_CLIENTS}")).json()["items"]
        ids = [each["id"] for each in listed]
        async with many(address, follow, ids):
            figures |= await measure_now(client, f"{len(ids)} streams")
    return figures


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--serve", nargs=2, metavar=("URL", "PORT"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write FILE.md and FILE.json")
    parser.add_argument("--before", type=Path, metavar="JSON", help="figures of an earlier commit")
    parser.add_argument("--note", default="", help="what else ran on the machine")
    args = parser.parse_args()
    if args.serve:
        serve(args.serve[0], int(args.serve[1]))
        return
    lines = heading("What growth costs", "benchmarks.growth", "sqlalchemy", "fastapi", "uvicorn")
    with tempfile.TemporaryDirectory(prefix="lhp-growth-") as directory:
        url = f"sqlite:///{directory}/lhp.sqlite"
        fill(url)
        with server(url) as address:
            figures = asyncio.run(measure(address))
    columns = {commit()[:7]: figures}
    if args.before:
        columns = json.loads(args.before.read_text()) | columns
    lines += [f"{args.note}\n"] if args.note else []
    lines += [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for name in figures:
        lines.append(f"| {name} | {' | '.join(each.get(name, '') for each in columns.values())} |")
    print("\n".join(lines))
    if args.out:
        args.out.with_suffix(".md").write_text("\n".join(lines) + "\n")
        args.out.with_suffix(".json").write_text(json.dumps(columns, indent=1) + "\n")


if __name__ == "__main__":
    main()
