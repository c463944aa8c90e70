from __future__ import annotations

import dataclasses
import datetime as dt

import httpx
import pytest
import sqlalchemy as sa

from profiler_service.answering.own_worker import OwnWorker
from profiler_service.app import create_app
from profiler_service.settings import Settings
from profiler_service.storage import schema
from profiler_service.storage.store import Store
from tests.api.conftest import DTYPES, HOST, Worker, check_problem, keep_curve, serving
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs

pytestmark = pytest.mark.anyio


async def test_a_working_service_lives_and_is_ready(both_client: httpx.AsyncClient) -> None:
    for address in ("/healthz", "/readyz"):
        response = await both_client.get(address)
        assert (response.status_code, response.json()["status"]) == (200, "ok")


@pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)
async def test_without_its_database_it_lives_and_is_not_ready(
    settings: Settings, empty_database_url: str, postgres_url: str
) -> None:
    schema.upgrade(empty_database_url)
    store = Store.open(empty_database_url)
    keep_curve(store, square(1, 48), stairs(8))
    name = sa.make_url(empty_database_url).database
    server = sa.create_engine(
        sa.make_url(postgres_url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    async with serving(settings, Worker(store)) as client:
        known = await client.get("/lhp?dims=5,6")
        assert known.status_code == 200
        with server.connect() as connection:
            connection.execute(sa.text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
            connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :n"
                ),
                {"n": name},
            )
        assert (await client.get("/healthz")).status_code == 200
        unready = await client.get("/readyz")
        check_problem(unready, 503)
        assert unready.json()["type"] == "/problems/not-ready"
        assert "database" in unready.json()["detail"]
        check_problem(await client.get("/hosts"), 503)
        check_problem(await client.get("/lhp?dims=500,600"), 503)
        # What is known stays known. (On a slow machine, it says by now that the database is away.)
        answer = (await client.get("/lhp?dims=5,6")).json()
        assert {**answer, "database_away_s": None} == {**known.json(), "database_away_s": None}
        with server.connect() as connection:
            connection.execute(sa.text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get(f"/hosts/{HOST}")).status_code == 200
    store.close()
    server.dispose()


async def test_with_a_worker_of_its_own_it_is_ready_once_that_has_registered(
    settings: Settings, sqlite_store: Store
) -> None:
    worker = OwnWorker(state="starting", since=dt.datetime.now(dt.UTC))
    app = create_app(
        settings, store=sqlite_store, enqueue=lambda sweep: None, own_worker=lambda: worker
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client,
    ):
        waiting = await client.get("/readyz")
        check_problem(waiting, 503)
        assert waiting.json()["type"] == "/problems/not-ready"
        assert f"worker of host {HOST!r}" in waiting.json()["detail"]
        assert (await client.get("/healthz")).status_code == 200
        sqlite_store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
        worker = dataclasses.replace(worker, state="measuring")
        assert (await client.get("/readyz")).status_code == 200
        # Ready means that a sweep can be asked for.
        sweep = {"workload": "matmul", "axes": [{"first": 1, "last": 9}]}
        assert (await client.post("/sweeps", json=sweep)).status_code == 201
