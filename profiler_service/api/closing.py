"""The service's end: who waits is told, and what doesn't end by itself ends without noise.

Knows neither routes nor what they wait for. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from profiler_service.api.problems import problem_response


class Closing:
    """Whether the service is about to end."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()

    @property
    def has_begun(self) -> bool:
        """Whether nobody should begin to wait any more."""
        return self._begun.is_set()

    def begin(self) -> None:
        """Ends every wait. Call it before the open requests are waited for."""
        self._begun.set()

    async def wait(self, *futures: asyncio.Future[Any], timeout_s: float) -> None:
        """Returns once one of the futures is done, after that time, or once the end has begun."""
        begun = asyncio.create_task(self._begun.wait())
        try:
            await asyncio.wait(
                (*futures, begun), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            begun.cancel()


class EndRequestsQuietly:
    """An ASGI layer for requests that are cancelled because the service ends.

    One that hasn't begun its response gets a 503; of another the connection is closed. Without
    it the server would log a traceback for each.
    """

    def __init__(self, app: ASGIApp, closing: Closing) -> None:
        self.app = app
        self._closing = closing

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
            if scope["type"] != "http" or not self._closing.has_begun:
                raise
            if not started:
                response = problem_response(503, "the service is being stopped", "ask again later")
                await response(scope, receive, send)
