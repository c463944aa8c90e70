"""Shares and durations as people write them: `1%`, `0.01`, `90`, `1h`, `7d`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from profiler_service.errors import InvalidRequestError

SHARE_PATTERN: Final = r"^(0*\.[0-9]{1,9}|[0-9]{1,2}(\.[0-9]{1,9})? ?%)$"
DURATION_PATTERN: Final = r"^[0-9]{1,9}(\.[0-9]{1,9})? ?(s|min|h|d)?$"
UNITS_S: Final[Mapping[str, float]] = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86_400}


def parse_share(text: str, *, name: str) -> float:
    """The share that `1%` or `0.01` is, above 0 and below 1.

    Raises InvalidRequestError for anything else; `name` is that of the parameter.
    """
    if re.fullmatch(SHARE_PATTERN, text):
        share = float(text.rstrip("% ")) / (100 if text.endswith("%") else 1)
        if 0 < share < 1:
            return share
    raise InvalidRequestError(
        f"{name}={text[:80]!r} is no share above 0 and below 1",
        hint=f"write one percent as {name}=1% or {name}=0.01",
    )


def parse_duration(text: str, *, name: str) -> float:
    """The seconds that `90`, `90s`, `15min`, `1h` or `7d` is.

    Raises InvalidRequestError for anything else; `name` is that of the parameter.
    """
    found = re.fullmatch(r"([0-9.]+) ?([a-z]*)", text)
    if found is None or re.fullmatch(DURATION_PATTERN, text) is None:
        raise InvalidRequestError(
            f"{name}={text[:80]!r} is no duration",
            hint=f"write seconds, or a number with s, min, h or d: {name}=90 or {name}=7d",
        )
    return float(found[1]) * UNITS_S[found[2]]
