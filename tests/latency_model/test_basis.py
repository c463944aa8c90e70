"""The features of dims, derived by hand from a small table of settings."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest

from profiler_service.grid import Grid, GridAxis
from profiler_service.latency_model.basis import Basis
from profiler_service.latency_model.settings import BasisSettings

SMALL = BasisSettings(
    knots_per_octave=1,
    first_knot=4,
    last_knot=6,
    growth=0.7,
    growth_spread=0.3,
    bend_spread=0.1,
    classes=(2, 4),
    class_spread=0.015,
    growing_classes=(2,),
    growing_spread=0.005,
    tiles=(8, 16),
    fill_spread=0.2,
    pair_spread=0.01,
)
"""For each axis 1 growth, 3 bends (log2 of 4, 5, 6), 2 + 4 classes, 2 growing ones, 2 tiles: 14."""
AXIS = 14


def rows_of(*points: tuple[int, ...]) -> npt.NDArray[np.float64]:
    return Basis(len(points[0]), SMALL).rows(np.array(points, dtype=np.int64))


@pytest.mark.parametrize(
    ("num_axes", "size"),
    [
        (1, AXIS),  # no product, no pairs
        (2, 2 * AXIS + 3 + 9),  # 3 bends of the product, 3 x 3 alignments (odd, 2, 4)
        (3, 3 * AXIS + 3 + 3 * 9),  # and of three pairs of axes
    ],
)
def test_groups_cover_all_features_once(num_axes: int, size: int) -> None:
    basis = Basis(num_axes, SMALL)
    assert basis.size == size
    ends = [0, *(group.stop for group in basis.groups)]
    assert [group.start for group in basis.groups] == ends[:-1]
    assert ends[-1] == size
    assert len({group.name for group in basis.groups}) == len(basis.groups)
    point = np.full((1, num_axes), 48)
    assert basis.rows(point).shape == (1, size)
    assert basis.mean.shape == basis.spread().shape == (size,)


def test_features_of_an_axis_by_hand() -> None:
    """48 is 0 mod 2 and mod 4. log2 is 5.585: 1.585 and 0.585 octaves beyond the knots 4 and 5.

    It is 9 - 5.585 = 3.415 octaves below 512, so what grows counts -3.415. Tiles of 8 and 16 are
    full. 45 is 1 mod 2 and mod 4; three more would fill its tiles: waste log(48 / 45).
    """
    [even, odd] = rows_of((48,), (45,))
    log2 = math.log2(48)
    assert even[0] == pytest.approx(math.log(48))
    assert even[1:4] == pytest.approx([(log2 - 4) * math.log(2), (log2 - 5) * math.log(2), 0])
    assert even[4:6].tolist() == [1, 0]
    assert even[6:10].tolist() == [1, 0, 0, 0]
    assert even[10:12] == pytest.approx([log2 - 9, 0])
    assert even[12:] == pytest.approx([0, 0])
    assert odd[4:6].tolist() == [0, 1]
    assert odd[6:10].tolist() == [0, 1, 0, 0]
    assert odd[10:12] == pytest.approx([0, math.log2(45) - 9])
    assert odd[12:] == pytest.approx([math.log(48 / 45)] * 2)


def test_a_growing_effect_is_0_at_512() -> None:
    [row] = rows_of((512,))
    assert row[10:12].tolist() == [0, 0]


def test_features_of_pairs_by_hand() -> None:
    """(48, 30): the largest classes are 4 (level 2) and 2 (level 1), so pair 2 · 3 + 1 = 7.

    The product's knots are two axes' 4, 5, 6 together: 8, 10, 12. log2(48 · 30) = 10.49.
    """
    [row] = rows_of((48, 30))
    beyond = (math.log2(48 * 30) - np.array([8, 10, 12])) * math.log(2)
    assert row[2 * AXIS : 2 * AXIS + 3] == pytest.approx(np.maximum(beyond, 0))
    assert row[2 * AXIS + 3 :].tolist() == [float(number == 7) for number in range(9)]


def test_axes_of_a_point_have_the_features_that_each_has_alone() -> None:
    [row] = rows_of((48, 45))
    [first], [second] = rows_of((48,)), rows_of((45,))
    assert row[: 2 * AXIS].tolist() == [*first, *second]


def test_what_is_expected_before_anything_is_learned_is_growth_alone() -> None:
    basis = Basis(2, SMALL)
    assert np.flatnonzero(basis.mean).tolist() == [0, AXIS]
    assert basis.mean[[0, AXIS]].tolist() == [0.7, 0.7]
    point = np.array([[100, 200]])
    assert basis.rows(point) @ basis.mean == pytest.approx(0.7 * math.log(100 * 200))


def test_spreads_are_those_of_the_groups() -> None:
    basis = Basis(1, SMALL)
    #           growth  bends       mod 2, mod 4  growing      tiles
    expected = [0.3] + [0.1] * 3 + [0.015] * 6 + [0.005] * 2 + [0.2] * 2
    assert basis.spread().tolist() == expected
    others = [float(number) for number in range(len(basis.groups))]
    assert basis.spread(others).tolist() == [0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5]


GRIDS = [
    Grid.window((500,), (70,)),
    Grid.window((9,), (60,)),
    Grid(axes=(GridAxis(first=10, count=30, step=1200),)),  # beyond the last knot, 2^14
    Grid.window((317, 1197), (20, 30)),
    Grid.window((317, 1197), (200, 300), (64, 48)),  # with `second`: 317 and 1197 are no multiples
    Grid(axes=(GridAxis(first=30_000, count=3, step=999), GridAxis(first=3, count=4, step=7))),
    Grid.window((100, 200, 300), (8, 5, 9)),
    Grid(axes=(GridAxis(first=7, count=1), GridAxis(first=8, count=5), GridAxis(first=9, count=1))),
]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("settings", [SMALL, BasisSettings()], ids=["small", "own"])
def test_a_prediction_of_a_grid_is_rows_times_effects(grid: Grid, settings: BasisSettings) -> None:
    basis = Basis(len(grid.axes), settings)
    effects = np.random.default_rng(0).standard_normal(basis.size)
    found = basis.predict(effects, [np.array(axis.dims) for axis in grid.axes])
    assert found.shape == grid.shape
    expected = basis.rows(grid.all_dims().astype(np.int64)) @ effects
    np.testing.assert_allclose(found.ravel(), expected, rtol=0, atol=1e-9)


def test_each_group_makes_the_prediction_that_its_name_says() -> None:
    """A group's effects alone: what they make of a grid depends on nothing else."""
    basis = Basis(2, SMALL)
    axes = [np.arange(100, 140), np.arange(60, 90)]
    rng = np.random.default_rng(1)
    for group in basis.groups:
        effects = np.zeros(basis.size)
        effects[group.start : group.stop] = rng.standard_normal(group.stop - group.start)
        found = basis.predict(effects, axes)
        if group.name.startswith("axis 0"):
            assert np.ptp(found, axis=1).max() < 1e-12
        elif group.name.startswith("axis 1"):
            assert np.ptp(found, axis=0).max() < 1e-12
        if group.name.endswith("mod 4"):
            axis = int(group.name[5])
            for residue in range(4):
                same = np.take(found, np.flatnonzero(axes[axis] % 4 == residue), axis)
                assert np.ptp(same) < 1e-12
    names = {group.name for group in basis.groups}
    assert {"axis 0: mod 4", "axis 1: growth", "product: bend", "axes 0 and 1: alignment"} <= names


def test_trends_are_straight_below_the_first_knot_and_above_the_last() -> None:
    """Equal steps of the log: the second difference of what growth and bends say is 0 there."""
    basis = Basis(1, SMALL)
    effects = np.zeros(basis.size)
    effects[:4] = [0.7, 0.1, -0.3, 0.2]

    def bend(*dims: int) -> float:
        first, second, third = basis.predict(effects, [np.array(dims)])
        return float(third - 2 * second + first)

    assert bend(4, 8, 16) == pytest.approx(0)  # 16 = 2^4 is the first knot
    assert bend(64, 128, 256) == pytest.approx(0)  # 64 = 2^6 is the last one
    assert bend(1 << 20, 1 << 25, 1 << 30) == pytest.approx(0)
    # At a knot the slope changes by its effect: 2^5 has -0.3.
    assert bend(16, 32, 64) == pytest.approx(-0.3 * math.log(2))


def test_classes_repeat_and_tiles_are_full_at_their_multiples() -> None:
    rows = Basis(1).rows(np.arange(1, 1025)[:, np.newaxis])
    basis = Basis(1)
    for group, multiple in itertools.product(basis.groups, (2, 16, 128)):
        if group.name == f"axis 0: mod {multiple}":
            part = rows[:, group.start : group.stop]
            assert (part.sum(axis=1) == 1).all()
            np.testing.assert_array_equal(part[multiple:], part[:-multiple])
    tiles = rows[:, basis.groups[-1].start :]
    assert basis.groups[-1].name == "axis 0: tiles"
    # 256 fills tiles of every size; 257 begins a new one of each.
    assert tiles[255].tolist() == [0] * 6
    assert tiles[256] == pytest.approx(
        [math.log(size / 257) for size in (264, 272, 288, 320, 384, 512)]
    )
