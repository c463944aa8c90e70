"""How long a connection may keep the service waiting: over real connections."""

from __future__ import annotations

import time

import pytest
import uvicorn

from profiler_service.processes.connections import ConnectionLimits
from tests.processes.connecting import (
    LARGE_BYTES,
    MOST,
    PATIENCE_S,
    SHORT,
    App,
    Connect,
    app,
    check_refusal,
    connect,
    read_all,
    read_response,
    server,
    trickle,
    wait_until,
)

__all__ = ["app", "connect", "server"]


@pytest.fixture
def limits() -> ConnectionLimits:
    return SHORT


def test_a_connection_that_asks_nothing_is_closed(connect: Connect) -> None:
    assert read_all(connect()) == b""


@pytest.mark.parametrize("begin", [b"G", b"GET /a HTTP/1.1\r\nHost: x\r\n", b"\r\n"])
def test_headers_that_dont_end_time_out(connect: Connect, begin: bytes) -> None:
    connection = connect()
    connection.sendall(begin)
    check_refusal(connection, 408, "request-timeout")


@pytest.mark.parametrize(
    ("begin", "piece"),
    [(b"GET /a HTTP/1.1\r\n", b"X: y\r\n"), (b"GET /a HTTP/1.1\r\nX: ", b"y"), (b"", b"\r\n")],
    ids=["headers", "letters", "empty lines"],
)
def test_headers_that_come_slowly_time_out(connect: Connect, begin: bytes, piece: bytes) -> None:
    connection = connect()
    connection.sendall(begin)
    assert trickle(connection, piece).startswith(b"HTTP/1.1 408 ")


def test_a_second_request_that_comes_slowly_times_out(connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_response(connection)[0] == 200
    assert trickle(connection, b"\r\n").startswith(b"HTTP/1.1 408 ")
    connection = connect()
    connection.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\n")
    assert read_response(connection)[0] == 200
    assert trickle(connection, b"X: y\r\n").startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    ("length", "piece"),
    [
        (b"Content-Length: 10000\r\n\r\n", b"y"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\ny\r\n"),
    ],
    ids=["length", "chunked"],
)
def test_a_body_that_comes_slowly_times_out(connect: Connect, length: bytes, piece: bytes) -> None:
    connection = connect()
    connection.sendall(b"POST /a HTTP/1.1\r\nHost: x\r\n" + length)
    assert trickle(connection, piece).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_nobody_reads_doesnt_keep_the_connection(connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n")
    assert read_response(connection)[2] == b"/a 0"
    trickle(connection, b"y")


def test_an_idle_connection_is_closed_after_a_while(connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_response(connection)[0] == 200
    assert read_all(connection) == b""


def test_a_client_that_reads_nothing_is_given_up(connect: Connect, server: uvicorn.Server) -> None:
    connection = connect()
    connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: len(server.server_state.connections) == 1)
    wait_until(lambda: not server.server_state.connections)
    assert len(read_all(connection)) < LARGE_BYTES


def test_a_client_that_reads_slowly_gets_everything(connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    received = 0
    for _ in range(40):  # for longer than a client may read nothing
        received += len(connection.recv(1 << 20))
        time.sleep(2 * SHORT.unread_s / 40)
    while chunk := connection.recv(1 << 20):
        received += len(chunk)
    assert received > LARGE_BYTES


def test_waiting_for_a_response_takes_as_long_as_it_takes(connect: Connect, app: App) -> None:
    connection = connect()
    connection.sendall(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.settimeout(2 * (SHORT.body_s + SHORT.head_s))
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.settimeout(PATIENCE_S)
    app.release.set()
    assert read_response(connection)[2] == b"/held 0"


def test_idle_connections_dont_keep_others_out_for_long(connect: Connect) -> None:
    held = [connect() for _ in range(MOST)]
    assert [read_all(connection) for connection in held] == [b""] * MOST
    connection = connect()
    connection.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_response(connection)[0] == 200
