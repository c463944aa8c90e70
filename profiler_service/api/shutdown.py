"""Ends requests that are cancelled because the service ends, without a traceback in the log.

Knows no route.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from profiler_service.answering.shutdown import Shutdown
from profiler_service.api.problems import problem_response
from profiler_service.errors import ShuttingDownError


class EndRequestsQuietly:
    """An ASGI layer for requests that are cancelled because the service ends.

    If the response hasn't begun, the client gets a 503; otherwise the connection is closed. Without
    this layer, the server would log a traceback for each request.
    """

    def __init__(self, app: ASGIApp, shutdown: Shutdown) -> None:
        self.app = app
        self._shutdown = shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        started = False

        async def noting_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, noting_start)
        except asyncio.CancelledError:
            if scope["type"] != "http" or not self._shutdown.has_begun:
                raise
            if not started:
                response = problem_response(
                    ShuttingDownError("the service is being stopped", hint="ask again later")
                )
                await response(scope, receive, send)
