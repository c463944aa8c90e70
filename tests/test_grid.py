"""Grids: numbering, membership, windows, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.errors import InvalidDimsError
from profiler_service.grid import MAX_DIM, Grid, GridAxis


def test_points_are_numbered_row_major() -> None:
    grid = Grid(axes=(GridAxis(first=10, count=2, step=5), GridAxis(first=3, count=3)))
    points = [(10, 3), (10, 4), (10, 5), (15, 3), (15, 4), (15, 5)]
    assert list(grid) == points
    assert [tuple(row) for row in grid.all_dims().tolist()] == points
    assert [grid.dims(i) for i in range(6)] == points
    assert [grid.find_index(p) for p in points] == list(range(6))
    assert grid.all_dims().dtype == np.int32
    assert (grid.size, grid.shape, grid.first, grid.last) == (6, (2, 3), (10, 3), (15, 5))


@pytest.mark.parametrize("dims", [(11, 3), (10, 6), (5, 3), (20, 3), (10,), (10, 3, 1)])
def test_no_number_for_points_outside(dims: tuple[int, ...]) -> None:
    grid = Grid(axes=(GridAxis(first=10, count=2, step=5), GridAxis(first=3, count=3)))
    assert grid.find_index(dims) is None


def test_numbers_outside_raise() -> None:
    with pytest.raises(IndexError):
        Grid(axes=(GridAxis(first=1, count=2),)).dims(2)


def test_window_is_inclusive_and_clipped() -> None:
    window = Grid.window((1197, MAX_DIM - 1), (149, 100))
    assert window.first == (1197, MAX_DIM - 1)
    assert window.last == (1346, MAX_DIM)
    assert window.shape == (150, 2)


def test_contains() -> None:
    fine = Grid(axes=(GridAxis(first=10, count=11),))
    even = Grid(axes=(GridAxis(first=10, count=6, step=2),))
    assert fine.contains(even) and not even.contains(fine)
    assert even.contains(Grid(axes=(GridAxis(first=12, count=1),)))
    assert even.contains(Grid(axes=(GridAxis(first=12, count=2, step=4),)))
    assert not even.contains(Grid(axes=(GridAxis(first=16, count=4, step=2),)))  # ends at 22
    assert not even.contains(Grid(axes=(GridAxis(first=11, count=1),)))
    assert not fine.contains(Grid(axes=(GridAxis(first=10, count=1),) * 2))


@pytest.mark.parametrize(
    ("first", "count", "step"), [(0, 1, 1), (1, 0, 1), (1, 1, 0), (MAX_DIM, 2, 1), (-3, 1, 1)]
)
def test_impossible_axes_are_refused(first: int, count: int, step: int) -> None:
    with pytest.raises(InvalidDimsError):
        GridAxis(first=first, count=count, step=step)
