from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from profiler_service.answering.shutdown import Shutdown
from profiler_service.api.shutdown import EndRequestsQuietly
from profiler_service.app import create_app
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from tests.api.conftest import Worker, check_problem

pytestmark = pytest.mark.anyio


async def test_a_query_that_waits_for_a_measurement_is_told_where_it_goes_on(
    settings: Settings, sqlite_worker: Worker
) -> None:
    app = create_app(settings, store=sqlite_worker.store, enqueue=sqlite_worker.enqueue)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client,
        asyncio.timeout(20),
    ):
        asking = asyncio.create_task(client.get("/lhp?dims=5,6&wait=100"))
        sweep = await sqlite_worker.take(asking)
        app.state.shutdown.begin()
        answer = await asking
        assert (answer.status_code, answer.headers["location"]) == (202, f"sweeps/{sweep.id}")
        # Whoever comes later doesn't wait either.
        assert (await client.get("/lhp?dims=5,6&wait=100")).status_code == 202


async def test_a_host_that_has_not_come_yet_is_not_waited_for(
    settings: Settings, sqlite_store: Store
) -> None:
    app = create_app(settings, store=sqlite_store, enqueue=lambda sweep: None)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client,
        asyncio.timeout(20),
    ):
        app.state.shutdown.begin()
        check_problem(await client.get("/lhp?dims=5,6&wait=100"), 503)


async def ask_and_cancel(shutdown: Shutdown, *, started: bool) -> list[Message]:
    """What is sent for a request that is cancelled, before or after its response began."""
    sent: list[Message] = []
    running = asyncio.Event()

    async def never_end(scope: Scope, receive: Receive, send: Send) -> None:
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        running.set()
        await asyncio.Event().wait()

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    layer = EndRequestsQuietly(never_end, shutdown)
    request = asyncio.create_task(layer({"type": "http", "method": "GET"}, receive, send))
    await running.wait()
    request.cancel()
    await request
    return sent


async def test_a_request_that_doesnt_end_is_ended_with_a_problem() -> None:
    shutdown = Shutdown()
    shutdown.begin()
    start, body = await ask_and_cancel(shutdown, started=False)
    assert start["status"] == 503
    assert b"being stopped" in body["body"]


async def test_a_response_that_has_begun_is_broken_off() -> None:
    shutdown = Shutdown()
    shutdown.begin()
    [start] = await ask_and_cancel(shutdown, started=True)
    assert start["status"] == 200


async def test_a_request_cancelled_for_another_reason_stays_cancelled() -> None:
    with pytest.raises(asyncio.CancelledError):
        await ask_and_cancel(Shutdown(), started=False)
