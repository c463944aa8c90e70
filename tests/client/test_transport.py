"""The seam to httpx, and methods that are written once for both kinds of client."""

from __future__ import annotations

import asyncio
import inspect

import httpx
import pytest

from profiler_service.client import AsyncServiceClient, ServiceClient
from profiler_service.client.address import Address
from profiler_service.client.operation import operation, run_blocking
from profiler_service.client.service import Service
from profiler_service.client.transport import FAULTS, translating
from profiler_service.errors import LhpError
from tests.cli.stub import HOST, Events, Reply, make_sweep
from tests.client.conftest import Stub

ADDRESS = Address.parse("http://anvil/lhp")


def request_errors() -> list[type[httpx.RequestError]]:
    """Every error of httpx that sending a request may raise."""
    found: list[type[httpx.RequestError]] = [httpx.RequestError]
    for base in found:  # grows while it is walked
        found += base.__subclasses__()
    return found


@pytest.mark.parametrize("fault", request_errors())
def test_every_error_of_httpx_becomes_one_of_ours(fault: type[httpx.RequestError]) -> None:
    with pytest.raises(LhpError) as raised, translating(ADDRESS):
        raise fault("[Errno 7] {curly}")
    nearest = next(base for base in fault.__mro__ if base in FAULTS)
    assert type(raised.value) is FAULTS[nearest][0]
    assert "http://anvil/lhp" in str(raised.value)
    assert raised.value.hint
    assert isinstance(raised.value.__cause__, fault)


def test_what_is_a_bug_stays_one() -> None:
    with pytest.raises(ZeroDivisionError), translating(ADDRESS):
        raise ZeroDivisionError


def test_both_clients_have_the_same_operations() -> None:
    operations = [name for name, each in inspect.getmembers(Service) if isinstance(each, operation)]
    assert {"ask_lhp", "follow_sweep", "measure", "list_hosts"} <= set(operations)
    public = [name for name in dir(Service) if not name.startswith("_")]
    assert sorted(public) == sorted([*operations, "address"])
    for kind in (ServiceClient, AsyncServiceClient):
        for name in operations:
            assert inspect.getdoc(getattr(kind, name))


def test_a_blocking_client_returns_and_an_asynchronous_one_is_awaited(closed_url: str) -> None:
    with ServiceClient(closed_url, attempts=1) as blocking, pytest.raises(LhpError):
        blocking.list_hosts()

    async def ask() -> None:
        async with AsyncServiceClient(closed_url, attempts=1) as client:
            waiting = client.list_hosts()
            assert inspect.iscoroutine(waiting)
            with pytest.raises(LhpError):
                await waiting

    asyncio.run(ask())


def test_many_questions_are_asked_at_once(closed_url: str) -> None:
    async def ask() -> None:
        async with AsyncServiceClient(closed_url, attempts=2) as client:
            answers = await asyncio.gather(
                *(client.list_hosts() for _ in range(8)), return_exceptions=True
            )
        assert all(isinstance(each, LhpError) for each in answers)

    asyncio.run(ask())


def test_a_transport_that_suspends_isnt_taken_for_a_blocking_one() -> None:
    async def suspend() -> int:
        await asyncio.sleep(0)
        return 7

    async def return_at_once() -> int:
        return 7

    assert run_blocking(return_at_once()) == 7
    with pytest.raises(RuntimeError, match="has suspended"):
        run_blocking(suspend())


@pytest.mark.parametrize(
    "events", [Reply("busy", 503), Events(("progress", make_sweep()), stays_open=True)]
)
def test_an_awaited_question_can_be_cancelled(stub: Stub, events: Reply) -> None:
    """While it pauses between looks, or listens."""
    stub.reply("GET /lhp", Reply.accepted(make_sweep()))
    stub.reply("GET /sweeps/s1/events", events)
    stub.reply("GET /sweeps/s1", make_sweep())

    async def ask() -> None:
        following = asyncio.Event()
        async with AsyncServiceClient(stub.url) as client:
            question = asyncio.create_task(
                client.ask_lhp(
                    {"dims": "1197,317"}, wait_s=60, on_progress=lambda _: following.set()
                )
            )
            await asyncio.wait_for(following.wait(), timeout=20)
            question.cancel()
            with pytest.raises(asyncio.CancelledError):
                await question
            assert await client.list_hosts() == [HOST]

    asyncio.run(ask())
