"""ETags: a client that has a response already is told so, and isn't sent it again (RFC 9110, 13.1).

Knows neither routes nor the domain.
"""

from __future__ import annotations

import hashlib


def make_etag(*parts: object) -> str:
    """An ETag for content that `parts` determine: equal parts, equal ETags.

    It is a weak one: it stands for the content, however that is compressed on its way.
    """
    text = "\n".join(map(repr, parts))
    return f'W/"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def has_already(if_none_match: str, etag: str) -> bool:
    """Whether a client that sends this `If-None-Match` has the content of that ETag."""
    known = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return bool(known & {"*", etag.removeprefix("W/")})
