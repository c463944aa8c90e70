"""Shares, durations and times as people write them: `1%`, `0.01`, `1h`, `7d`, `2026-05-01`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from profiler_service.errors import InvalidRequestError

SHARE_PATTERN: Final = r"^(0*\.[0-9]{1,9}|[0-9]{1,2}(\.[0-9]{1,9})? ?%)$"
DURATION_PATTERN: Final = r"^[0-9]{1,9}(\.[0-9]{1,9})? ?(s|min|h|d)?$"
UNITS_S: Final[Mapping[str, float]] = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86_400}
LATENCY_UNITS_S: Final[Mapping[str, float]] = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1}
LONGEST_D: Final = 365_000
"""A thousand years: there are dates so far from now on, and few further ones."""


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
    seconds = float(found[1]) * UNITS_S[found[2]]
    if seconds > LONGEST_D * UNITS_S["d"]:
        raise InvalidRequestError(
            f"{name}={text!r} is longer than {LONGEST_D} days",
            hint=f"write a shorter time: {name}=7d",
        )
    return seconds


def parse_latency(text: str, *, name: str) -> float:
    """The seconds that `9ms`, `800us` or `0.5s` is. Raises InvalidRequestError for others."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(us|µs|ms|s)", text)
    seconds = 0.0 if found is None else float(found[1]) * LATENCY_UNITS_S[found[2]]
    if not seconds > 0:
        raise InvalidRequestError(
            f"{name}={text[:80]!r} is no latency",
            hint=f"write a number above 0 with us, ms or s: {name}=9ms",
        )
    return seconds


def _refuse_other_texts(value: object) -> object:
    """The value. Raises PydanticCustomError for a text that doesn't begin with a date.

    pydantic takes numbers for seconds since 1970: `2026` would be half an hour after its beginning.
    """
    if isinstance(value, str) and re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value) is None:
        raise PydanticCustomError("no_time", "this is no time; write one as 2026-05-01T00:00:00Z")
    return value


WRITTEN_TIME: Final = BeforeValidator(_refuse_other_texts)
"""In `Annotated`: the time must be written in ISO 8601."""
