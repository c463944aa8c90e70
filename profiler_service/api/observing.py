"""An ASGI layer around all others: gives every request its id, and times it. Knows no route."""

from __future__ import annotations

import time

from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from profiler_service.telemetry.log_context import choose_request_id, log_context
from profiler_service.telemetry.metrics import ServiceMetrics
from profiler_service.telemetry.traces import describe_span

REQUEST_ID_HEADER = b"x-request-id"


class ObserveRequests:
    """An ASGI layer that names each request, for the logs and for whoever asked, and counts it.

    The client's own `X-Request-Id` is kept if it can be. The response has it. A request takes until
    its response begins: streams of events stay open for as long as somebody looks.
    """

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_s = time.perf_counter()
        request_id = choose_request_id(_find_request_id(scope))
        header = (REQUEST_ID_HEADER, request_id.encode("ascii"))

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), header]
                self._metrics.observe_request(
                    scope["method"],
                    # Set by the router, which gets this very mapping.
                    _find_pattern(scope),
                    message["status"],
                    time.perf_counter() - started_s,
                )
            await send(message)

        describe_span("lhp.request_id", request_id)
        with log_context(request_id=request_id):
            await self.app(scope, receive, send_with_id)


def _find_pattern(scope: Scope) -> str | None:
    """The pattern of the route's path; None if the address has no route."""
    route = scope.get("route")
    return route.path_format if isinstance(route, Route) else getattr(route, "path", None)


def _find_request_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER:
            return str(value, "latin-1")
    return None
