"""What every log line of a piece of work has in common: the request, and the sweep.

Belongs to the task or thread that does the work. `asyncio.to_thread` and new tasks take it along.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

REQUEST_ID = "request_id"
MAX_REQUEST_ID_LENGTH = 128
_SANE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._:+/=@-]{{0,{MAX_REQUEST_ID_LENGTH - 1}}}")
_NOTHING: Mapping[str, str] = MappingProxyType({})

_random = random.Random(os.urandom(32))
"""Seeded once: asking the system for each request would cost more than the rest of its id."""
_context: ContextVar[Mapping[str, Any]] = ContextVar("log context", default=_NOTHING)


def current_log_context() -> Mapping[str, str]:
    """What log lines have in common here, by name."""
    return _context.get()


def current_request_id() -> str | None:
    """The id of the request that is served here; None if nobody asked for this work."""
    return _context.get().get(REQUEST_ID)


class log_context:  # noqa: N801  # used like a function, as contextlib's are
    """In this context, log lines have these values, too. None: the line doesn't have it.

    A class, because every request enters one, and a generator takes three times as long.
    """

    __slots__ = ("_token", "_values")

    def __init__(self, **values: str | None) -> None:
        self._values = values

    def __enter__(self) -> None:
        inner = {**_context.get(), **self._values}
        for name, value in self._values.items():
            if value is None:
                del inner[name]
        self._token = _context.set(inner)

    def __exit__(self, *_: object) -> None:
        _context.reset(self._token)


def choose_request_id(given: str | None) -> str:
    """The id that a client gave its request, or a new one if it gave none that can be used.

    One that can be used has 1 to MAX_REQUEST_ID_LENGTH letters, digits and characters of
    `._:+/=@-`, so that it breaks neither a header nor a line of a log.
    """
    if given is not None and _SANE.fullmatch(given):
        return given
    return f"{_random.getrandbits(128):032x}"
