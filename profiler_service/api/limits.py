"""Limits on the size of a request, checked before any route sees it.

Knows neither routes nor the domain.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from profiler_service.api.problems import problem_response
from profiler_service.errors import QueryTooLongError, RequestTooLargeError

MAX_BODY_BYTES = 1 << 20
MAX_QUERY_BYTES = 8 << 10


class RequestLimits:
    """An ASGI layer that answers 413 to long bodies, and 414 to long query strings.

    It counts a body while it arrives, so that the limit also holds without a Content-Length.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on if it is within the limits."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if len(scope["query_string"]) > MAX_QUERY_BYTES:
            response = problem_response(
                QueryTooLongError(
                    f"the query string is longer than {MAX_QUERY_BYTES} bytes",
                    hint="leave out parameters that the service doesn't need",
                    see="/docs",
                )
            )
            await response(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD"):  # no route reads their bodies
            await self.app(scope, receive, send)
        else:
            await self._bound_body(scope, receive, send)

    async def _bound_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isascii() and declared.isdigit() and int(declared) > MAX_BODY_BYTES:
            response = problem_response(
                RequestTooLargeError(
                    f"the body is longer than {MAX_BODY_BYTES} bytes", hint="send a smaller body"
                )
            )
            await response(scope, receive, send)
            return
        size_bytes = 0

        async def counted() -> Message:
            nonlocal size_bytes
            message = await receive()
            size_bytes += len(message.get("body", b""))
            if size_bytes > MAX_BODY_BYTES:
                raise HTTPException(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
            return message

        await self.app(scope, counted, send)
