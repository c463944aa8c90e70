from __future__ import annotations

import pytest

from profiler_service.measurement.copies import MAX_COPIED_BYTES, Copies, Repetition, Rotation


@pytest.mark.parametrize(
    ("size_bytes", "most"),
    [
        (MAX_COPIED_BYTES // 8, 8),
        (MAX_COPIED_BYTES // 3, 3),
        (MAX_COPIED_BYTES, 2),  # one call is always compared with two
        (10 * MAX_COPIED_BYTES, 2),
        (0, MAX_COPIED_BYTES),  # a call without operands
    ],
)
def test_memory_bounds_the_copies_but_for_two(size_bytes: int, most: int) -> None:
    assert Copies(make=lambda: int, size_bytes=size_bytes).most == most


def test_a_repetition_is_one_piece() -> None:
    piece = Repetition(int)
    assert piece.take(3) == [int, int, int]


def test_a_rotation_makes_each_piece_once_and_only_when_it_is_needed() -> None:
    makers = iter([float, str, bool])
    rotation = Rotation(int, lambda: next(makers), most=4)
    assert rotation.take(1) == [int]
    assert rotation.take(3) == [int, float, str]
    assert rotation.take(2) == [int, float]
    assert next(makers) is bool
