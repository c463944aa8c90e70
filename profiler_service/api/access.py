"""Who may use which route: authentication of every request, and the scope that each route needs.

`Authenticate` refuses what has no valid token before anything else is read. A route names its scope
with `require`, or is `PUBLIC`. One that names nothing needs `read`, if it only reads. A browser
that asks for a page without a valid token is sent to the sign-in page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from profiler_service.access import scopes
from profiler_service.access.caller import Caller, current_caller, set_caller
from profiler_service.access.keyring import HINT
from profiler_service.answering.tokens import KnownTokens
from profiler_service.api.origins import READING
from profiler_service.api.problems import problem_response
from profiler_service.api.rate_limit import RateLimit, network_of
from profiler_service.errors import TooManyRequestsError, UnauthenticatedError

SCHEME = "token"
"""Name of the security scheme in OpenAPI."""
COOKIE = "lhp_token"
"""The cookie that holds the token of a browser that has signed in."""
PAGES = "/ui/"
"""Pages for people are at `/`, and below this address."""
SIGN_IN = "ui/sign-in"
_NOTHING: frozenset[scopes.Scope] = frozenset()
Public = AbstractSet[tuple[str, str]]
"""Methods and paths that need no token; of a path that ends with a slash, all below it."""


@dataclass(frozen=True)
class _Need:
    """A dependency that checks the caller's scope. None: the route is for everybody."""

    scope: scopes.Scope | None

    async def __call__(self) -> None:
        if self.scope is not None:
            current_caller().check(self.scope)


def require(scope: scopes.Scope) -> Any:
    """For `dependencies=[…]` of a route: only callers with this scope may use it."""
    return Depends(_Need(scope))


PUBLIC: Any = Depends(_Need(None))
"""For `dependencies=[…]` of a route that needs no token. Its path has no parameters."""


def _needs_of(route: APIRoute) -> list[_Need]:
    return [each.dependency for each in route.dependencies if isinstance(each.dependency, _Need)]


def read_by_default(public: Public) -> Any:
    """For `dependencies=[…]` of the application: routes that name no scope need `read`.

    The route counts, and not the address: `/hosts/{name}` matches addresses of other routes, too.
    """

    async def require_read(request: Request) -> None:
        route = request.scope["route"]
        if not _needs_of(route) and (request.method, route.path) not in public:
            current_caller().check(scopes.Scope.READ)

    return Depends(require_read)


def scope_of(route: APIRoute) -> scopes.Scope | None:
    """The scope that a route needs; None if it is public."""
    needs = _needs_of(route)
    return needs[-1].scope if needs else scopes.Scope.READ


class Authenticate:
    """An ASGI layer that knows who sends a request, and answers 401 to those who may not.

    It also answers 429 to a token that sends too much or has too much under way, and to an address
    that sends too much without one. The token stands in the header `Authorization`, or in the
    cookie of a browser that has signed in, and never in an address: those end up in logs and
    histories.
    """

    def __init__(self, app: ASGIApp, *, public: Public, rate_limit: str, most_open: int) -> None:
        """A token may have `most_open` requests under way."""
        self.app = app
        self._public = public
        self._rate = RateLimit(rate_limit)
        self._most_open = most_open
        self._num_open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, with its caller, if it may be there."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        known: KnownTokens = scope["app"].state.services.tokens
        client = scope.get("client")
        address = "" if client is None else client[0]
        if not known.is_required:
            set_caller(Caller(address=address))
            await self.app(scope, receive, send)
            return
        text: str | None = None
        try:
            text = _find_token(scope)
            token, allowed, _ = known.verify(text)
        except UnauthenticatedError as error:
            pause_s = self._rate.take_one(f"address {network_of(address)}")
            if pause_s is not None:
                await _too_many(pause_s)(scope, receive, send)
                return
            if not self._is_public(scope):
                refuse = _to_sign_in(scope) or _refuse(error, text is not None)
                await refuse(scope, receive, send)
                return
            set_caller(Caller(allowed=_NOTHING, address=address))
            await self.app(scope, receive, send)
            return
        pause_s = self._rate.take(token.id)
        if pause_s is not None:
            await _too_many(pause_s)(scope, receive, send)
            return
        if self._num_open[token.id] >= self._most_open:
            await _too_many_open(self._most_open)(scope, receive, send)
            return
        set_caller(Caller(allowed, token.id, token.name, address))
        self._num_open[token.id] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._num_open[token.id] -= 1

    def _is_public(self, scope: Scope) -> bool:
        method: str = "GET" if scope["method"] == "HEAD" else scope["method"]
        path = _find_path(scope)
        if (method, path) in self._public:
            return True
        folders = (each for asked, each in self._public if asked == method and each[-1] == "/")
        return ".." not in path and any(path.startswith(each) for each in folders if each != "/")


def _find_path(scope: Scope) -> str:
    """The address below that of the service."""
    whole: str = scope["path"]
    return whole.removeprefix(scope.get("root_path", ""))


def _to_sign_in(scope: Scope) -> ASGIApp | None:
    """Sends a browser to the sign-in page, if it asks for a page."""
    path = _find_path(scope)
    if scope["method"] not in READING or not (path == "/" or path.startswith(PAGES)):
        return None
    query = scope["query_string"].decode("latin-1")
    wanted = quote(path + (f"?{query}" if query else ""), safe="/")
    address = f"{'../' * (path.count('/') - 1) or './'}{SIGN_IN}?next={wanted}"
    if any(name == b"hx-request" for name, _ in scope["headers"]):
        # A part of a page would otherwise become the sign-in page.
        return Response(status_code=204, headers={"HX-Redirect": address})
    return Response(status_code=303, headers={"Location": address})


def _refuse(error: UnauthenticatedError, has_token: bool) -> ASGIApp:
    # RFC 6750, section 3: no error code where no token was sent.
    challenge = 'Bearer realm="lhp"' + (', error="invalid_token"' if has_token else "")
    return problem_response(error, headers={"WWW-Authenticate": challenge})


def _find_token(scope: Scope) -> str:
    """The token in the request's headers. Raises UnauthenticatedError if there isn't just one."""
    found: bytes | None = None
    cookies: list[bytes] = []
    for name, value in scope["headers"]:
        if name == b"authorization":
            if found is not None:
                raise UnauthenticatedError("send one token, not several", hint=HINT)
            found = value
        elif name == b"cookie":
            cookies.append(value)
    if found is None:
        signed_in = cookie_parser(b"; ".join(cookies).decode("latin-1")).get(COOKIE)
        if signed_in is not None:
            return signed_in
        raise UnauthenticatedError("this service needs a token", hint=HINT)
    kind, _, text = found.decode("latin-1").partition(" ")
    if kind.lower() != "bearer":
        raise UnauthenticatedError("the token must be sent as a Bearer token", hint=HINT)
    return text.strip(" ")


def _too_many(pause_s: int) -> ASGIApp:
    return problem_response(
        TooManyRequestsError(
            "more requests than one client may send",
            hint="send fewer, or many questions at once: POST /lhp/batch; operators set"
            " LHP_RATE_LIMIT",
        ),
        headers={"Retry-After": str(pause_s)},
    )


def _too_many_open(most: int) -> ASGIApp:
    return problem_response(
        TooManyRequestsError(
            f"{most} requests with this token are under way, and it may have no more",
            hint="wait for some of them, or ask many questions at once: POST /lhp/batch; operators"
            " set LHP_CLIENT_SHARE",
        )
    )


def find_public(routes: Iterable[BaseRoute], *, open_metrics: bool) -> set[tuple[str, str]]:
    """The methods and paths that need no token: those of public routes and of static files.

    Raises ValueError for a route that starts or changes something and names no scope.
    """
    public = {("GET", "/metrics")} if open_metrics else set()
    for route in routes:
        if isinstance(route, Mount):
            public.add(("GET", f"{route.path}/"))
        elif isinstance(route, APIRoute):
            if not _needs_of(route) and not set(route.methods or ()) <= set(READING):
                raise ValueError(f"{route.name} names no scope: give it `require(…)`")
            if scope_of(route) is None:
                public |= {(method, route.path) for method in route.methods or ()}
    return public


def describe_access(
    app: FastAPI, routes: Iterable[BaseRoute], *, public: Public, is_exposed: bool
) -> None:
    """Makes the OpenAPI description name the token, and the scope of every route."""
    describe = app.openapi
    needed = {
        (route.path_format, method.lower()): (
            None if (method, route.path) in public else scope_of(route)
        )
        for route in routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }

    def openapi() -> dict[str, Any]:
        described = describe()
        described["components"].setdefault("securitySchemes", {})[SCHEME] = {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "lhp_ID_SECRET",
            "description": "An access token (`lhp tokens create`). Needed as soon as there is one,"
            " or if other machines reach the service. Scopes: "
            + "; ".join(f"`{each}`: {scopes.MEANINGS[each]}" for each in scopes.Scope)
            + ".",
        }
        for path, operations in described["paths"].items():
            for method, operation in operations.items():
                scope = needed[path, method]
                operation["security"] = [] if scope is None else [{SCHEME: [scope.value]}]
                if scope is not None and not is_exposed:
                    operation["security"].append({})  # as long as there is no token
        return described

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
