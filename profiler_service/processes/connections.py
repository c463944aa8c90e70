"""The service's side of a connection: bounded in size, in time and in number.

Of uvicorn's protocols, the fast one (httptools) keeps headers of any size and waits for ever for
their rest. `BoundedConnection` adds the limits. Bytes are counted before they are kept, and one
look a second ends what takes too long, so that a usual request costs no timer. Knows no route.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from profiler_service.api.problems import problem_response
from profiler_service.errors import (
    HeadersTooLargeError,
    LhpError,
    MalformedHttpError,
    OverloadedError,
    QueryTooLongError,
    RequestTimeoutError,
    TooManyRequestsError,
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
THIS_MACHINE: Sequence[Network] = (
    ipaddress.IPv4Network("127.0.0.0/8"),
    ipaddress.IPv6Network("::1/128"),
)


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """What one connection may use, and how many one client may have."""

    head_bytes: int = 32 << 10
    """Longest request line and headers together; also of what is read without being kept."""
    headers: int = 100
    """Most headers."""
    waiting: int = 16
    """Most requests that wait for the response to one before them."""
    head_s: float = 10.0
    """Longest time until the headers are there."""
    body_s: float = 30.0
    """Longest time until the body is there."""
    unread_s: float = 30.0
    """Longest time in which the client reads nothing of what it is sent."""
    linger_s: float = 2.0
    """How long a client that was refused may take to read why, and to stop sending."""
    look_s: float = 1.0
    """Time between two looks at the clock."""
    of_one_client: int | None = None
    """Most connections of one client; None: as many as there may be in all."""
    shared: Sequence[Network] = THIS_MACHINE
    """Addresses that several clients share, such as a proxy's: their connections aren't counted."""


_SLICE_BYTES = 16 << 10
"""The parser gets so much at a time, and is asked in between."""


class _RefusedError(Exception):
    """Stops the parser."""


class BoundedConnection(HttpToolsProtocol):
    """One connection. uvicorn's `limit_concurrency` bounds their number, and that of requests."""

    limits: ClassVar[ConnectionLimits] = ConnectionLimits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # uvicorn's own answer to too many is no problem document.
        self._most, self.limit_concurrency = config.limit_concurrency, None
        self._is_idle = True
        """Whether nothing of a next request is there."""
        self._in_head = True
        self._head_bytes = 0
        self._num_headers = 0
        self._bytes_since_told = 0
        """Bytes that the parser was given since it last said what it found in them."""
        self._receiving_since_s: float | None = None
        """Since when the rest of the headers or of the body is waited for."""
        self._stuck_since_s: float | None = None
        """Since when nothing could be sent."""
        self._error: LhpError | None = None
        """Why the request is refused. Whatever comes after is thrown away."""
        self._sender: str | None = None
        """Whose connection it is; None if several clients share the address."""
        self._look: asyncio.TimerHandle | None = None

    # From the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a request."""
        super().connection_made(transport)
        self._receiving_since_s = self.loop.time()
        self._look = self.loop.call_later(self.limits.look_s, self._look_at_clock)
        self._sender = find_sender(self.client, self.limits.shared)
        if self._most is not None and len(self.connections) > self._most:
            self._error = _overloaded()
        elif self._has_too_many():
            self._error = _too_many(self.limits)
        if self._error is not None:
            self._write_error(self._error)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Releases what the connection held."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, as long as what it says is within the limits."""
        self._unset_keepalive_if_required()
        if self._error is not None:
            return
        self._is_idle = False
        if self._receiving_since_s is None:
            self._receiving_since_s = self.loop.time()
        try:
            for start in range(0, len(data), _SLICE_BYTES):
                # What isn't told of may be kept: half a header, for example.
                self._bytes_since_told += min(len(data) - start, _SLICE_BYTES)
                self.parser.feed_data(
                    data if len(data) <= _SLICE_BYTES else data[start : start + _SLICE_BYTES]
                )
                if self._bytes_since_told > self.limits.head_bytes:
                    self._error = _too_large(self.limits)
                    raise httptools.HttpParserError
        except httptools.HttpParserUpgrade:
            # HTTP lets a server ignore the wish for another protocol. What follows the request
            # would be in that protocol.
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._refuse(
                self._error
                or MalformedHttpError("this isn't HTTP/1.1", hint="use an HTTP library to send it")
            )

    def resume_writing(self) -> None:
        """Goes on sending: the client has read something."""
        self._stuck_since_s = None
        super().resume_writing()

    # From the parser

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._is_idle = False
        self._in_head = True
        self._head_bytes = self._num_headers = self._bytes_since_told = 0
        self._receiving_since_s = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """A part of the address is there."""
        self._head_bytes += len(url)
        self._bytes_since_told = 0
        if self._head_bytes > self.limits.head_bytes:
            self._stop(
                QueryTooLongError(
                    f"the address is longer than {self.limits.head_bytes} bytes",
                    hint="leave out parameters that the service doesn't need",
                    see="/docs",
                )
            )
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header is there."""
        self._head_bytes += len(name) + len(value)
        self._num_headers += 1
        self._bytes_since_told = 0
        if self._head_bytes > self.limits.head_bytes or self._num_headers > self.limits.headers:
            self._stop(_too_large(self.limits))
        if self._in_head:  # no route asks for headers that come after the body
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The headers are there; the body follows."""
        if len(self.pipeline) >= self.limits.waiting:
            self._stop(_overloaded())
        self._in_head = False
        self._bytes_since_told = 0
        self._receiving_since_s = self.loop.time()
        if not self.url.startswith(b"/"):
            # An absolute address names the host, whatever the header says (RFC 9112, 3.2.2).
            others = [header for header in self.headers if header[0] != b"host"]
            self.headers[:] = [*others, (b"host", urlsplit(self.url).netloc)]
        is_busy = self._most is not None and len(self.tasks) >= self._most
        self.app = problem_response(_overloaded()) if is_busy else self.config.loaded_app
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body is there."""
        self._bytes_since_told = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there as a whole."""
        self._is_idle = self._in_head = True
        self._bytes_since_told = 0
        self._receiving_since_s = None
        super().on_message_complete()

    # Our own

    def _has_too_many(self) -> bool:
        """Whether its client has more connections than one may have, this one included."""
        most = self.limits.of_one_client
        if most is None or self._sender is None:
            return False
        others = (each for each in self.connections if isinstance(each, BoundedConnection))
        return sum(each._sender == self._sender for each in others) > most

    def _stop(self, error: LhpError) -> None:
        self._error = error
        raise _RefusedError

    def _look_at_clock(self) -> None:
        """Ends what takes too long, or looks again later."""
        now_s = self.loop.time()
        if not (self.flow.write_paused or self.transport.is_closing()):
            self._stuck_since_s = None
        elif self._stuck_since_s is None:
            self._stuck_since_s = now_s
        elif now_s - self._stuck_since_s >= self.limits.unread_s:
            self.transport.abort()
            return
        if self._receiving_since_s is not None:
            waited_s = now_s - self._receiving_since_s
            if self._error is not None:
                if waited_s >= self.limits.linger_s:
                    self.transport.abort()
                    return
            elif self.flow.read_paused:
                self._receiving_since_s = now_s  # it's this side that doesn't take the rest
            elif waited_s >= (self.limits.head_s if self._in_head else self.limits.body_s):
                self._refuse(_too_slow("headers" if self._in_head else "body", waited_s))
        self._look = self.loop.call_later(self.limits.look_s, self._look_at_clock)

    def _refuse(self, error: LhpError) -> None:
        """Answers with the error where a response is due, and ends the connection."""
        self._error = error
        self._receiving_since_s = None
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._in_head:  # requests before this one are answered first
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if self.pipeline or cycle.response_started:
                self.transport.close()
                return
        if self._is_idle:
            self.transport.close()
            return
        self._write_error(error)
        # If it were closed at once, a client that still sends would never see the response.
        if self.transport.can_write_eof():  # not with TLS: it is closed after `linger_s`
            self.transport.write_eof()
        self._receiving_since_s = self.loop.time()

    def _write_error(self, error: LhpError) -> None:
        response = problem_response(error)
        head = [*self.server_state.default_headers, *response.raw_headers]
        lines = [STATUS_LINE[response.status_code]]
        lines += [b"%s: %s\r\n" % header for header in (*head, (b"connection", b"close"))]
        self.transport.write(b"".join([*lines, b"\r\n", bytes(response.body)]))


def _too_large(limits: ConnectionLimits) -> HeadersTooLargeError:
    return HeadersTooLargeError(
        f"the headers are more than {limits.headers}, or longer than {limits.head_bytes} bytes",
        hint="send fewer or shorter headers",
    )


def _too_slow(part: str, waited_s: float) -> RequestTimeoutError:
    return RequestTimeoutError(
        f"the {part} hadn't arrived after {waited_s:.0f} s", hint="send the request again, at once"
    )


def _overloaded() -> OverloadedError:
    return OverloadedError(
        "the service has as many connections, or requests under way, as it takes",
        hint="ask again later; the operator sets LHP_MAX_CONNECTIONS",
    )


def _too_many(limits: ConnectionLimits) -> TooManyRequestsError:
    return TooManyRequestsError(
        f"your address has {limits.of_one_client} connections, and may have no more",
        hint="close some, or use one for many requests; the operator sets LHP_CLIENT_SHARE",
    )


def find_sender(client: tuple[str, int] | None, shared: Sequence[Network]) -> str | None:
    """Whose connection it is: of an IPv4 address, or of an IPv6 network of 64 bits.

    A machine chooses the rest of its IPv6 address itself. None if several clients share the
    address, or if there is none.
    """
    if client is None:
        return None
    address = ipaddress.ip_address(client[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in shared):
        return None
    bits = 32 if address.version == 4 else 64
    return str(ipaddress.ip_network((address, bits), strict=False))
