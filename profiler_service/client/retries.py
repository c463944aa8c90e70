"""Deadlines, and when to try a request again.

stamina makes the pauses and counts the attempts. This module decides which errors are worth another
attempt, for blocking and asynchronous clients.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypedDict

import httpx

from profiler_service.errors import LhpError

ATTEMPTS = 6
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 16.0
LONGEST_PAUSE_S = 60.0
"""A longer `Retry-After` is shortened to this, so that no service can stop its client for days."""

logger = logging.getLogger(__name__)

# stamina logs each retry as a warning. If there is no handler, Python would print it on stderr.
logging.getLogger("stamina").addHandler(logging.NullHandler())


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """The moment until which the caller is ready to wait."""

    until_s: float
    clock: Callable[[], float]

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float]) -> Self:
        """The deadline so many seconds from now; infinity means no deadline."""
        return cls(until_s=clock() + seconds, clock=clock)

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; 0 afterwards."""
        return max(0.0, self.until_s - self.clock())

    @property
    def is_over(self) -> bool:
        """Whether it has passed."""
        return self.left_s <= 0


class Backoff(TypedDict):
    """Arguments for stamina's callers."""

    attempts: int
    timeout: None
    wait_initial: float
    wait_max: float
    wait_jitter: float


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often and for how long one request is tried."""

    attempts: int
    deadline: Deadline
    longest_s: float
    """The longest pause before another attempt, if the service doesn't ask for a pause."""
    but_not: tuple[type[LhpError], ...] = ()
    """Errors that the caller handles itself, instead of another attempt."""

    @classmethod
    def until(
        cls, deadline: Deadline, *, attempts: int, but_not: tuple[type[LhpError], ...] = ()
    ) -> Self:
        """A patience whose pauses all end before the deadline."""
        share_s = deadline.left_s / max(1, attempts - 1)
        return cls(
            attempts=attempts,
            deadline=deadline,
            longest_s=min(LONGEST_BACKOFF_S, share_s),
            but_not=but_not,
        )

    @property
    def backoff(self) -> Backoff:
        """The growing pauses, as arguments for stamina's callers."""
        return {
            "attempts": self.attempts,
            "timeout": None,
            "wait_initial": FIRST_BACKOFF_S,
            "wait_max": self.longest_s,
            "wait_jitter": FIRST_BACKOFF_S,
        }

    def pause_s(self, error: Exception) -> bool | float:
        """Whether to try again after `error`; or after how many seconds, if that is fixed.

        stamina calls this a backoff hook. No pause is longer than the time to the deadline.
        """
        if not isinstance(error, LhpError) or not error.is_transient:
            return False
        left_s = self.deadline.left_s
        asked_s = _asked_pause_s(error)
        if isinstance(error, self.but_not) or left_s <= 0 or (asked_s or 0) > left_s:
            return False
        logger.info("%s; trying again", error)
        if asked_s is not None:
            return asked_s
        return True if left_s > self.longest_s else left_s


def retry_after_s(response: httpx.Response) -> float | None:
    """The seconds that `Retry-After` asks for; None if it isn't a number."""
    text = response.headers.get("Retry-After", "")
    if re.fullmatch(r"[0-9]{1,9}", text) is None:
        return None
    return min(float(text), LONGEST_PAUSE_S)


def _asked_pause_s(error: LhpError) -> float | None:
    refused = error.__cause__
    return retry_after_s(refused.response) if isinstance(refused, httpx.HTTPStatusError) else None
