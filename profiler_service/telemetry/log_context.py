"""What every log line of a piece of work has in common: the request, and the sweep.

Belongs to the task or thread that does the work. `asyncio.to_thread` and new tasks take it along.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType

REQUEST_ID = "request_id"
MAX_REQUEST_ID_LENGTH = 128
_SANE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._:+/=@-]{{0,{MAX_REQUEST_ID_LENGTH - 1}}}")
_NOTHING: Mapping[str, str] = MappingProxyType({})

_context: ContextVar[Mapping[str, str]] = ContextVar("log context", default=_NOTHING)


def current_log_context() -> Mapping[str, str]:
    """What log lines have in common here, by name."""
    return _context.get()


def current_request_id() -> str | None:
    """The id of the request that is served here; None if nobody asked for this work."""
    return _context.get().get(REQUEST_ID)


@contextlib.contextmanager
def log_context(**values: str | None) -> Iterator[None]:
    """In this context, log lines have these values, too. None: the line doesn't have it."""
    outer = _context.get()
    inner = {name: value for name, value in {**outer, **values}.items() if value is not None}
    token = _context.set(inner)
    try:
        yield
    finally:
        _context.reset(token)


def choose_request_id(given: str | None) -> str:
    """The id that a client gave its request, or a new one if it gave none that can be used.

    One that can be used has 1 to MAX_REQUEST_ID_LENGTH letters, digits and characters of
    `._:+/=@-`, so that it breaks neither a header nor a line of a log.
    """
    if given is not None and _SANE.fullmatch(given):
        return given
    return uuid.uuid4().hex
