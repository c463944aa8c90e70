"""Which widths of a group are looked at.

Pure.
"""

from __future__ import annotations

import math

from profiler_service.errors import InvalidRequestError

MAX_CANDIDATES = 8
"""Most candidates of a group. A layer between two groups is measured at each pair of candidates."""
WINDOW = 0.25
"""How far candidates are from the width now, as a share of it."""
LARGEST_BLOCK = 64
"""Kernels work in blocks of at most about so many rows or columns: larger steps would skip some."""


def find_candidates(
    width: int,
    *,
    lowest: int | None = None,
    highest: int | None = None,
    multiple_of: int = 1,
    window: float = WINDOW,
) -> tuple[int, ...]:
    """Multiples of a power of two around `width`, ascending.

    They lie within `window` of it, and from `lowest` to `highest`. The step is the smallest power
    of two, times `multiple_of`, with which at most MAX_CANDIDATES lie there, and LARGEST_BLOCK at
    most: then only the MAX_CANDIDATES that are nearest to `width` are taken. If none lies there,
    the nearest multiples outside of the window are taken, as far as `lowest` and `highest` allow.

    Raises InvalidRequestError if they allow none.
    """
    least = 1 if lowest is None else max(1, lowest)
    first = max(least, math.ceil(width * (1 - window)))
    last = math.floor(width * (1 + window))
    last = last if highest is None else min(highest, last)
    step = multiple_of
    while last // step - (first - 1) // step > MAX_CANDIDATES and step < LARGEST_BLOCK:
        step *= 2
    found = range(-(-first // step) * step, last + 1, step)
    if found:
        nearest = sorted(found, key=lambda each: (abs(each - width), each))
        return tuple(sorted(nearest[:MAX_CANDIDATES]))
    around = {width // step * step, -(-width // step) * step}
    near = tuple(sorted(each for each in around if least <= each <= (highest or each)))
    if not near:
        raise InvalidRequestError(
            f"no multiple of {multiple_of} near {width} is allowed", hint="widen the bounds"
        )
    return near
