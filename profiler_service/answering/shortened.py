"""Ids and keys that a caller has shortened: their first characters, if only one begins so. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from profiler_service.errors import InvalidRequestError

MIN_LENGTH = 6
"""Characters that must be given at least: fewer are soon ambiguous."""
ID_LENGTH = 32
"""Characters of an id of a curve or a sweep. Keys of platforms have fewer."""
MOST_LISTED = 5
"""Most ids that an error lists."""


def may_be_shortened(given: str) -> bool:
    """Whether the text can be the beginning of an id or key, which are hexadecimal."""
    return re.fullmatch(rf"[0-9a-f]{{{MIN_LENGTH},{ID_LENGTH - 1}}}", given) is not None


def cursor_above(given: str) -> str:
    """The cursor with which a list, newest first, goes on at the ids that begin with `given`."""
    last = int(given.ljust(ID_LENGTH, "f"), 16)
    return f"{min(last + 1, 16**ID_LENGTH - 1):0{ID_LENGTH}x}"


def complete(given: str, ids: Iterable[str], *, what: str) -> str:
    """The id that begins with `given`; `given` itself if none does, or if it is one of them.

    `ids` are all that may begin so, or more than MOST_LISTED of them; `what` is the plural of what
    they name. Raises InvalidRequestError if several begin so.
    """
    beginning_so = [each for each in ids if each.startswith(given)]
    if len(beginning_so) < 2 or given in beginning_so:
        return given if given in beginning_so else (*beginning_so, given)[0]
    listed = ", ".join(beginning_so[:MOST_LISTED])
    more = ", …" if len(beginning_so) > MOST_LISTED else ""
    raise InvalidRequestError(
        f"{given!r} is the beginning of several {what}", hint=f"give more of one: {listed}{more}"
    )
