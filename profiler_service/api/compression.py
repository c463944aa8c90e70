"""Responses that are compressed on their way (gzip), for clients that say that they can read it.

Knows neither routes nor the domain.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Receive, Scope, Send

from profiler_service.api.dependencies import BoundedRoute

LEAST_BYTES = 4096
"""A response that is shorter, and sent in one piece, isn't compressed: it fits a few packets."""
LEVEL = 2
"""Of nine. On the numbers of a curve, level 5 takes four times as long and saves a fourteenth."""
COMPRESSED_ALREADY = frozenset({"application/vnd.apache.parquet"})
"""Media types of content that wouldn't get shorter."""


class _Compressed(Response):
    """A response that is compressed while it is sent, large pieces of it in a thread."""

    def __init__(self, response: Response) -> None:
        self._send = GZipMiddleware(response, minimum_size=LEAST_BYTES, compresslevel=LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._send(scope, receive, send)


class CompressingRoute(BoundedRoute):
    """A bounded route that compresses its responses."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, whose responses are compressed."""
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            response = await answer(request)
            is_compressed = response.media_type in COMPRESSED_ALREADY
            return response if is_compressed else _Compressed(response)

        return handler
