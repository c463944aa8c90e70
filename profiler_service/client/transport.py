"""Sends requests, reads events and pauses, through httpx; blocking or asynchronous.

    Transport             makes requests, and turns the errors of httpx into ours
    ├─ BlockingTransport  over httpx.Client: its coroutines never suspend
    └─ AsyncTransport     over httpx.AsyncClient

Only this module uses httpx to send requests. Knows no route.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import httpx
import httpx_sse
import stamina
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from profiler_service.client.address import Address
from profiler_service.client.errors import (
    ContractError,
    NetworkSettingsError,
    ServiceUnreachableError,
)
from profiler_service.client.problems import error_of
from profiler_service.client.retries import Deadline, Patience
from profiler_service.errors import InvalidRequestError, LhpError

Query = Mapping[str, str | int | float]
Take = Callable[[httpx_sse.ServerSentEvent], bool]
"""Takes an event, and returns whether to wait for another one."""
H = TypeVar("H", bound=httpx.Client | httpx.AsyncClient)

CONNECT_TIMEOUT_S = 5.0
GRACE_S = 5.0
"""How long to wait for a response when the deadline has come."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request to the service."""

    path: str
    """Relative to the service's address: `/hosts`."""
    method: Literal["GET", "POST", "PATCH", "DELETE"] = "GET"
    params: Query = field(default_factory=dict)
    body: BaseModel | None = None
    hold_s: float | None = None
    """How long the service may wait until it knows the answer; sent as `wait`."""


FAULTS: Mapping[type[Exception], tuple[type[LhpError], str, str]] = {
    httpx.ConnectError: (
        ServiceUnreachableError,
        "no service at {url} ({error})",
        "start one with `lhp serve`, or give the address of yours",
    ),
    httpx.ConnectTimeout: (
        ServiceUnreachableError,
        "no service at {url} (no connection in time)",
        "start one with `lhp serve`, or give the address of yours",
    ),
    httpx.ProxyError: (
        ServiceUnreachableError,
        "the proxy in front of {url} refuses ({error})",
        "correct or unset ALL_PROXY, HTTP_PROXY, HTTPS_PROXY; NO_PROXY lists hosts without one",
    ),
    httpx.TimeoutException: (
        ServiceUnreachableError,
        "the service at {url} didn't answer in time",
        "look at its log, or give the address of another one",
    ),
    httpx.RequestError: (
        ServiceUnreachableError,
        "the service at {url} broke off its answer ({error})",
        "look at its log, then try again",
    ),
    httpx_sse.SSEError: (
        ContractError,
        "{url} sent no events ({error})",
        "is a proxy before it, or is it an older service?",
    ),
    UnicodeError: (
        InvalidRequestError,
        "that can't be sent to {url!a}: {error}",
        "send only text that can be written in UTF-8",
    ),
    PydanticSerializationError: (
        InvalidRequestError,
        "that can't be sent to {url!a}: {error}",
        "send only text that can be written in UTF-8, and no lists that are nested deeply",
    ),
}
"""For each error of httpx: our error class, its message and its hint.

The nearest base class counts. An InvalidURL can't occur, because addresses are checked before.
"""


@contextlib.contextmanager
def translating(address: Address) -> Iterator[None]:
    """In this context, the errors of the libraries become ours."""
    try:
        yield
    except tuple(FAULTS) as error:
        nearest = next(base for base in type(error).__mro__ if base in FAULTS)
        kind, message, hint = FAULTS[nearest]
        said = message.format(url=address, error=str(error) or type(error).__name__)
        raise kind(said, hint=hint) from error


class Transport(ABC, Generic[H]):
    """Makes requests to one service; its subclasses send, listen and pause."""

    def __init__(self, address: Address, http: H, *, timeout_s: float) -> None:
        self.address = address
        self.http = http
        self._timeout_s = timeout_s

    @abstractmethod
    async def send(self, call: Call, patience: Patience) -> httpx.Response:
        """The response, with a status 2xx. Tries again as long as the patience lasts.

        Raises the error class of the problem, or one of `profiler_service.client.errors`.
        """

    @abstractmethod
    async def listen(self, call: Call, take: Take, *, quiet_s: float) -> None:
        """Reads server-sent events until `take` wants no more, or the stream ends.

        Raises as `send` does, and ServiceUnreachableError after `quiet_s` seconds of silence.
        """

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Returns after `seconds`."""

    def _request(self, call: Call, deadline: Deadline) -> httpx.Request:
        hold_s = None if call.hold_s is None else min(call.hold_s, deadline.left_s)
        read_s = (hold_s or 0) + min(self._timeout_s, max(deadline.left_s, GRACE_S))
        return self.http.build_request(
            call.method,
            call.path,
            params={**call.params, **({} if hold_s is None else {"wait": hold_s})},
            content=None if call.body is None else call.body.model_dump_json(),
            headers=None if call.body is None else {"Content-Type": "application/json"},
            timeout=self._timeouts(read_s),
        )

    def _stream_request(self, call: Call, quiet_s: float) -> httpx.Request:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        return self.http.build_request(
            call.method, call.path, headers=headers, timeout=self._timeouts(quiet_s)
        )

    def _timeouts(self, read_s: float) -> httpx.Timeout:
        return httpx.Timeout(read_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s))

    @staticmethod
    def _check(response: httpx.Response) -> httpx.Response:
        """The response, if it isn't an error. The body of an error must have been read before."""
        try:
            return response.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise error_of(response) from error


class BlockingTransport(Transport[httpx.Client]):
    """A transport that blocks and never suspends."""

    def __init__(
        self,
        address: Address,
        *,
        token: str | None,
        timeout_s: float,
        sleep: Callable[[float], None] | None,
    ) -> None:
        """Raises NetworkSettingsError."""
        http = open_http(httpx.Client, httpx.HTTPTransport, address, token)
        super().__init__(address, http, timeout_s=timeout_s)
        self._sleep = sleep or time.sleep

    async def send(self, call: Call, patience: Patience) -> httpx.Response:
        """As any transport; blocks meanwhile."""
        retrying = stamina.RetryingCaller(**patience.backoff)
        return retrying(patience.pause_s, self._send_once, call, patience.deadline)

    def _send_once(self, call: Call, deadline: Deadline) -> httpx.Response:
        with translating(self.address):
            response = self.http.send(self._request(call, deadline))
        return self._check(response)

    async def listen(self, call: Call, take: Take, *, quiet_s: float) -> None:
        """As any transport; blocks meanwhile."""
        with translating(self.address):
            request = self._stream_request(call, quiet_s)
            response = self.http.send(request, stream=True)
        with contextlib.closing(response):
            if not response.is_success:
                with translating(self.address):
                    response.read()
            self._check(response)
            events = httpx_sse.EventSource(response).iter_sse()
            while True:
                with translating(self.address):
                    event = next(events, None)
                if event is None or not take(event):
                    return

    async def pause(self, seconds: float) -> None:
        """As any transport; blocks meanwhile."""
        self._sleep(seconds)


class AsyncTransport(Transport[httpx.AsyncClient]):
    """A transport that suspends, so that the event loop can go on."""

    def __init__(
        self,
        address: Address,
        *,
        token: str | None,
        timeout_s: float,
        sleep: Callable[[float], Awaitable[None]] | None,
    ) -> None:
        """Raises NetworkSettingsError."""
        http = open_http(httpx.AsyncClient, httpx.AsyncHTTPTransport, address, token)
        super().__init__(address, http, timeout_s=timeout_s)
        self._sleep = sleep or asyncio.sleep

    async def send(self, call: Call, patience: Patience) -> httpx.Response:
        """As any transport."""
        retrying = stamina.AsyncRetryingCaller(**patience.backoff)
        return await retrying(patience.pause_s, self._send_once, call, patience.deadline)

    async def _send_once(self, call: Call, deadline: Deadline) -> httpx.Response:
        with translating(self.address):
            response = await self.http.send(self._request(call, deadline))
        return self._check(response)

    async def listen(self, call: Call, take: Take, *, quiet_s: float) -> None:
        """As any transport."""
        with translating(self.address):
            request = self._stream_request(call, quiet_s)
            response = await self.http.send(request, stream=True)
        async with contextlib.aclosing(response):
            if not response.is_success:
                with translating(self.address):
                    await response.aread()
            self._check(response)
            async with contextlib.aclosing(httpx_sse.EventSource(response).aiter_sse()) as events:
                while True:
                    with translating(self.address):
                        event = await anext(events, None)
                    if event is None or not take(event):
                        return

    async def pause(self, seconds: float) -> None:
        """As any transport."""
        await self._sleep(seconds)


def _authorization(token: str | None) -> dict[str, str]:
    """The header that carries the token, or LHP_TOKEN if that is None. Raises InvalidRequestError.

    The client follows no redirects, so the token goes to the service's address alone.
    """
    text = (os.environ.get("LHP_TOKEN", "") if token is None else token).strip()
    if not text:
        return {}
    if not (text.isascii() and text.isprintable()):
        raise InvalidRequestError(
            "the access token has characters that can't be sent", hint="correct or unset LHP_TOKEN"
        )
    return {"Authorization": f"Bearer {text}"}


def open_http(
    client: type[H], transport: Callable[..., object], address: Address, token: str | None
) -> H:
    """The httpx client of the service. Raises NetworkSettingsError.

    Loopback addresses are reached without a proxy, because no proxy can reach them. All
    certificates are those that the environment names. A user and a password in the address are sent
    only without a token: one header would carry both, and the service itself never asks for them.
    """
    headers = _authorization(token)
    options: dict[str, object] = {
        "base_url": address.url.copy_with(userinfo=b"") if headers else address.url,
        "headers": headers,
    }
    try:
        if address.is_loopback:
            # Without TLS, no certificate is needed, and reading them all takes 50 ms.
            plain = address.url.scheme == "http"
            verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True
            options["transport"] = transport(verify=verify)
        return client(**options)  # type: ignore[arg-type]
    except ImportError as error:
        raise NetworkSettingsError(
            "the environment names a SOCKS proxy, which needs the package socksio",
            hint="install socksio; or correct or unset ALL_PROXY, HTTP_PROXY, HTTPS_PROXY",
        ) from error
    except (OSError, ValueError, httpx.InvalidURL) as error:
        raise NetworkSettingsError(
            f"the proxy or the certificates that the environment names can't be used: {error}",
            hint="correct or unset ALL_PROXY, HTTP_PROXY, HTTPS_PROXY, SSL_CERT_FILE",
        ) from error
