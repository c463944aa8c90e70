"""Fewer points for a picture: what a curve says stays, and its shape is seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from profiler_service.analysis.curve import LatencyCurve, PointStatus
from profiler_service.answering.downsampling import (
    choose_drawn,
    choose_marked,
    choose_points,
    thin,
)
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from tests.api.curves import build_curve, stairs

MAX_POINTS = 300


def line(count: int, *, failing: Sequence[Sequence[int]] = ()) -> LatencyCurve:
    """A curve of one axis from 1 to `count`: multiples of 32 are fast."""
    grid = Grid(axes=(GridAxis(first=1, count=count),))
    return build_curve(grid, stairs(32), workload=MATMUL.describe(), failing=failing)


def test_no_lhp_no_edge_and_no_end_is_left_out() -> None:
    curve = line(5000, failing=[(1,), (77,)])
    shown = choose_points(curve, MAX_POINTS)
    must = np.flatnonzero(np.isin(curve.status, (PointStatus.LHP, PointStatus.EDGE)))
    # 5000 / 32 = 156 multiples of 32. After the last one, 4992, latency rises to the end: 4993 to
    # 4999 are LHPs, and 5000 is the edge.
    assert len(must) == 156 + 7 + 1
    assert set(must) <= set(shown)
    # The first one measured is 2; the points that failed have no latency.
    assert (shown[0], shown[-1]) == (1, 4999)
    assert len(must) < len(shown) <= MAX_POINTS
    assert (np.diff(shown) > 0).all()


def test_lhps_stay_even_if_they_are_too_many() -> None:
    grid = Grid(axes=(GridAxis(first=1, count=400),))
    # Latency grows everywhere: every point but the last one is an LHP.
    curve = build_curve(grid, lambda dims: 1e-6 * dims[0], workload=MATMUL.describe())
    assert len(choose_points(curve, 50)) == 400


@pytest.mark.parametrize("max_points", [None, 100, 5000])
def test_a_curve_that_is_small_enough_is_whole(max_points: int | None) -> None:
    curve = line(100, failing=[(5,)])
    np.testing.assert_array_equal(
        choose_points(curve, max_points), np.flatnonzero(curve.num_samples)
    )


def test_a_lonely_peak_is_seen() -> None:
    curve = line(5000)
    curve.latency_s[3210] = 1.0  # among latencies of 1 to 7 ms
    assert 3210 in choose_points(curve, MAX_POINTS)


def test_both_levels_of_two_axes_are_seen_everywhere() -> None:
    axis = GridAxis(first=1, count=96)
    curve = build_curve(Grid(axes=(axis, axis)), stairs(8))
    curve.status[:] = PointStatus.DOMINATED
    shown = choose_points(curve, 600)
    assert 300 < len(shown) <= 600
    dims = curve.grid.all_dims()[shown]
    is_fast = (dims % 8 == 0).all(axis=1)
    # Every eighth point on both axes is fast, one of 64. Of 9,216 points, every n-th would show
    # about none of them, or nothing else. Here, each corner of a third by a third has both.
    for low in (1, 33, 65):
        for left in (1, 33, 65):
            here = ((dims >= (low, left)) & (dims < (low + 32, left + 32))).all(axis=1)
            assert is_fast[here].any() and not is_fast[here].all()


def test_a_narrow_grid_is_not_shown_by_too_many_points() -> None:
    grid = Grid(axes=(GridAxis(first=1, count=2), GridAxis(first=1, count=6000)))
    curve = build_curve(grid, stairs(8))
    curve.status[:] = PointStatus.DOMINATED
    assert 250 < len(choose_points(curve, 500)) <= 500


def test_each_of_several_series_is_shown() -> None:
    dims = np.arange(1, 3001, dtype=np.int32)[:, None]
    first, second = np.ones(3000), np.ones(3000)
    first[1000], second[2000] = 2.0, 0.5
    second[:500] = np.nan  # it has no such points
    chosen = thin(dims, [first, second], np.zeros(3000, dtype=bool), 100)
    assert {0, 1000, 2000, 2999} <= set(chosen.tolist())
    assert len(chosen) <= 100


@pytest.mark.parametrize("sides", [(4000,), (64, 64)], ids=["one axis", "two axes"])
def test_a_figure_has_no_more_points_than_it_may_even_of_lhps(sides: tuple[int, ...]) -> None:
    grid = Grid(axes=tuple(GridAxis(first=1, count=side) for side in sides))
    curve = build_curve(
        grid, lambda d: 1e-6 * sum(d), workload=MATMUL.describe() if len(sides) == 1 else None
    )
    assert curve.num_lhps == grid.size - 1
    shown = choose_drawn(curve, 200)
    assert 100 < len(shown) <= 200
    assert (np.diff(shown) > 0).all()
    marked = choose_marked(curve, 50)
    assert 20 < len(marked) <= 50
    # They are spread over all of the curve.
    assert (marked[0] < grid.size // 10) and (marked[-1] > grid.size - grid.size // 10)


def test_a_figure_has_every_lhp_if_they_are_few() -> None:
    curve = line(5000)
    lhps = np.flatnonzero(curve.status == PointStatus.LHP)  # 163, as above
    assert set(lhps) <= set(choose_drawn(curve, 500).tolist())
    assert set(choose_marked(curve, 500)) == {*lhps, 4999}


@pytest.mark.parametrize("status", [PointStatus.DOMINATED, PointStatus.UNDECIDED])
def test_a_point_that_may_lose_has_its_rival_beside_it(status: PointStatus) -> None:
    curve = line(5000)
    # No point is an LHP any more, so that nothing but its rival's place keeps a rival.
    curve.status[:] = status
    shown = choose_drawn(curve, 300)
    assert len(shown) <= 300
    rivals = curve.answers.find_rivals()[shown]
    assert set(rivals[rivals >= 0]) <= set(shown)


def test_a_small_curve_is_drawn_whole() -> None:
    curve = line(100, failing=[(5,)])
    np.testing.assert_array_equal(choose_drawn(curve, 99), np.flatnonzero(curve.num_samples))


def test_dimensions_far_apart_are_blocks_as_neighbours_are() -> None:
    near = Grid(axes=(GridAxis(first=1, count=40), GridAxis(first=1, count=40)))
    far = Grid(axes=(GridAxis(first=1, count=40, step=1000), GridAxis(first=1, count=40, step=7)))
    latency_s = np.random.default_rng(1).random(1600)
    nothing = np.zeros(1600, dtype=bool)
    one, other = (thin(grid.all_dims(), [latency_s], nothing, 100) for grid in (near, far))
    np.testing.assert_array_equal(one, other)
