"""What the client's tests share: a stub service, a clock, and clients of both kinds.

Every test that takes `make` runs twice: with a ServiceClient, and with an AsyncServiceClient whose
methods are run to their end. No test waits: pauses move the test's own clock, and stamina makes
none between attempts.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import stamina
from fastapi import Request, Response

from profiler_service.client import AsyncServiceClient, Progress, ServiceClient
from profiler_service.client.operation import operation
from tests.cli.stub import ANSWER, StubService

QUIET_S = 0.3
"""How long the tests' streams may be silent."""


class Stub(StubService):
    """The stub, which also notes the headers of each request."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[dict[str, str]] = []

    async def _answer(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        return await super()._answer(request)


@dataclass
class Time:
    """A clock that only pauses move, and what happens at each of them."""

    now_s: float = 0.0
    pauses_s: list[float] = field(default_factory=list)
    at_pause: Callable[[], None] = lambda: None

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        assert len(self.pauses_s) < 500, "it never ends"
        self.now_s += seconds
        self.at_pause()

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


class Awaited:
    """An AsyncServiceClient whose methods are run to their end, as a ServiceClient's are."""

    def __init__(self, runner: asyncio.Runner, client: AsyncServiceClient) -> None:
        self._runner = runner
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not isinstance(getattr(type(self._client), name), operation):
            return found
        return lambda *args, **kwargs: self._runner.run(found(*args, **kwargs))

    def close(self) -> None:
        self._runner.run(self._client.aclose())


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    """Lets stamina try again at once, as often as the client says."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture(scope="session")
def listening_stub() -> Iterator[Stub]:
    stub = Stub()
    stub.start()
    yield stub
    stub.stop()


@pytest.fixture
def stub(listening_stub: Stub) -> Stub:
    """A stub that has been asked nothing yet, and answers ANSWER."""
    listening_stub.forget()
    listening_stub.headers.clear()
    listening_stub.reply("GET /lhp", ANSWER)
    return listening_stub


@pytest.fixture
def time() -> Time:
    return Time()


# Clients of both kinds look alike to a test.
Make = Callable[..., Any]


@pytest.fixture(params=["blocking", "asynchronous"])
def make(request: pytest.FixtureRequest, stub: Stub, time: Time) -> Iterator[Make]:
    """Makes clients of the stub, or of another `url`."""
    made: list[ServiceClient | Awaited] = []
    with asyncio.Runner() as runner:

        def make(url: str | None = None, **given: Any) -> ServiceClient | Awaited:
            options: dict[str, Any] = {"clock": time.clock, "quiet_s": QUIET_S} | given
            client: ServiceClient | Awaited
            if request.param == "blocking":
                client = ServiceClient(url or stub.url, sleep=time.sleep, **options)
            else:
                asynchronous = AsyncServiceClient(
                    url or stub.url, sleep=time.sleep_async, **options
                )
                client = Awaited(runner, asynchronous)
            made.append(client)
            return client

        yield make
        for client in made:
            client.close()


@pytest.fixture
def closed_url() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@dataclass
class Watched:
    """Everything that a client has told of its progress."""

    told: list[Progress] = field(default_factory=list)

    def __call__(self, progress: Progress) -> None:
        self.told.append(progress)

    @property
    def fractions(self) -> list[float | None]:
        """How far the sweep was each time; None before it began."""
        sweeps = [each.sweep for each in self.told if each.sweep and not each.held_up_by]
        return [each.progress.fraction if each.progress else None for each in sweeps]


@pytest.fixture
def watched() -> Watched:
    return Watched()
