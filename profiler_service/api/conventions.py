"""ASGI layers that every address needs: HEAD wherever there is GET, and relative redirects.

They know neither routes nor the domain.
"""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class AnswerHead:
    """An ASGI layer that answers HEAD like GET, but without the body.

    A response without an end, such as a stream of events, ends after its headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        started = asyncio.Event()
        as_get = {**scope, "method": "GET"}

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope["route"] = as_get.get("route")  # for layers around this one
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                started.set()

        answering = asyncio.ensure_future(self.app(as_get, receive, send_headers))
        begun = asyncio.ensure_future(started.wait())
        try:
            await asyncio.wait((answering, begun), return_when=asyncio.FIRST_COMPLETED)
        finally:
            begun.cancel()
            if not answering.done():
                answering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await answering


class RedirectRelatively:
    """An ASGI layer that makes redirects relative to the address that was asked.

    An address with one slash too many at its end is redirected to the address without it. A proxy
    may offer the service under another scheme, host or path. An absolute redirect would then be
    wrong.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_relative(message: Message) -> None:
            if message["type"] == "http.response.start" and 300 <= message["status"] < 400:
                headers = MutableHeaders(raw=message["headers"])
                location = headers.get("location", "")
                if urlsplit(location).netloc:
                    headers["location"] = relative_to(scope["path"], location)
            await send(message)

        await self.app(scope, receive, send_relative)


def relative_to(path: str, url: str) -> str:
    """The relative reference from `path` to `url`, which differ only in slashes at the end.

    From `/lhp/` to `http://here/lhp?dims=5,6`: `../lhp?dims=5,6`.
    """
    target = urlsplit(url)
    slashes = len(path) - len(path.rstrip("/"))
    stem = target.path.rstrip("/")
    name = stem.rpartition("/")[2] + target.path[len(stem) :]
    query = f"?{target.query}" if target.query else ""
    return f"{'../' * slashes or './'}{name}{query}"
