"""Responses that are kept ready-made, and the routes that send them.

The response to each question is kept for as long as the store's generation stays the same: by its
address, and by its meaning. A client that asks again in the meantime gets it at once. For a known
address, nothing is parsed. By its meaning, a question that is written in another way (parameters in
another order, a default written out, other spaces or escapes) gets the same body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, NamedTuple

from cachetools import LRUCache
from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from profiler_service.access.caller import current_caller
from profiler_service.access.scopes import Scope
from profiler_service.api.origins import refuse_foreign

MAX_READY_RESPONSES = 32_768
"""Number of keys of ready-made responses kept in memory: about 2 KiB each, as a response has at
least two keys."""
MAX_READY_ADDRESS_BYTES = 512
OUT_OF_DATE_S = 2.0
"""Answers are marked if the database couldn't be read for so long; it is read every 0.3 s."""
AWAY = {"Cache-Status": 'lhp; hit; detail="database away"'}


class Mark(NamedTuple):
    """What says that an answer may be out of date."""

    age_s: int
    """How long the database couldn't be read, seconds."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of RFC 9111 and RFC 9211 that say so."""
        return {"Age": str(self.age_s), **AWAY}


def find_mark(age_s: float) -> Mark | None:
    """The mark of an answer if the database couldn't be read for `age_s` seconds; None if fresh."""
    return None if age_s < OUT_OF_DATE_S else Mark(age_s=round(age_s))


class ReadyResponse(NamedTuple):
    """The body of a response, and what counts that it is sent."""

    body: bytes
    note_sent: Callable[[], object]

    def send(self, *, age_s: float) -> Response:
        """The response, which counts as sent; marked if it may be out of date.

        `age_s` says since when the database couldn't be read.
        """
        self.note_sent()
        mark = find_mark(age_s)
        if mark is None:
            return Response(self.body, media_type="application/json")
        # The answer is an object with fields, which nobody needs to parse for one more.
        body = b'%b,"database_away_s":%d}' % (self.body.removesuffix(b"}"), mark.age_s)
        return Response(body, headers=mark.headers, media_type="application/json")


def count_nothing() -> None:
    """Counts nothing, for responses that nothing counts."""


class ReadyResponses:
    """Responses by address and by meaning, valid for one generation of the store.

    Meanings that are asked for stay longest, however many addresses they have.
    """

    def __init__(self) -> None:
        self._generation = -1
        self._ready: LRUCache[Hashable, ReadyResponse] = LRUCache(MAX_READY_RESPONSES)

    def find(self, key: Hashable, generation: int) -> ReadyResponse | None:
        """The one kept for that address or meaning in that generation; None if there is none."""
        if generation != self._generation:
            return None
        try:
            return self._ready[key]  # `get` would look three times, and meanings are hashed slowly
        except KeyError:
            return None

    def keep(self, key: Hashable, response: ReadyResponse, generation: int) -> None:
        """Keeps the response of that generation, and drops those of earlier generations.

        Not by a long address: there may be many of one meaning.
        """
        if generation != self._generation:
            self._ready.clear()
            self._generation = generation
        if not isinstance(key, bytes) or len(key) <= MAX_READY_ADDRESS_BYTES:
            self._ready[key] = response


def find_address(request: Request) -> bytes:
    """The path and the query of the request, as they were sent."""
    path: str = request.scope["path"]
    return b"%s?%s" % (path.encode(), request.scope["query_string"])


class WarmRoute(APIRoute):
    """A route that sends the ready-made response to an address, if there is one.

    Its function takes the request and the services, and parses the query by itself. It is called
    without FastAPI's own parsing of parameters, which would take longer than all of that.

    It refuses pages of other sites, whether the answer is known or must be measured: otherwise, a
    page would learn what is known here. FastAPI documents overriding `get_route_handler` as the
    way to see a request before it is parsed.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler that looks for a ready-made response before anything is parsed."""
        answer: Callable[..., Awaitable[Response]] = self.endpoint

        async def handler(request: Request) -> Response:
            await refuse_foreign(request)
            current_caller().check(Scope.READ)
            state = request.app.state
            generation = state.services.known.curves.snapshot.generation
            ready: ReadyResponse | None = state.ready.find(find_address(request), generation)
            if ready is not None:
                return ready.send(age_s=state.services.known.age_s)
            return await answer(request, state.services)

        return handler
