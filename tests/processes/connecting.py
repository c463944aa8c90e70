"""A real server with low limits, and what tests say to it over bare connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from profiler_service.processes.connections import BoundedConnection, ConnectionLimits

PATIENCE_S = 20.0
LIMITS = ConnectionLimits(head_bytes=8192, headers=20, waiting=4, look_s=0.05)
SHORT = ConnectionLimits(head_s=1, body_s=1, unread_s=1.5, linger_s=0.5, look_s=0.05)
MOST = 8
LARGE_BYTES = 64 << 20

Connect = Callable[..., socket.socket]
"""Opens a connection, from another address of this machine if one is given."""


class App:
    """Answers with the length of the body. `/held` is answered once `release` is set."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.headers: list[list[tuple[bytes, bytes]]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        if scope["path"] == "/large":
            chunks = (b"x" * 65536 for _ in range(LARGE_BYTES // 65536))
            await StreamingResponse(chunks)(scope, receive, send)
            return
        length = len(await request.body()) if scope["method"] == "POST" else 0
        self.headers.append(list(scope["headers"]))
        if scope["path"] == "/held":
            await asyncio.to_thread(self.release.wait, PATIENCE_S)
        await PlainTextResponse(f"{scope['path']} {length}")(scope, receive, send)


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    yield app
    app.release.set()


@pytest.fixture
def limits() -> ConnectionLimits:
    """The limits of the server's connections."""
    return LIMITS


@pytest.fixture
def server(app: App, limits: ConnectionLimits) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=type("Connection", (BoundedConnection,), {"limits": limits}),
        ws="none",
        lifespan="off",
        log_level="error",
        limit_concurrency=MOST,
        timeout_keep_alive=1,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


@pytest.fixture
def connect(app: App, server: uvicorn.Server) -> Iterator[Connect]:
    """Opens connections to the server."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()

        def stop() -> None:
            app.release.set()
            server.should_exit = True
            thread.join()

        stack.callback(stop)

        def connect(source: str = "127.0.0.1") -> socket.socket:
            return stack.enter_context(
                socket.create_connection(
                    listener.getsockname(), timeout=PATIENCE_S, source_address=(source, 0)
                )
            )

        yield connect


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection, however it does that."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def read_response(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """The next response: status, headers, body (which has a length)."""
    with connection.makefile("rb", buffering=0) as reader:
        status = int(reader.readline().split()[1])
        headers = {}
        while line := reader.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        body = b""
        while missing := int(headers["content-length"]) - len(body):
            chunk = reader.read(missing)
            assert chunk, "the body isn't there as a whole"
            body += chunk
        return status, headers, body


def check_refusal(connection: socket.socket, status: int, problem: str) -> None:
    """Asserts that one problem is the whole response, and that the connection ends."""
    found, headers, body = read_response(connection)
    told: Any = json.loads(body)
    assert (found, told["status"], told["type"]) == (status, status, f"/problems/{problem}")
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert ("retry-after" in headers) == (status == 503)
    assert told["detail"] and told["hint"]
    assert read_all(connection) == b""


def trickle(connection: socket.socket, piece: bytes) -> bytes:
    """What comes back while `piece` is sent again and again, every now and then."""
    give_up_s = time.monotonic() + PATIENCE_S
    connection.settimeout(0.05)
    received = b""
    while time.monotonic() < give_up_s:
        try:
            connection.sendall(piece)
            chunk = connection.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            return received
        if not chunk:
            return received
        received += chunk
    raise AssertionError("the connection lives on")


def wait_until(condition: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)
