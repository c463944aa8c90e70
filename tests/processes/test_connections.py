"""How much a connection may use, and how many there may be: over real connections."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
from dataclasses import replace

import pytest
import uvicorn

from profiler_service.processes.connections import THIS_MACHINE, find_sender
from tests.processes.connecting import (
    LIMITS,
    MOST,
    PATIENCE_S,
    App,
    Connect,
    app,
    check_refusal,
    connect,
    limits,
    read_all,
    read_response,
    server,
    wait_until,
)

__all__ = ["app", "connect", "limits", "server"]


# Usual requests


def test_usual_requests_are_answered_on_one_connection(connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_response(connection)[2] == b"/a 0"
    connection.sendall(b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
    assert read_response(connection)[2] == b"/b 5"
    body = b"".join(b"10000\r\n" + b"y" * 65536 + b"\r\n" for _ in range(16)) + b"0\r\n\r\n"
    connection.sendall(b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    assert read_response(connection)[2] == b"/c 1048576"
    connection.sendall(b"GET /d HTTP/1.1\r\nHost: x\r\n" + b"X-Y: z\r\n" * 19 + b"\r\n")
    assert read_response(connection)[2] == b"/d 0"


def test_a_request_that_comes_in_pieces_is_one(connect: Connect) -> None:
    connection = connect()
    for piece in (b"GE", b"T /a HT", b"TP/1.1\r\nHo", b"st: x\r\n", b"\r\n"):
        connection.sendall(piece)
    assert read_response(connection)[2] == b"/a 0"


def test_pipelined_requests_are_answered_in_order(connect: Connect) -> None:
    connection = connect()
    asked = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(LIMITS.waiting))
    connection.sendall(asked)
    for n in range(LIMITS.waiting):
        status, _, body = read_response(connection)
        assert (status, body) == (200, b"/%d 0" % n)


def test_the_wish_for_another_protocol_is_ignored(connect: Connect) -> None:
    connection = connect()
    connection.sendall(
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    status, headers, body = read_response(connection)
    assert (status, body, headers["connection"]) == (200, b"/a 0", "close")
    assert read_all(connection) == b""


def test_headers_after_the_body_are_no_headers_of_the_request(connect: Connect, app: App) -> None:
    connection = connect()
    connection.sendall(
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nhi\r\n0\r\nHost: evil\r\n\r\n"
    )
    assert read_response(connection)[2] == b"/a 2"
    assert [value for name, value in app.headers[0] if name == b"host"] == [b"x"]


def test_an_absolute_address_names_the_host_whatever_the_header_says(
    connect: Connect, app: App
) -> None:
    connection = connect()
    connection.sendall(b"GET http://evil.example:80/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert read_response(connection)[2] == b"/a 0"
    assert [value for name, value in app.headers[0] if name == b"host"] == [b"evil.example:80"]


# Size


@pytest.mark.parametrize(
    ("begin", "repeated", "status", "problem"),
    [
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX: ", b"y" * 65536, 431, "headers-too-large"),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n", b"X-%d: y\r\n" * 4096, 431, "headers-too-large"),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n", b"y" * 65536, 431, "headers-too-large"),
        (b"GET /a?", b"y" * 65536, 414, "query-too-long"),
        (b"", b"y" * 65536, 400, "malformed-http"),
    ],
    ids=["one value", "many headers", "one name", "address", "method"],
)
def test_headers_without_end_are_refused_at_once(
    connect: Connect, begin: bytes, repeated: bytes, status: int, problem: str
) -> None:
    connection = connect()
    connection.sendall(begin)
    with contextlib.suppress(ConnectionError):
        for _ in range(64):
            connection.sendall(repeated)
    check_refusal(connection, status, problem)


@pytest.mark.parametrize("pieces", [1, 37])
def test_the_limit_counts_however_headers_are_cut(connect: Connect, pieces: int) -> None:
    def ask(value_bytes: int) -> socket.socket:
        connection = connect()
        head = b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"y" * value_bytes + b"\r\n\r\n"
        size = -(-len(head) // pieces)
        for start in range(0, len(head), size):
            connection.sendall(head[start : start + size])
        return connection

    # What counts: the address (2), Host (4) and x (1), X (1) and its value.
    assert read_response(ask(LIMITS.head_bytes - 8))[0] == 200
    check_refusal(ask(LIMITS.head_bytes - 7), 431, "headers-too-large")


def test_one_header_more_than_allowed_is_refused(connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"GET /d HTTP/1.1\r\nHost: x\r\n" + b"X-Y: z\r\n" * 20 + b"\r\n")
    check_refusal(connection, 431, "headers-too-large")


@pytest.mark.parametrize(
    "endless",
    [b"X-Y: z\r\n", b"X: " + b"y" * 60_000],
    ids=["many", "long"],
)
def test_headers_after_the_body_count_too(connect: Connect, endless: bytes) -> None:
    connection = connect()
    connection.sendall(
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"
    )
    with contextlib.suppress(ConnectionError):
        connection.sendall(endless * 30)
    check_refusal(connection, 431, "headers-too-large")


def test_the_limits_hold_for_each_request_of_a_connection(connect: Connect) -> None:
    connection = connect()
    value = b"y" * (LIMITS.head_bytes - 100)
    for _ in range(5):
        connection.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + value + b"\r\n\r\n")
        assert read_response(connection)[0] == 200
    connection.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + 2 * value + b"\r\n\r\n")
    check_refusal(connection, 431, "headers-too-large")


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01", b"GET / NONSENSE\r\n\r\n"])
def test_what_is_no_http_is_refused(connect: Connect, sent: bytes) -> None:
    connection = connect()
    connection.sendall(sent)
    check_refusal(connection, 400, "malformed-http")


# Number


def test_connections_beyond_the_most_are_told_to_come_later(connect: Connect, app: App) -> None:
    held = [connect() for _ in range(MOST)]
    for connection in held:
        connection.sendall(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
    check_refusal(connect(), 503, "overloaded")
    app.release.set()
    for connection in held:
        assert read_response(connection)[2] == b"/held 0"
        connection.close()


def test_requests_whose_clients_went_away_count_until_they_end(
    connect: Connect, app: App, server: uvicorn.Server
) -> None:
    for n in range(MOST):
        connection = connect()
        connection.sendall(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda n=n: len(server.server_state.tasks) == n + 1)  # type: ignore[misc]
        connection.close()
    connection = connect()
    connection.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    status, headers, body = read_response(connection)
    assert (status, json.loads(body)["type"]) == (503, "/problems/overloaded")
    assert headers["retry-after"]
    app.release.set()
    wait_until(lambda: not server.server_state.tasks)
    connection.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_response(connection)[0] == 200


def test_requests_that_wait_for_others_are_bounded(connect: Connect, app: App) -> None:
    connection = connect()
    connection.sendall(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
    # The server reads no further while the first one is held, so sending stops.
    connection.settimeout(0.5)
    with contextlib.suppress(ConnectionError, TimeoutError):
        for _ in range(64):
            connection.sendall(b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n" * 4096)
    connection.settimeout(PATIENCE_S)
    app.release.set()
    # The first, and those that may wait; then the connection ends.
    answers = read_all(connection).count(b"HTTP/1.1 200 OK")
    assert answers == 1 + LIMITS.waiting


@pytest.mark.parametrize("limits", [replace(LIMITS, of_one_client=2, shared=())])
def test_one_address_has_only_its_share_of_the_connections(
    connect: Connect, app: App, server: uvicorn.Server
) -> None:
    held = [connect("127.0.0.2") for _ in range(2)]
    for connection in held:
        connection.sendall(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
    refused = connect("127.0.0.2")
    status, headers, body = read_response(refused)
    assert (status, json.loads(body)["type"]) == (429, "/problems/too-many-requests")
    assert headers["retry-after"] and headers["connection"] == "close"
    assert read_all(refused) == b""
    other = connect("127.0.0.3")
    other.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_response(other)[0] == 200
    app.release.set()
    for connection in held:
        assert read_response(connection)[2] == b"/held 0"
        connection.close()
    wait_until(lambda: len(server.server_state.connections) == 1)
    again = connect("127.0.0.2")
    again.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_response(again)[0] == 200


@pytest.mark.parametrize("limits", [replace(LIMITS, of_one_client=1)])
def test_programs_of_this_machine_aren_t_taken_for_one_client(connect: Connect) -> None:
    for connection in [connect() for _ in range(3)]:
        connection.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(connection)[0] == 200


@pytest.mark.parametrize(
    ("address", "sender"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),  # how an IPv6 socket sees IPv4
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        *((each, None) for each in ("127.0.0.9", "::1", "::ffff:127.0.0.1", "10.1.2.3")),
    ],
)
def test_a_client_is_an_address_or_a_network_that_one_machine_may_have(
    address: str, sender: str | None
) -> None:
    shared = [*THIS_MACHINE, ipaddress.ip_network("10.0.0.0/8")]
    assert find_sender((address, 1234), shared) == sender
