"""Which points of a grid are named."""

from __future__ import annotations

import pytest

from profiler_service.analysis.kernel_names import AxisChange, find_change, find_line
from profiler_service.grid import Grid, GridAxis
from profiler_service.plan.named_points import MAX_NAMED_POINTS, choose_named_points
from profiler_service.workload import Dims

WINDOW = Grid.window((1197, 317), (149, 39))
"""1197 to 1346 and 317 to 356: what a query looks at by default."""


def test_the_pair_comes_first_then_what_lies_beside_the_answer() -> None:
    points = choose_named_points(WINDOW, (1197, 317), (1200, 320))
    assert points[:4] == [(1197, 317), (1200, 320), (1197, 320), (1200, 317)]
    # Of each axis in turn: 1280 is five times 256, and 320 five times 64. That is the answer's.
    assert points[4:9] == [(1280, 320), (1198, 320), (1200, 318), (1281, 320), (1200, 321)]
    assert len(points) == len(set(points)) == MAX_NAMED_POINTS
    assert all(WINDOW.find_index(each) is not None for each in points)
    assert all(each[0] == 1200 or each[1] == 320 or each == (1197, 317) for each in points)


@pytest.mark.parametrize("multiple", [2, 4, 8, 16, 32, 64])
def test_multiples_can_be_told_from_smaller_and_larger_ones(multiple: int) -> None:
    points = choose_named_points(WINDOW, (1197, 317), (1200, 320))
    names = {each: "special" if each[0] % multiple == 0 else "usual" for each in points}
    assert find_change(find_line(names, (1200, 320), 0)) == AxisChange(
        axis=0, rule="multiples", number=multiple
    )


def test_a_few_points_show_what_calls_that_take_long_have_in_common() -> None:
    # 15 ms a call, so about twenty calls: a convolution's in_channels from 47 to 79.
    points = choose_named_points(Grid.window((40, 47), (32, 32)), (40, 47), (40, 47), limit=20)
    names = {each: "blk" if each[1] % 16 == 0 else "uni" for each in points}
    assert find_change(find_line(names, (40, 47), 1)) == AxisChange(
        axis=0, rule="multiples", number=16
    )


def test_a_multiple_at_the_end_of_the_run_is_not_left_out() -> None:
    # 80 and 81 end the run that begins at 65, and 64 points are fewer than both axes have.
    points = choose_named_points(Grid.window((65, 60), (32, 32)), (65, 60), (65, 60))
    assert {(80, 60), (81, 60), (96, 60), (97, 60)} <= set(points)


@pytest.mark.parametrize("block", [16, 32, 64])
def test_where_a_further_block_begins_can_be_seen(block: int) -> None:
    points = choose_named_points(WINDOW, (1197, 317), (1200, 320))
    names = {each: str(-(-each[0] // block)) for each in points}
    found = find_change(find_line(names, (1200, 320), 0))
    assert found is not None
    assert (found.rule, found.number) == ("above multiples", block)
    # Of the multiples from 1197 to 1346, those of 64 are seen first.
    assert {1216, 1280, 1344} <= set(found.changes)


def test_a_small_grid_is_named_whole_along_its_axes() -> None:
    grid = Grid(axes=(GridAxis(first=5, count=3), GridAxis(first=8, count=2)))
    assert set(choose_named_points(grid, (5, 8), (6, 9))) == {
        *((5, 8), (6, 9), (5, 9), (6, 8), (7, 9)),
    }


def test_one_point_is_named_once() -> None:
    grid = Grid(axes=(GridAxis(first=5, count=1),))
    assert choose_named_points(grid, (5,), (5,)) == [(5,)]


def test_no_more_are_named_than_asked_for() -> None:
    first: Dims = (1197, 317)
    assert choose_named_points(WINDOW, first, (1200, 320), limit=2) == [first, (1200, 320)]


def test_a_window_of_multiples_is_named_at_its_own_dimensions() -> None:
    grid = Grid.window((1197,), (149,), (64,))
    assert choose_named_points(grid, (1197,), (1216,)) == [(1197,), (1216,), (1280,), (1344,)]
