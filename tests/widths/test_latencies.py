"""Which grids are measured, and what is made of their latencies; values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from profiler_service.errors import MeasurementFailedError
from profiler_service.widths.latencies import cover, fill, make_grid, make_range
from profiler_service.widths.structure import LayerSizes, Number


def number(now: int, **changes: list[int]) -> Number:
    """A size that groups `g0`, `g1`, … change."""
    found = {int(name[1:]): np.array(change) for name, change in changes.items()}
    return Number(now=now, changes=found)


def linear(out: Number, into: Number) -> LayerSizes:
    return LayerSizes(
        name="layer",
        kind="linear",
        fixed=(("batch", 16),),
        sizes={"out_features": out, "in_features": into},
    )


def test_a_grid_has_every_size_of_the_layer_and_not_the_one_now() -> None:
    layer = linear(number(41, g0=[-9, -1, 7]), number(100, g1=[-20, 20]))
    grid = make_grid(layer, [3, 2])
    # 32, 40, 48 and 80, 120: steps of 8 and of 40.
    assert dict(grid.axes) == {"out_features": (32, 40, 48), "in_features": (80, 120)}
    assert grid.num_points == 6
    request = grid.make_request(budget_s=2.0, host="anvil")
    assert request.params == {"batch": 16, "vary": "out_features,in_features"}
    assert [axis.dims for axis in request.axes] == [[32, 40, 48], [80, 120]]
    assert (request.budget, request.host, request.mode) == (2.0, "anvil", "grid")


def test_sizes_with_uneven_distances_lie_on_the_grid_of_their_divisor() -> None:
    layer = linear(number(64, g0=[0, 32, 128]), number(8, g0=[0, 4, 6]))
    grid = make_grid(layer, [3])
    assert dict(grid.axes) == {
        "out_features": (64, 96, 192),  # the first one may be nearer
        "in_features": (8, 10, 12, 14),  # 8, 12, 14: from 8, only steps of 2 lead to both
    }


@pytest.mark.parametrize(
    ("values", "dims"),
    [
        ([8], (8,)),
        ([8, 24], (8, 24)),
        ([16, 32, 48], (16, 32, 48)),
        # The width now, and multiples above it.
        ([1197, 1200, 1216, 1232], (1197, 1200, 1216, 1232)),
        ([1197, 1200], (1197, 1200)),
        # 24 and 28 have a step of 4, and 8 is farther away: what lies between is measured as well.
        ([8, 24, 28], (8, 12, 16, 20, 24, 28)),
        ([5, 8, 16, 40], (5, 8, 16, 24, 32, 40)),
    ],
)
def test_a_sweep_measures_the_values_and_little_else(
    values: list[int], dims: tuple[int, ...]
) -> None:
    assert cover(values) == dims
    assert tuple(make_range(dims).dims) == dims


def test_equal_layers_have_equal_grids() -> None:
    one = linear(number(41, g0=[-9, -1, 7]), number(100, g1=[-20, 20]))
    other = linear(number(41, g2=[-9, -1, 7]), number(99, g1=[-19, 21]))
    assert make_grid(one, [3, 2, 3]) == make_grid(other, [3, 2, 3])


def test_the_work_of_a_grid_is_that_of_its_last_point() -> None:
    grid = make_grid(linear(number(8, g0=[0]), number(4, g1=[0, 2])), [1, 2])
    assert grid.estimate_flops() == 2 * 16 * 8 * 6


def test_what_was_not_measured_is_fitted_from_the_other_points() -> None:
    # Rows 1, 2, 4 times columns 1, 3: the additive fit of logarithms is exact.
    whole = np.outer([1.0, 2.0, 4.0], [1.0, 3.0]) * 1e-3
    holes = whole.copy()
    holes[0, 1] = holes[2, 0] = np.nan
    assert fill(holes) == pytest.approx(whole, rel=1e-6)
    assert fill(whole) == pytest.approx(whole)


def test_a_row_without_any_point_is_between_its_neighbours() -> None:
    latency_s = np.array([[1.0, 2.0], [np.nan, np.nan], [4.0, 8.0]])
    assert fill(latency_s)[1] == pytest.approx([2.0, 4.0], rel=1e-6)  # in logarithms


def test_what_cannot_be_measured_stays_infinite_and_counts_for_nothing() -> None:
    latency_s = np.array([[1.0, 2.0], [math.inf, np.nan], [1.0, 2.0]])
    filled = fill(latency_s)
    assert filled[1, 0] == math.inf
    assert filled[1, 1] == pytest.approx(2.0)


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(MeasurementFailedError, match="none of the points"):
        fill(np.array([np.nan, math.inf]))
