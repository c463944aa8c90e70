"""What a fit says of a window: its landscape, the point to choose, and what a race starts from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from profiler_service.grid import Grid, GridAxis
from profiler_service.latency_model.basis import Basis
from profiler_service.latency_model.calibration import Calibration, Score, Standing
from profiler_service.latency_model.fit import Fit, fit
from profiler_service.latency_model.predict import (
    Prediction,
    choose_pair,
    predict_landscape,
    start_race,
)
from profiler_service.latency_model.settings import MODEL
from profiler_service.latency_model.statistics import Statistics
from tests.latency_model.hosts import F64, Host, effects_of_tiles, learn_from, random_window

LEAST_DEVIATION = MODEL.calibration.least_deviation


def deviation_of(log_ratio: float, own: float = 0.0) -> float:
    """Of a prediction: its own, what single points have, and a fifth of what it promises."""
    return math.sqrt(own**2 + LEAST_DEVIATION**2 + (0.2 * log_ratio) ** 2)


NOTHING = Calibration([])


def know(num_axes: int, multiples: Mapping[int, float], *, growth: float = 0.0) -> Fit:
    """A fit that is sure of these effects of multiples on every axis, and of nothing else.

    All windows within 100 … 1000 were learned from.
    """
    basis = Basis(num_axes)
    effects = np.zeros(basis.size)
    for group in basis.groups:
        if group.name.endswith(": growth"):
            effects[group.start] = growth
        for multiple, effect in multiples.items():
            if group.name.endswith(f": mod {multiple}"):
                effects[group.start] = effect  # of the residue 0
    precision = 1e10
    statistics = Statistics(
        matrix=precision * np.eye(basis.size),
        right=precision * effects,
        num_visits=1e4,
        num_sweeps=50.0,
        windows=np.array([[[100, 1000]] * num_axes]),
    )
    return fit(basis, statistics)


def held_against(errors: Sequence[float], *, misses: int = 0) -> Calibration:
    """Earlier predictions with these errors in deviations; the last ones missed their intervals."""
    count = len(errors)
    return Calibration(
        [
            Score(
                predicted=0.0,
                deviation=0.01,
                half_width=1.0 if number < count - misses else 0.0,
                distance=math.inf,  # counts for near ones, too
                measured=0.01 * error + (number >= count - misses) * 1e-9,
            )
            for number, error in enumerate(errors)
        ]
    )


STEADY = held_against([number / 20 - 1 for number in range(40)])
"""Errors from -1 to 0.95 deviations: what promises one deviation is no slower, as far as known."""


def log_of(landscape_log: F64, grid: Grid, *dims: int) -> float:
    index = grid.find_index(dims)
    assert index is not None
    return float(landscape_log[index])


# The landscape.


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_a_landscape_is_the_prediction_of_every_point(num_axes: int) -> None:
    """Multiples of 16 are 5 % faster on each axis: 304 and 320 for each axis from 300 on.

    A point with n of them has -0.05 n; 300 itself is none. So is growth: 0.5 log(d / 300).
    """
    known = know(num_axes, {16: -0.05}, growth=0.5)
    grid = Grid.window((300,) * num_axes, (20,) * num_axes)
    found = predict_landscape(known, grid)
    expected = [
        sum(0.5 * math.log(dim / 300) - 0.05 * (dim % 16 == 0) for dim in dims) for dims in grid
    ]
    assert found.log_ratio == pytest.approx(expected, abs=1e-5)
    assert found.log_ratio[0] == 0
    assert not found.excluded.any()
    assert found.distance == 0


def test_points_between_the_steps_are_no_candidates() -> None:
    """From (301, 301) in multiples of 8: a row or column that stays at 301 is measured only there.

    301, 304, 312 on each axis: of nine points the first and the four on both axes' steps are left.
    """
    grid = Grid.window((301, 301), (12, 12), (8, 8))
    found = predict_landscape(know(2, {8: -0.1}), grid)
    assert grid.shape == (3, 3)
    assert np.flatnonzero(~found.excluded).tolist() == [0, 4, 5, 7, 8]
    # All points are predicted, for a picture of them.
    assert found.log_ratio == pytest.approx(
        [0, -0.1, -0.1, -0.1, -0.2, -0.2, -0.1, -0.2, -0.2], abs=1e-5
    )


def test_refused_points_are_no_candidates_but_the_first_one_is() -> None:
    """A kind may refuse what is asked about, too; it is never its own rival."""
    grid = Grid.window((300,), (20,))
    found = predict_landscape(know(1, {16: -0.05}), grid, refused=[0, 4])
    assert np.flatnonzero(found.excluded).tolist() == [4]
    # 304, position 4, is refused: 320 is the other multiple of 16.
    assert choose_pair(know(1, {16: -0.05}), found, NOTHING).pair.dims == (320,)


def test_distances_are_those_of_the_first_point() -> None:
    known = know(1, {})
    assert predict_landscape(known, Grid.window((2000,), (9,))).distance == 1.0
    assert predict_landscape(known, Grid.window((99,), (100,))).distance == pytest.approx(
        math.log2(100 / 99), abs=0.001
    )
    nothing = fit(known.basis, Statistics.empty(known.basis.size, 1))
    assert predict_landscape(nothing, Grid.window((300,), (9,))).distance == math.inf


# Pairs.


def choose(
    known: Fit,
    grid: Grid,
    calibration: Calibration = NOTHING,
    *,
    prefer: str = "fastest",
    slack: float = 0.0,
) -> Prediction:
    landscape = predict_landscape(known, grid)
    if prefer == "nearest":
        return choose_pair(known, landscape, calibration, prefer="nearest", slack=slack)
    if prefer == "largest":
        return choose_pair(known, landscape, calibration, prefer="largest", slack=slack)
    return choose_pair(known, landscape, calibration, slack=slack)


def test_the_fastest_point_is_chosen_before_any_calibration() -> None:
    """304 is a multiple of 16, and 320 of 64, too: 3 % more."""
    grid = Grid.window((300,), (40,))
    found = choose(know(1, {16: -0.05, 64: -0.03}), grid)
    assert found.pair.dims == (320,)
    assert found.pair.log_ratio == pytest.approx(-0.08, abs=1e-5)
    assert found.pair.deviation == pytest.approx(deviation_of(-0.08), abs=1e-4)
    assert (found.pair.half_width, found.pair.distance) == (None, 0.0)
    assert found.standing is Standing.UNCALIBRATED
    assert found.probability is None
    assert not found.is_believed


def test_a_calibrated_pair_has_an_interval_and_a_probability() -> None:
    """40 errors up to 1 deviation: the interval is the 39th, 0.95. It promises far more than 1."""
    found = choose(know(1, {16: -0.05}), Grid.window((300,), (15,)), STEADY)
    assert found.pair.dims == (304,)
    assert found.pair.half_width == pytest.approx(0.95 * deviation_of(-0.05), abs=1e-4)
    assert found.probability == pytest.approx(40 / 41)
    assert found.standing is Standing.CALIBRATED
    assert found.is_believed


def test_a_small_gain_is_not_believed() -> None:
    """0.52 deviations: 31 of 40 errors are at most that (-1, -0.95, …, 0.5). 31 / 41 is too little.

    It is chosen all the same: so it is scored, and people see it.
    """
    found = choose(know(1, {16: -0.52 * LEAST_DEVIATION}), Grid.window((300,), (15,)), STEADY)
    assert found.pair.dims == (304,)
    assert found.probability == pytest.approx(31 / 41)
    assert not found.is_believed


def test_what_was_withdrawn_is_not_believed() -> None:
    errors = [number / 20 - 1 for number in range(40)]
    withdrawn = held_against(errors, misses=5)
    found = choose(know(1, {16: -0.05}), Grid.window((300,), (15,)), withdrawn)
    assert found.standing is Standing.WITHDRAWN
    assert found.probability is not None and found.probability > 0.9
    assert not found.is_believed


def test_the_first_point_stays_if_nothing_promises_to_be_faster() -> None:
    """Latency only grows. The pair of a point with itself is sure."""
    known = know(1, {}, growth=0.8)
    found = choose(known, Grid.window((300,), (40,)))
    assert found.pair.dims == (300,)
    assert (found.pair.log_ratio, found.pair.half_width, found.probability) == (0.0, 0.0, 1.0)


def test_a_window_of_one_point_is_that_point() -> None:
    for prefer in ("fastest", "nearest", "largest"):
        found = choose(know(1, {16: -0.05}), Grid.window((300,), (0,)), STEADY, prefer=prefer)
        assert found.pair.dims == (300,)


def test_nearest_and_largest_are_the_preferred_ones_of_the_probable() -> None:
    """304, 320 and 336 are 5 % faster, all others aren't."""
    known, grid = know(1, {16: -0.05}), Grid.window((300,), (39,))
    assert choose(known, grid, STEADY, prefer="nearest").pair.dims == (304,)
    assert choose(known, grid, STEADY, prefer="largest").pair.dims == (336,)


def test_nearest_is_the_least_growth_over_both_axes() -> None:
    """304 is 3 / 301 = 1.0 % more than 301, and 912 is 12 / 900 = 1.3 % more than 900."""
    known = know(2, {16: -0.05})
    grid = Grid.window((301, 900), (20, 40))
    assert choose(known, grid, STEADY, prefer="nearest").pair.dims == (304, 900)
    largest = choose(known, grid, STEADY, prefer="largest").pair.dims
    # One multiple suffices: 320 · 940 = 300800 against 321 · 928 = 297888.
    assert largest == (320, 940)


@pytest.mark.parametrize("prefer", ["nearest", "largest"])
def test_without_calibration_nearest_and_largest_move_nothing(prefer: str) -> None:
    found = choose(know(1, {16: -0.05}), Grid.window((300,), (39,)), prefer=prefer)
    assert found.pair.dims == (300,)
    assert found.standing is Standing.UNCALIBRATED


@pytest.mark.parametrize("prefer", ["nearest", "largest"])
def test_what_promises_too_little_is_not_preferred(prefer: str) -> None:
    known = know(1, {16: -0.5 * LEAST_DEVIATION})
    found = choose(known, Grid.window((300,), (39,)), STEADY, prefer=prefer)
    assert found.pair.dims == (300,)


def test_slack_allows_points_that_are_a_little_slower() -> None:
    """Latency grows like d^0.5: at 303 by 0.5 %. With 2 % of slack, that is surely allowed.

    Errors reach 0.95 deviations, 0.4 %. log 1.02 = 1.98 %: points up to 1.98 - 0.4 = 1.58 % slower
    are allowed for sure, so d = 300 · e^(2 · 0.0158) = 309.6, or a little more with 90 %.
    """
    known, grid = know(1, {}, growth=0.5), Grid.window((300,), (39,))
    assert choose(known, grid, STEADY, prefer="largest").pair.dims == (300,)
    [dim] = choose(known, grid, STEADY, prefer="largest", slack=0.02).pair.dims
    assert 309 <= dim <= 311
    assert choose(known, grid, STEADY, prefer="nearest", slack=0.02).pair.dims == (301,)


def test_the_preferred_one_is_found_among_very_many() -> None:
    """2,601 points, of which the largest ones are no multiples: more than are looked at together.

    Only multiples of 64 on both axes promise enough: (320, 960) alone.
    """
    known = know(2, {64: -0.7 * LEAST_DEVIATION})
    grid = Grid.window((300, 930), (50, 50))
    found = choose(known, grid, STEADY, prefer="largest")
    assert found.pair.dims == (320, 960)


def test_an_unsure_prediction_is_as_unsure_as_the_model() -> None:
    """Nothing learned: even numbers may differ from odd ones by √2 · 1.5 %, and so on."""
    basis = Basis(1)
    nothing = fit(basis, Statistics.empty(basis.size, 1))
    landscape = predict_landscape(nothing, Grid.window((300,), (9,)))
    own = nothing.deviate((300,), np.array([[301]]))[0]
    found = choose_pair(nothing, landscape, STEADY, prefer="nearest", slack=0.2)
    assert found.pair.dims == (301,)
    expected = deviation_of(found.pair.log_ratio, own)
    assert found.pair.deviation == pytest.approx(expected, abs=1e-6)
    assert own > 0.03  # seven classes: √(2 · 7) · 1.5 % = 5.6 %, and more


# What a race starts from.


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_a_race_gets_the_effects_of_the_positions_and_the_pair(num_axes: int) -> None:
    """Each axis' effects are those of its class, with mean 0: -0.05 at 304 of 300 … 309."""
    known = know(num_axes, {16: -0.05})
    grid = Grid.window((300,) * num_axes, (9,) * num_axes)
    landscape = predict_landscape(known, grid)
    learned = start_race(known, landscape, STEADY)
    assert learned.effects is not None
    assert len(learned.effects) == num_axes
    for effects in learned.effects:
        # The mean is -0.005.
        expected = [-0.045 if dim == 304 else 0.005 for dim in range(300, 310)]
        assert effects == pytest.approx(expected, abs=2e-5)
    assert learned.pair == choose_pair(known, landscape, STEADY).pair
    assert learned.pair.dims == (304,) * num_axes


def test_effects_of_a_race_have_the_positions_of_its_grid() -> None:
    grid = Grid(
        axes=(GridAxis(first=301, count=3, step=16, second=304), GridAxis(first=705, count=2))
    )
    known = know(2, {16: -0.05})
    learned = start_race(known, predict_landscape(known, grid), NOTHING)
    assert learned.effects is not None
    assert [len(effects) for effects in learned.effects] == [3, 2]
    assert learned.effects[0] == pytest.approx([0.1 / 3, -0.05 / 3, -0.05 / 3], abs=2e-5)
    assert learned.effects[1] == pytest.approx([0, 0], abs=2e-5)


@pytest.mark.parametrize(
    ("num_sweeps", "first", "misses", "starts"),
    [
        (8.0, 300, 0, True),
        (7.9, 300, 0, False),  # too few sweeps
        (8.0, 2000, 0, True),  # 1000 was learned from: one octave
        (8.0, 2010, 0, False),
        (8.0, 300, 5, False),  # withdrawn
    ],
)
def test_a_race_starts_only_from_what_is_well_known(
    num_sweeps: float, first: int, misses: int, starts: bool
) -> None:
    """The pair is there in any case, to be scored."""
    known = replace(know(1, {16: -0.05}), num_sweeps=num_sweeps)
    landscape = predict_landscape(known, Grid.window((first,), (9,)))
    calibration = held_against([number / 20 - 1 for number in range(40)], misses=misses)
    learned = start_race(known, landscape, calibration)
    assert (learned.effects is not None) == starts
    # 304, 2000 itself, and 2016: multiples of 16.
    assert learned.pair.dims[0] % 16 == 0


def test_chosen_pairs_of_a_learned_host_are_within_three_deviations() -> None:
    """The chosen one is flattered a little: so in nine of ten windows, not in 99.7 %."""
    known = learn_from(Host(truth=effects_of_tiles), [random_window(seed, 1) for seed in range(30)])
    held = []
    for seed in range(1000, 1060):
        grid = random_window(seed, 1)
        found = choose(known, grid)
        dims = np.array([grid.first, found.pair.dims])
        before, after = effects_of_tiles(dims)
        held.append(abs(after - before - found.pair.log_ratio) < 3 * found.pair.deviation)
    assert np.mean(held) > 0.9
