"""Refuses what a web page of another site makes a browser send to this service.

A page can do so in two ways. With DNS rebinding, the page's own name suddenly means this machine,
and the browser sends that name as `Host`. And any page may send requests here without seeing the
responses; the browser then says whose page it is, in `Origin` or `Sec-Fetch-Site`. Programs that
aren't browsers send neither of the two, and are let through.

The operator may let pages of other origins in: `RefuseForeign` then takes their requests, and
`ShareResponses` lets the browser show them the responses. Both get the same list.

Knows neither routes nor the domain.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from profiler_service.api.problems import problem_response
from profiler_service.errors import (
    ForeignHostError,
    ForeignOriginError,
    LhpError,
    MalformedHttpError,
)
from profiler_service.loopback import is_loopback

READING = ("GET", "HEAD")
CHANGING = ("POST", "PUT", "PATCH", "DELETE")
ANY_ORIGIN = "*"
"""Among the allowed origins: pages of every site may read, and start nothing."""
_MAX_HOST_BYTES = 512
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^][:@/?#\\\s]+)(:[0-9]*)?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_IS_FOREIGN = "lhp.is_foreign"
_SENT_BY_PAGES = ("Authorization", "If-None-Match", "Last-Event-ID", "X-Request-Id")
"""Headers that a page may send, besides those that every page may send anywhere."""
_SHOWN_TO_PAGES = ("ETag", "Location", "Retry-After", "WWW-Authenticate", "X-Request-Id")
"""Headers of a response that a page may read, besides those that every page may read."""


class RefuseForeign:
    """An ASGI layer that checks `Host`, `Origin` and `Sec-Fetch-Site`.

    It answers 421 where `Host` is no name of this service, and 403 to another site's page that asks
    for more than to read. Reading is let through, because following a link is that, too. A route
    that starts work when it is read calls `refuse_foreign`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        listen: str,
        allowed_hosts: Iterable[str],
        allowed_origins: Iterable[str] = (),
    ) -> None:
        """`allowed_hosts` are names of this service besides loopback and `listen`.

        `*.example` stands for every name that ends so. A page of such a host may ask for anything,
        and so may one of the `allowed_origins`. With ANY_ORIGIN, all other pages may only read.
        """
        self.app = app
        self._origins = frozenset(allowed_origins)
        self._listen = listen.lower()
        self._allowed = [name.lower() for name in allowed_hosts]
        self._is_own = functools.lru_cache(maxsize=256)(self._compare_host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, unless another site has sent it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":  # there is none here
            await send({"type": "websocket.close", "code": 1008})
        elif (error := self._find_error(scope)) is not None:
            await problem_response(error)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _find_error(self, scope: Scope) -> LhpError | None:
        """Why the request is refused, if it is. Marks in `scope` what another site has sent."""
        hosts: list[bytes] = []
        origin = site = intended = b""
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"access-control-request-method":
                intended = value
        if len(hosts) != 1 and (hosts or scope["http_version"] != "1.0"):
            return MalformedHttpError(
                f"the request has {len(hosts) or 'no'} Host headers", hint="send exactly one"
            )
        host = hosts[0] if hosts else b""
        # The address that the connection came in on. Without a server, tests call it by a name.
        server = scope.get("server")
        if hosts and not self._is_own(host, str(server[0]).lower() if server else ""):
            return ForeignHostError(
                f"this service isn't called {host[:_MAX_HOST_BYTES].decode('latin-1')!r}",
                hint="ask for localhost or 127.0.0.1, or list the name in LHP_ALLOWED_HOSTS where"
                " the service runs",
            )
        if (origin or site) and self._is_foreign(host, origin.decode("latin-1"), site):
            method = scope["method"]
            if method == "OPTIONS" and ANY_ORIGIN in self._origins:
                method = intended.decode("latin-1")  # the browser asks before it sends that
            if method not in READING:
                return _foreign_origin()
            scope[_IS_FOREIGN] = True
        return None

    def _compare_host(self, host: bytes, server: str) -> bool:
        """Whether `host` is a name of this service, at any port."""
        found = (
            _AUTHORITY.fullmatch(host.decode("latin-1")) if len(host) < _MAX_HOST_BYTES else None
        )
        if found is None:
            return False
        name = found[1].lower().strip("[]").removesuffix(".")
        return is_loopback(name) or name in (self._listen, server) or self._is_allowed(name)

    def _is_allowed(self, name: str) -> bool:
        return any(
            name.endswith(each[1:]) if each.startswith("*.") else name == each
            for each in self._allowed
        )

    def _is_foreign(self, host: bytes, origin: str, site: bytes) -> bool:
        """Whether a page of another site has sent the request; another port is another site."""
        try:
            page = urlsplit(origin.lower())
            name = page.hostname or ""
        except ValueError:
            return True
        if origin == "null":
            return True
        if origin.lower() in self._origins or self._is_allowed(name):
            return False
        if site:
            # Only browsers can set it. It also holds behind a proxy that changes `Host`.
            return site not in (b"same-origin", b"none")
        port = _DEFAULT_PORTS.get(page.scheme, "")
        own = host.decode("latin-1").lower()
        return page.netloc.removesuffix(port) != own.removesuffix(port)


def is_foreign(request: Request) -> bool:
    """Whether a page of another site has sent the request."""
    return _IS_FOREIGN in request.scope


class ShareResponses(CORSMiddleware):
    """An ASGI layer that lets pages of the allowed origins read responses (CORS).

    It decides nothing: what those pages may ask for, `RefuseForeign` has decided, around it. Tokens
    come in the header `Authorization`. A browser never adds cookies or passwords of its own.
    """

    def __init__(self, app: ASGIApp, *, allowed_origins: Sequence[str]) -> None:
        is_for_all = ANY_ORIGIN in allowed_origins
        super().__init__(
            app,
            allow_origins=allowed_origins,
            allow_methods=READING if is_for_all else (*READING, *CHANGING),
            allow_headers=_SENT_BY_PAGES,
            allow_credentials=False,
            allow_private_network=not is_for_all,
            expose_headers=_SHOWN_TO_PAGES,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """What the browser may send; a problem if it may not send this."""
        response = super().preflight_response(request_headers)
        return response if response.status_code == 200 else problem_response(_foreign_origin())


async def refuse_foreign(request: Request) -> None:
    """Checks that no page of another site has sent the request. Raises ForeignOriginError."""
    if is_foreign(request):
        raise _foreign_origin()


def _foreign_origin() -> ForeignOriginError:
    return ForeignOriginError(
        "a page of another site has sent this request, which starts or ends work",
        hint="ask from a program or from /docs; if the page may ask, list its origin in"
        " LHP_ALLOWED_ORIGINS where the service runs, or its host in LHP_ALLOWED_HOSTS if it is a"
        " name of the service",
    )
