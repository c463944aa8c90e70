"""What a token may have at a time, how long it lasts, and what those without one are told."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

import httpx
import pytest

from profiler_service.access.caller import Caller
from profiler_service.answering.own_worker import OwnWorker
from profiler_service.app import create_app
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from tests.api.conftest import HOST, Worker, serving
from tests.api.curves import PLATFORM, PROTOCOL
from tests.api.test_access import bearer, given, guarded

__all__ = ["given", "guarded"]

pytestmark = pytest.mark.anyio


async def test_one_token_has_only_its_share_of_the_requests_under_way(
    sqlite_worker: Worker, given: dict[str, str]
) -> None:
    settings = Settings(
        database_url="sqlite:///unused", host=HOST, max_connections=4, client_share=0.5
    )
    async with serving(settings, sqlite_worker) as client:
        measure = bearer(given["measure"])
        waiting = [
            asyncio.create_task(client.get(f"/lhp?dims={dims}&wait=60", headers=measure))
            for dims in ("50,60", "70,80")
        ]
        for _ in waiting:
            await sqlite_worker.take()
        refused = await client.get("/hosts", headers=measure)
        assert refused.status_code == 429 and "retry-after" in refused.headers
        assert "LHP_CLIENT_SHARE" in refused.json()["hint"]
        # Others get in meanwhile, and so does this one afterwards.
        assert (await client.get("/hosts", headers=bearer(given["read"]))).status_code == 200
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert (await client.get("/hosts", headers=measure)).status_code == 200


async def test_a_stream_ends_when_its_token_is_revoked(
    guarded: httpx.AsyncClient,
    sqlite_store: Store,
    given: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("profiler_service.api.sweeps.EVENT_WAIT_S", 0.05)
    asked = await guarded.get("/lhp?dims=500,600&wait=0", headers=bearer(given["measure"]))
    events = f"/sweeps/{asked.json()['id']}/events"
    following = asyncio.create_task(guarded.get(events, headers=bearer(given["read"])))
    done, _ = await asyncio.wait([following], timeout=0.3)  # it has no end by itself
    assert not done
    sqlite_store.revoke_token(given["read"].split("_", 2)[1], by=Caller())
    async with asyncio.timeout(20):
        text = (await following).text
    assert "event: progress" in text
    assert "event: end" not in text


async def check_details(client: httpx.AsyncClient, given: dict[str, str], detail: str) -> None:
    """Asserts that only a valid token sees the detail of what is wrong."""
    for path, status in (("/readyz", 503), ("/healthz", 200)):
        for token in (None, given["expired"], given["read"]):
            headers = {} if token is None else bearer(token)
            response = await client.get(path, headers=headers)
            assert response.status_code == status
            assert (detail in response.text) == (token == given["read"]), response.text
            assert "scope `read`" in response.text or token == given["read"]


async def test_who_has_no_token_sees_that_the_worker_is_unwell_but_not_why(
    sqlite_store: Store, settings: Settings, given: dict[str, str]
) -> None:
    now = dt.datetime.now(dt.UTC)
    worker = OwnWorker(state="unable", since=now, next_try_at=now, reason="nothing in /secret")
    app = create_app(
        settings, store=sqlite_store, enqueue=lambda _: None, own_worker=lambda: worker
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client,
    ):
        sqlite_store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=[])
        await check_details(client, given, "/secret")


async def test_who_has_no_token_doesn_t_see_where_the_database_is(
    sqlite_worker: Worker, settings: Settings, sqlite_url: str, given: dict[str, str]
) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    async with serving(settings, sqlite_worker) as client:
        path.rename(path.with_name("moved"))
        await check_details(client, given, str(path))
