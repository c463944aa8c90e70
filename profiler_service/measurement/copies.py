"""The pieces of work of a sample: one call again and again, or copies with operands of their own.

Pure: knows neither torch nor any device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from profiler_service.measurement.event_timer import MAX_REPEATS, Work

MAX_COPIED_BYTES: Final = 1 << 30
"""Memory for the operands of all copies of a call, unless two copies need more."""


@dataclass(frozen=True, kw_only=True)
class Copies:
    """How to make further calls of a point, each with operands that no other call uses."""

    make: Callable[[], Work]
    size_bytes: int
    """Of the operands of one call."""

    @property
    def most(self) -> int:
        """How many there may be, the first one included; at least two."""
        return max(2, MAX_COPIED_BYTES // max(1, self.size_bytes))


class Repetition:
    """One piece, as often as wanted. Each time, the cache is as the time before left it."""

    most = 2 * MAX_REPEATS

    def __init__(self, piece: Work) -> None:
        self._piece = piece

    def take(self, count: int) -> Sequence[Work]:
        """The piece so many times."""
        return [self._piece] * count


class Rotation:
    """Different pieces. No piece of a pass finds its operands in the cache because of another."""

    def __init__(self, first: Work, make: Callable[[], Work], *, most: int) -> None:
        """`make` makes the others, when they are needed."""
        self.most = most
        self._pieces = [first]
        self._make = make

    def take(self, count: int) -> Sequence[Work]:
        """So many different pieces."""
        while len(self._pieces) < count:
            self._pieces.append(self._make())
        return self._pieces[:count]
