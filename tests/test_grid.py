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


def test_an_axis_may_begin_between_two_steps() -> None:
    axis = GridAxis.multiples(317, 500, 64)
    assert axis == GridAxis(first=317, count=4, step=64, second=320)
    assert list(axis.dims) == [317, 320, 384, 448]
    assert [axis.find_position(dim) for dim in (317, 320, 384, 448)] == [0, 1, 2, 3]
    assert [axis.find_position(dim) for dim in (256, 318, 352, 512)] == [None] * 4
    assert [axis.is_on_steps(dim) for dim in (317, 320, 352)] == [False, True, False]
    # 320 is a multiple itself. No multiple lies between 321 and 350.
    assert GridAxis.multiples(320, 500, 64) == GridAxis(first=320, count=3, step=64)
    assert GridAxis.multiples(321, 350, 64) == GridAxis(first=321, count=1)
    assert GridAxis.multiples(321, 350, 1) == GridAxis(first=321, count=30)


@pytest.mark.parametrize(("count", "second"), [(1, 320), (2, 317), (2, 381)])
def test_a_second_dimension_must_lie_between(count: int, second: int) -> None:
    with pytest.raises(InvalidDimsError, match="between"):
        GridAxis(first=317, count=count, step=64, second=second)


def test_axes_contain_what_their_dims_contain() -> None:
    axes = [
        GridAxis.multiples(first, last, multiple)
        for first in range(1, 12)
        for last in range(first, first + 13, 4)
        for multiple in (1, 2, 3, 4, 6)
    ]
    for mine in axes:
        for theirs in axes:
            assert mine.contains(theirs) == (set(theirs.dims) <= set(mine.dims))


def test_candidates_are_the_first_point_and_the_steps() -> None:
    # 5 is no multiple of 4, and 8 is one.
    grid = Grid.window((5, 8), (6, 7), (4, 4))
    assert list(grid) == [(5, 8), (5, 12), (8, 8), (8, 12)]
    assert [grid.dims(index) for index in range(4)] == list(grid)
    assert [tuple(row) for row in grid.all_dims().tolist()] == list(grid)
    assert [grid.is_candidate(dims) for dims in grid] == [True, False, True, True]
    assert grid.find_others().tolist() == [1] and grid.num_candidates == 3
    # Both are no multiples: of 3 x 3 points, 2 x 2 and the first are candidates.
    grid = Grid.window((5, 6), (7, 7), (4, 4))
    assert grid.find_others().tolist() == [1, 2, 3, 6] and grid.num_candidates == 5
    assert not grid.is_candidate((8, 6)) and not grid.is_candidate((8, 8, 8))
    assert Grid.window((5, 6), (7, 7)).find_others().tolist() == []


def test_dims_of_many_points_are_those_of_each() -> None:
    grid = Grid(
        axes=(GridAxis(first=317, count=4, step=64, second=320), GridAxis(first=5, count=3, step=2))
    )
    assert grid.all_dims().tolist() == [list(dims) for dims in grid]
    assert grid.dims_of(np.array([11, 0, 4])).tolist() == [[448, 9], [317, 5], [320, 7]]
    assert grid.dims_of(np.array([], dtype=int)).shape == (0, 2)
