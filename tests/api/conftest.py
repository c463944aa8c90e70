"""The service over a real store, and a worker whose every move the test decides."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import queue
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.app import create_app
from profiler_service.errors import UnknownHostError
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.settings import Settings
from profiler_service.storage.store import Store, Sweep
from profiler_service.workload import Workload
from tests.api.curves import MEASURED_AT, PLATFORM, PROTOCOL, Latency, build_curve

HOST = "here"
DTYPES = ("float32", "bfloat16")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def sqlite_url(tmp_path: Path, migrated_file: Path) -> str:
    """A new SQLite database with the current schema."""
    path = shutil.copyfile(migrated_file, tmp_path / "lhp.sqlite")
    return f"sqlite:///{path}"


@pytest.fixture
def sqlite_store(sqlite_url: str) -> Iterator[Store]:
    store = Store.open(sqlite_url)
    yield store
    store.close()


@dataclass
class Worker:
    """Plays the worker of a host: takes the sweeps handed in, and ends them as told."""

    store: Store
    handed_in: queue.SimpleQueue[Sweep] = field(default_factory=queue.SimpleQueue)

    def enqueue(self, sweep: Sweep) -> None:
        self.handed_in.put(sweep)

    async def take(self, asking: asyncio.Task[httpx.Response] | None = None) -> Sweep:
        """The next sweep that is handed in.

        Fails at once if `asking`, which should bring it, ends without.
        """
        async with asyncio.timeout(20):
            while self.handed_in.empty():
                assert asking is None or not asking.done(), asking.result().text
                await asyncio.sleep(0.005)
        return self.handed_in.get()

    def finish(
        self,
        sweep: Sweep,
        latency: Latency,
        *,
        platform: Platform = PLATFORM,
        protocol: TimingProtocol = PROTOCOL,
        failing: Sequence[Sequence[int]] = (),
        evidence: Evidence | None = None,
        confirmed: Sequence[ConfirmedPair] = (),
        measured_at: dt.datetime = MEASURED_AT,
    ) -> str:
        """Ends the sweep with the curve that `latency` makes; its id."""
        self.store.start_sweep(sweep.id)
        curve = build_curve(
            sweep.spec.grid,
            latency,
            workload=sweep.spec.workload,
            platform=platform,
            protocol=protocol,
            failing=failing,
        )
        curve = dataclasses.replace(curve, confirmed=tuple(confirmed), measured_at=measured_at)
        if evidence is not None:
            curve = dataclasses.replace(curve, evidence=evidence)
        curve_id = self.store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
        assert curve_id is not None
        return curve_id


def keep_curve(
    store: Store,
    grid: Grid,
    latency: Latency,
    *,
    workload: Workload | None = None,
    host: str = HOST,
    platform: Platform = PLATFORM,
    protocol: TimingProtocol = PROTOCOL,
    failing: Sequence[Sequence[int]] = (),
) -> str:
    """Keeps a finished `grid` sweep of `latency`; the curve's id. Registers the host if new."""
    try:
        store.get_host(host)
    except UnknownHostError:
        store.register_host(host, platform, protocol=protocol, dtypes=DTYPES)
    spec = SweepSpec(workload=workload or LINEAR.describe(), mode="grid", grid=grid)
    sweep, _ = store.create_sweep(spec, host=host)
    return Worker(store).finish(
        sweep, latency, platform=platform, protocol=protocol, failing=failing
    )


@pytest.fixture
def settings() -> Settings:
    """Settings of a service on HOST; the store is given, so the URL is never used."""
    return Settings(database_url="sqlite:///unused", host=HOST)


@contextlib.asynccontextmanager
async def serving(settings: Settings, worker: Worker) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running service."""
    app = create_app(settings, store=worker.store, enqueue=worker.enqueue)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://service",
            timeout=60,
        ) as client,
    ):
        yield client


@pytest.fixture
def sqlite_worker(sqlite_store: Store) -> Worker:
    """The worker of a registered host, on SQLite."""
    sqlite_store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
    return Worker(sqlite_store)


@pytest.fixture
async def client(
    anyio_backend: str, settings: Settings, sqlite_worker: Worker
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service on SQLite, whose host is registered and present."""
    async with serving(settings, sqlite_worker) as client:
        yield client


@pytest.fixture
def worker(store: Store) -> Worker:
    """The worker of a registered host, once on SQLite and once on PostgreSQL."""
    store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
    return Worker(store)


@pytest.fixture
async def both_client(
    anyio_backend: str, settings: Settings, worker: Worker
) -> AsyncIterator[httpx.AsyncClient]:
    """Like `client`, once on SQLite and once on PostgreSQL."""
    async with serving(settings, worker) as client:
        yield client


async def follow(client: httpx.AsyncClient, address: str) -> asyncio.Task[httpx.Response]:
    """A request for a stream of events, of which the first has been sent.

    The transport gives a response only as a whole, once the stream has ended.
    """
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    app, begun = transport.app, asyncio.Event()

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def tell(message: Any) -> None:
            await send(message)
            if b"event: " in message.get("body", b""):
                begun.set()

        await app(scope, receive, tell)

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(watched), base_url=client.base_url, timeout=60
        ) as watching:
            return await watching.get(address)

    following = asyncio.create_task(get())
    async with asyncio.timeout(60):
        while not begun.is_set():
            assert not following.done(), following.result().text
            await asyncio.sleep(0.005)
    return following


def check_problem(response: httpx.Response, status: int, hint: str = "") -> None:
    """Asserts that the response is a problem of that status that says what to do."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["hint"]
    assert hint in f"{problem['hint']} {problem['see']}"
    assert problem["type"].startswith("/problems/")
    assert "Traceback" not in response.text
    assert ("retry-after" in response.headers) == (status == 503)


async def ask(client: httpx.AsyncClient, dims: str = "5,6", **params: object) -> httpx.Response:
    """The response to GET /lhp."""
    return await client.get("/lhp", params={"dims": dims, **params})  # type: ignore[dict-item]
