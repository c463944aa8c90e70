"""A SQLite database that is lost or full under the service: said, and nothing new is taken on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from profiler_service import jobs
from profiler_service.answering import database_watch
from profiler_service.app import create_app
from profiler_service.errors import StoreNotWritableError
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from tests.api.conftest import HOST, Worker, ask, check_problem, keep_curve, serving
from tests.api.curves import square, stairs

pytestmark = pytest.mark.anyio

SWEEP = {"workload": "matmul", "axes": [{"first": 1, "last": 9}]}


@pytest.fixture
def path(sqlite_url: str) -> Path:
    return Path(sqlite_url.removeprefix("sqlite:///"))


@pytest.fixture
async def known(
    anyio_backend: str, settings: Settings, sqlite_worker: Worker
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that has answered a question."""
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    async with serving(settings, sqlite_worker) as client:
        assert (await ask(client)).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        yield client


async def wait_for(client: httpx.AsyncClient, status: str) -> str:
    """The detail of /healthz once it says so, which must be within seconds."""
    async with asyncio.timeout(2 * database_watch.CHECK_S + 2):
        while (health := (await client.get("/healthz")).json())["status"] != status:
            await asyncio.sleep(0.02)
    return str(health["detail"])


def move_away(path: Path) -> None:
    path.rename(path.with_name("away"))


@pytest.mark.parametrize("lose", [Path.unlink, move_away], ids=["deleted", "moved"])
async def test_a_lost_file_is_said_and_new_work_refused_while_known_answers_are_given(
    known: httpx.AsyncClient,
    path: Path,
    lose: Callable[[Path], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    lose(path)
    # Without anybody asking, and also in the log.
    assert "was deleted or moved away" in await wait_for(known, "degraded")
    assert logging.ERROR in {r.levelno for r in caplog.records if "moved away" in r.message}
    unready = await known.get("/readyz")
    check_problem(unready, 503, "put the file back")
    assert unready.json()["type"] == "/problems/not-ready"
    refused = await known.post("/sweeps", json=SWEEP)
    check_problem(refused, 503, "put the file back")
    assert refused.json()["type"] == "/problems/store-lost"
    check_problem(await ask(known, "500,600", wait=0), 503)
    assert (await ask(known, max_growth=0.1)).status_code == 200
    assert not path.exists()  # no empty one was made


async def test_a_file_that_is_put_back_is_used_again_without_a_restart(
    known: httpx.AsyncClient, path: Path
) -> None:
    move_away(path)
    await wait_for(known, "degraded")
    path.with_name("away").rename(path)
    await wait_for(known, "ok")
    assert (await known.get("/readyz")).status_code == 200
    assert (await known.post("/sweeps", json=SWEEP)).status_code == 201


async def test_where_nothing_can_be_kept_no_work_is_taken_on(
    known: httpx.AsyncClient, sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise StoreNotWritableError("its disk is full", hint="make room")

    with monkeypatch.context() as patch:
        # The service's check is that of this store; what it finds is tested with the store.
        patch.setattr(sqlite_worker.store._files, "check_writable", lambda **_: fail())
        check_problem(await known.get("/readyz"), 503, "make room")
        for refused in (
            await known.post("/sweeps", json=SWEEP),
            await ask(known, "500,600", wait=0),
        ):
            check_problem(refused, 503, "make room")
            assert refused.json()["type"] == "/problems/store-not-writable"
        assert (await ask(known)).status_code == 200
        assert sqlite_worker.store.list_sweeps(state=None).items[0].state.is_final  # none is new
    await wait_for(known, "ok")
    assert (await known.post("/sweeps", json=SWEEP)).status_code == 201


async def test_a_lost_file_of_jobs_is_said_until_a_worker_has_made_another(
    sqlite_worker: Worker, sqlite_url: str
) -> None:
    settings = Settings(database_url=sqlite_url, host=HOST)
    jobs.upgrade(settings)
    path = Path(jobs.engine_url(sqlite_url).database or "")
    app = create_app(settings, store=sqlite_worker.store)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client,
    ):
        assert (await client.post("/sweeps", json=SWEEP)).status_code == 201
        path.unlink()
        assert path.name in await wait_for(client, "degraded")
        check_problem(await client.get("/readyz"), 503)
        other = {"workload": "matmul", "axes": [{"first": 1, "last": 7}]}
        check_problem(await client.post("/sweeps", json=other), 503)
        jobs.upgrade(settings)
        await wait_for(client, "ok")
        assert (await client.post("/sweeps", json=other)).status_code in (200, 201)
    with contextlib.closing(jobs.JobClient(settings)) as jobs_client:
        assert len(jobs_client.list_jobs()) == 1  # the new file has it


async def test_a_locked_file_of_jobs_is_said_because_nothing_can_be_queued(
    sqlite_worker: Worker, sqlite_url: str
) -> None:
    settings = Settings(database_url=sqlite_url, host=HOST, database_timeout_s=0.5)
    jobs.upgrade(settings)
    app = create_app(settings, store=sqlite_worker.store)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client,
    ):
        assert (await client.get("/readyz")).status_code == 200
        with contextlib.closing(
            sqlite3.connect(jobs.engine_url(sqlite_url).database or "", isolation_level=None)
        ) as other_program:
            other_program.execute("BEGIN EXCLUSIVE")
            assert "jobs.sqlite locked" in await wait_for(client, "degraded")
            check_problem(await client.get("/readyz"), 503)
            check_problem(await client.post("/sweeps", json=SWEEP), 503)
            assert not sqlite_worker.store.list_sweeps(state=None).items
        await wait_for(client, "ok")
        assert (await client.post("/sweeps", json=SWEEP)).status_code == 201


async def test_a_store_that_was_opened_elsewhere_is_watched_too(
    settings: Settings, sqlite_url: str
) -> None:
    """What `open_services` opens itself, from the settings' URL."""
    settings = settings.model_copy(update={"database_url": sqlite_url})
    app = create_app(settings, enqueue=lambda sweep: None)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client,
    ):
        assert (await client.get("/readyz")).status_code == 200
        Path(sqlite_url.removeprefix("sqlite:///")).unlink()
        check_problem(await client.get("/readyz"), 503)
        assert isinstance(app.state.services.store, Store)
