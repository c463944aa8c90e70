"""Blocks of a grid: which points each covers, and that its latency is that of its median."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.analysis.blocks import choose_sides, median_blocks
from profiler_service.grid import Grid, GridAxis
from tests.api.curves import build_curve


def test_a_block_has_the_latency_of_its_median_point() -> None:
    # 3 × 5 points, in blocks of 2 × 2: those of the last row and column have fewer. In µs:
    #   1  9 | 2  3 | 5
    #   4  7 | 8  6 | x        x failed
    #   ----------------
    #  11 12 |13 10 |14
    micros = np.array([[1, 9, 2, 3, 5], [4, 7, 8, 6, 0], [11, 12, 13, 10, 14]])
    grid = Grid(axes=(GridAxis(first=8, count=3, step=8), GridAxis(first=1, count=5)))
    curve = build_curve(grid, lambda d: 1e-6 * micros[d[0] // 8 - 1, d[1] - 1], failing=[(16, 5)])
    blocks = median_blocks(curve, 6)
    assert blocks.shape == (2, 2)
    # Of 1 4 7 9 the faster of the two in the middle; 5 has no neighbour that was measured.
    np.testing.assert_allclose(blocks.latency_s, 1e-6 * np.array([[4, 3, 5], [11, 10, 14]]))
    assert [each.tolist() for each in blocks.first] == [[8, 24], [1, 3, 5]]
    assert [each.tolist() for each in blocks.last] == [[16, 24], [2, 4, 5]]


def test_a_block_without_a_measurement_has_no_latency() -> None:
    grid = Grid(axes=(GridAxis(first=1, count=2), GridAxis(first=1, count=4)))
    failing = [(1, 3), (1, 4), (2, 3), (2, 4)]
    blocks = median_blocks(build_curve(grid, lambda d: 1e-6, failing=failing), 2)
    np.testing.assert_array_equal(np.isnan(blocks.latency_s), [[False, True]])


def test_a_curve_that_is_small_enough_is_whole() -> None:
    grid = Grid(axes=(GridAxis(first=1, count=4), GridAxis(first=1, count=5)))
    curve = build_curve(grid, lambda d: 1e-6 * (10 * d[0] + d[1]))
    blocks = median_blocks(curve, 20)
    assert blocks.shape == (1, 1)
    np.testing.assert_array_equal(blocks.latency_s.ravel(), curve.latency_s)


@pytest.mark.parametrize(
    ("rows", "columns", "most", "sides"),
    [
        (1000, 1000, 65_536, (4, 4)),  # 250 · 250 = 62,500; with 4 × 3 they'd be 83,500
        (1, 1_000_000, 1000, (1, 1000)),
        (1_000_000, 2, 1000, (1000, 2)),
        (5, 5, 1, (5, 5)),
    ],
)
def test_blocks_are_as_square_as_can_be(
    rows: int, columns: int, most: int, sides: tuple[int, int]
) -> None:
    assert choose_sides(rows, columns, most) == sides
