"""Which widths are looked at."""

from __future__ import annotations

import pytest

from profiler_service.errors import InvalidRequestError
from profiler_service.widths.candidates import find_candidates


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        # 30 to 50 has 21 whole numbers, 11 even ones, 5 multiples of 4.
        (40, (32, 36, 40, 44, 48)),
        # 121 to 201: 10 multiples of 8, 5 of 16.
        (161, (128, 144, 160, 176, 192)),
        # 5 to 8: all of them.
        (7, (6, 7, 8)),
        (1, (1,)),
        # 3072 to 5120 has 33 multiples of 64, the largest step: the eight nearest.
        (4096, (3840, 3904, 3968, 4032, 4096, 4160, 4224, 4288)),
    ],
)
def test_are_multiples_of_a_power_of_two_around_the_width(
    width: int, expected: tuple[int, ...]
) -> None:
    assert find_candidates(width) == expected


def test_keep_to_the_bounds_and_to_multiples() -> None:
    assert find_candidates(40, lowest=40, highest=44) == (40, 41, 42, 43, 44)
    # What six heads share: 288 to 480 has 33 multiples of 6, 9 of 24, 5 of 48.
    assert find_candidates(384, multiple_of=6) == (288, 336, 384, 432, 480)
    # A vocabulary only grows.
    assert find_candidates(50257, lowest=50257)[:2] == (50304, 50368)


def test_reach_beyond_the_window_if_nothing_lies_in_it() -> None:
    # 17 to 27 has no multiple of 64: those around it are 0, which is no width, and 64.
    assert find_candidates(22, multiple_of=64) == (64,)
    with pytest.raises(InvalidRequestError, match="no multiple of 64"):
        find_candidates(22, multiple_of=64, highest=63)
