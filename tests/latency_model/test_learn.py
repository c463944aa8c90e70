"""What is learned from the first visits of a sweep, on synthetic hosts with known effects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from profiler_service.analysis.neighbours import Neighbours
from profiler_service.analysis.samples import Samples
from profiler_service.grid import Grid
from profiler_service.latency_model.basis import Basis
from profiler_service.latency_model.first_visits import FirstVisits, find_first_visits
from profiler_service.latency_model.fit import Fit, fit
from profiler_service.latency_model.learn import learn
from profiler_service.latency_model.settings import LearningSettings
from profiler_service.latency_model.statistics import Statistics
from tests.latency_model.hosts import (
    F64,
    Host,
    Truth,
    effects_of_tiles,
    learn_from,
    no_effects,
    random_window,
    true_log_ratios,
)

ONE = Basis(1)
WINDOW = Grid.window((300,), (299,))


def nothing_known(basis: Basis = ONE) -> Fit:
    return fit(basis, Statistics.empty(basis.size, basis.num_axes))


def predict(known: Fit, grid: Grid) -> F64:
    """[points]"""
    return known.predict([np.array(axis.dims) for axis in grid.axes]).ravel()


def learn_window(host: Host, grid: Grid = WINDOW, *, count: int = 250, seed: int = 0) -> Statistics:
    """What one sweep says to somebody who knows nothing."""
    basis = Basis(len(grid.axes))
    visits = find_first_visits(host.visit(grid, count, seed), grid)
    return learn(visits, nothing_known(basis))


# What is learned holds in windows that were never seen.


@pytest.mark.parametrize("num_axes", [1, 2])
def test_what_random_windows_said_predicts_a_fresh_one(num_axes: int) -> None:
    """On a host that drifts by 5 %, with heavy tails and pre-empted calls.

    The prior knows growth alone. The point that is chosen by prediction has most of the gain that
    the best point of the window has.
    """
    known = learn_from(
        Host(truth=effects_of_tiles), [random_window(seed, num_axes) for seed in range(16)]
    )
    assert known.statistics.num_sweeps > 15
    gains, best, errors, before = [], [], [], []
    for seed in range(1000, 1015):
        grid = random_window(seed, num_axes)
        truth = true_log_ratios(effects_of_tiles, grid)
        predicted = predict(known, grid)
        gains.append(truth[predicted.argmin()])
        best.append(truth.min())
        errors.append(np.std(predicted - truth))
        before.append(np.std(predict(nothing_known(known.basis), grid) - truth))
    assert np.mean(best) < -0.02, "there is something to gain"
    assert np.mean(gains) < 0.8 * np.mean(best)
    assert np.mean(errors) < 0.5 * np.mean(before)


@pytest.mark.parametrize(
    ("name", "truth"),
    [
        # Each is a step of 5 % between points that are neighbours on the axis.
        ("classes", lambda points: -0.05 * (points[:, 0] % 32 == 0)),
        (
            "classes that grow",
            lambda points: (points[:, 0] % 2) * 0.05 * (np.log2(points[:, 0]) - 9),
        ),
        ("tiles", lambda points: 0.5 * np.log(-(-points[:, 0] // 128) * 128 / points[:, 0])),
        ("a trend that bends", lambda points: 0.8 * np.maximum(np.log(points[:, 0] / 512), 0.0)),
    ],
)
def test_each_kind_of_effect_is_found(name: str, truth: Truth) -> None:
    """Alone on a host: what is predicted of all dims varies as the truth does."""
    windows = [Grid.window((first,), (200,)) for first in range(150, 1200, 50)]
    known = learn_from(Host(truth=truth_in_seconds(truth)), windows)
    everywhere = Grid.window((200,), (1000,))
    expected = true_log_ratios(truth, everywhere)
    predicted = predict(known, everywhere)
    # The straight line through prediction over truth has the slope 1 if all of it is found.
    assert 0.75 < np.polyfit(expected, predicted, 1)[0] < 1.2, name
    assert np.std(predicted - expected) < 0.75 * np.std(expected), name


def truth_in_seconds(truth: Truth) -> Truth:
    return lambda points: np.log(20e-6) + truth(points)


def test_effects_of_pairs_are_found() -> None:
    """A kernel that only takes dims that are both multiples of 16: 8 % faster there.

    The prior expects 1 % of a pair of alignments, so the spread has to be learned, too.
    """

    def both(points: npt.NDArray[np.int64]) -> F64:
        log: F64 = -0.08 * (points % 16 == 0).all(axis=1)
        return log

    # A quarter of the points are multiples of 16 on both axes.
    windows = [Grid.window((size, size + 96), (160, 160), (8, 8)) for size in range(160, 800, 40)]
    known = learn_from(Host(truth=truth_in_seconds(both)), windows)
    for _ in range(3):
        known = fit(known.basis, known.statistics, spreads=known.find_spreads())
    fresh = Grid.window((896, 1024), (160, 160), (8, 8))
    predicted = predict(known, fresh).reshape(fresh.shape)
    rows, columns = (np.array(axis.dims) % 16 == 0 for axis in fresh.axes)

    def mean(of_rows: npt.NDArray[np.bool_], of_columns: npt.NDArray[np.bool_]) -> float:
        return float(predicted[np.ix_(of_rows, of_columns)].mean())

    # What rows and columns don't say one by one; -8 % in truth.
    together = mean(rows, columns) + mean(~rows, ~columns) - mean(rows, ~columns)
    assert together - mean(~rows, columns) < -0.03


def test_deviations_are_about_as_large_as_errors() -> None:
    """Of 40 pairs in each of 15 windows: mean squared error in units of the deviation is near 1.

    Errors of one window share that of its first point, so 15 windows count like some tens of
    independent values. A fit that follows its own noise has 2 to 10 here.
    """
    known = learn_from(Host(truth=effects_of_tiles), [random_window(seed, 2) for seed in range(15)])
    squares = []
    for seed in range(1000, 1015):
        grid = random_window(seed, 2)
        points = np.random.default_rng(seed).integers(1, grid.size, 40)
        error = (predict(known, grid) - true_log_ratios(effects_of_tiles, grid))[points]
        deviation = known.deviate(grid.first, grid.dims_of(points).astype(np.int64))
        squares.append(np.mean((error / deviation) ** 2))
    assert 0.4 < np.mean(squares) < 2.0


def test_a_single_sweep_of_few_visits_counts_no_more_than_its_visits() -> None:
    """800 features can follow 60 visits so closely that no noise seems to be left.

    A visit tells 1 / noise² at most: with noise of 2 % and heavy tails, less than 1 / 0.02² = 2500.
    """
    found = learn_window(Host(truth=no_effects), random_window(3, 2), count=60)
    assert found.num_visits > 50
    # Growth is a feature of log dims, which differ by less than 0.13 in the window. All pairs
    # together have the weight n / (2 noise²).
    growth = found.matrix[0, 0]
    assert growth < found.num_visits * 0.13**2 / (2 * 0.01**2)


# Noise, drift and states of the host are not learned.


def test_pure_noise_teaches_nothing() -> None:
    """All points are equally fast, up to growth: hardly any gain is predicted, and none is sure."""
    known = learn_from(Host(truth=no_effects), [random_window(seed, 2) for seed in range(15)])
    for _ in range(15):
        known = fit(known.basis, known.statistics, spreads=known.find_spreads())
    gains, inside = [], []
    for seed in range(1000, 1015):
        grid = random_window(seed, 2)
        predicted = predict(known, grid)
        best = int(predicted.argmin())
        gains.append(predicted[best])
        deviation = known.deviate(grid.first, np.array([grid.dims(best)]))[0]
        # The best of some thousand points, of which some tens are independent.
        assert best == 0 or predicted[best] > -4 * deviation
        points = np.random.default_rng(seed).integers(1, grid.size, 40)
        error = (predicted - true_log_ratios(no_effects, grid))[points]
        deviations = known.deviate(grid.first, grid.dims_of(points).astype(np.int64))
        inside += (np.abs(error) < 3 * deviations).tolist()
    assert np.mean(gains) > -0.012
    # Normal errors are within three deviations in 99.7 %. Those of one window hang together.
    assert np.mean(inside) > 0.97


@pytest.mark.parametrize("drift", [0.0, 0.05, 0.2])
def test_drift_makes_no_difference_of_sorted_visits(drift: float) -> None:
    """A ramp and a wave that all visits share fall on neighbours alike."""
    calm, drifting = (
        learn_window(Host(truth=effects_of_tiles, drift=each, spikes=0.0)) for each in (0.0, drift)
    )
    predicted = [predict(fit(ONE, each), WINDOW) for each in (calm, drifting)]
    truth = true_log_ratios(effects_of_tiles, WINDOW)
    errors = [np.std(each - truth) for each in predicted]
    assert errors[1] < 1.3 * errors[0] + 0.002


def test_a_change_of_the_level_within_a_sweep_makes_no_difference() -> None:
    """From the 100th visit on, everything takes twice as long."""
    [calibration, *batches] = Host(truth=effects_of_tiles).visit(WINDOW, 250, 0)
    slower, first = [], 0
    for batch in batches:
        factor = np.where(np.arange(first, first + len(batch)) < 100, 1.0, 2.0)
        slower.append(replace(batch, latency_s=batch.latency_s * factor))
        first += len(batch)
    truth = true_log_ratios(effects_of_tiles, WINDOW)
    errors = []
    for each in (batches, slower):
        found = learn(find_first_visits([calibration, *each], WINDOW), nothing_known())
        errors.append(np.std(predict(fit(ONE, found), WINDOW) - truth))
    assert errors[1] < 1.2 * errors[0] + 0.001


def test_the_unit_of_latency_makes_no_difference() -> None:
    batches = Host(truth=effects_of_tiles).visit(WINDOW, 250, 0)
    longer = [replace(batch, latency_s=1000 * batch.latency_s) for batch in batches]
    found, same = (
        learn(find_first_visits(each, WINDOW), nothing_known()) for each in (batches, longer)
    )
    scale = np.abs(found.matrix).max()
    np.testing.assert_allclose(same.matrix, found.matrix, rtol=1e-6, atol=1e-9 * scale)
    np.testing.assert_allclose(same.right, found.right, rtol=1e-6, atol=1e-7 * scale)


def test_repeated_visits_that_are_faster_make_no_difference() -> None:
    """The trap: a race visits multiples of 16 again and again, and warm visits are 10 % faster.

    All points are equally fast. First visits say so.
    """
    rng = np.random.default_rng(0)
    is_multiple = np.array([dim % 16 == 0 for (dim,) in WINDOW])
    others = rng.permutation(np.flatnonzero(~is_multiple))
    again = [rng.permutation([*np.flatnonzero(is_multiple), *others[k::20]]) for k in range(20)]
    sweep = Host(truth=no_effects).measure(WINDOW, again, seed=0)
    seen: set[int] = set()
    warm = []
    for batch in sweep:
        points = batch.point.tolist()
        is_warm = np.array([point in seen for point in points])
        seen.update(points)
        warm.append(replace(batch, latency_s=batch.latency_s * np.where(is_warm, 0.9, 1.0)))

    same, found = (
        learn(find_first_visits(each, WINDOW), nothing_known()) for each in (sweep, warm)
    )
    np.testing.assert_array_equal(found.matrix, same.matrix)
    np.testing.assert_array_equal(found.right, same.right)

    def gain(statistics: Statistics) -> float:
        """What multiples of 16 seem to have, beyond growth."""
        beyond = predict(fit(ONE, statistics), WINDOW) - true_log_ratios(no_effects, WINDOW)
        return float(beyond[is_multiple].mean() - beyond[~is_multiple].mean())

    assert abs(gain(found)) < 0.015
    # If all visits counted, multiples of 16 would seem faster: the sweep is such a trap.
    assert gain(learn(all_visits(warm[1:]), nothing_known())) < -0.05


def all_visits(batches: list[Samples]) -> FirstVisits:
    """As if each visit were a first one."""
    return FirstVisits(
        points=np.concatenate([WINDOW.dims_of(batch.point) for batch in batches]).astype(np.int64),
        log_latency=np.log(np.concatenate([batch.latency_s for batch in batches])),
        near=Neighbours.of_lengths([len(batch) for batch in batches]),
    )


# Little, or nothing, to learn from.


def test_a_sweep_with_too_few_visits_says_nothing() -> None:
    settings = LearningSettings(least_visits=16)
    grid = Grid.window((300,), (99,))
    for count, says in ((15, False), (16, True)):
        # The calibrated point 0 doesn't count; points 1 to `count` are visited.
        sweep = Host(truth=effects_of_tiles).measure(grid, [range(1, count + 1)], seed=0)
        found = learn(find_first_visits(sweep, grid), nothing_known(), settings)
        assert found.num_visits == (count if says else 0)
        assert found.num_sweeps == (1 if says else 0)
        assert len(found.windows) == (1 if says else 0)
        assert found.matrix.any() == says


def test_visits_that_have_no_neighbours_say_nothing() -> None:
    """Each in a batch of its own: the host's state may have changed in between."""
    sweep = Host(truth=effects_of_tiles).measure(WINDOW, [[1, 2], *([p] for p in range(3, 60))], 0)
    visits = find_first_visits(sweep, WINDOW)
    assert len(visits) == 59
    found = learn(
        replace(visits, near=Neighbours(np.arange(59), np.zeros(59, np.int64))), nothing_known()
    )
    assert (found.num_visits, found.num_sweeps) == (0, 0)


def test_a_clock_that_is_too_coarse_to_show_noise_is_no_error() -> None:
    """All visits take exactly as long: nothing is infinitely sure."""
    sweep = Host(truth=lambda points: np.full(len(points), -10.0)).visit(WINDOW, 200, 0)
    equal = [replace(batch, latency_s=np.full(len(batch), 2e-5)) for batch in sweep]
    found = learn(find_first_visits(equal, WINDOW), nothing_known())
    assert np.isfinite(found.matrix).all()
    predicted = predict(fit(ONE, found), WINDOW)
    # The prior expects growth by 2^0.7 from 300 to 599: less of it is seen.
    assert abs(predicted[-1]) < 0.02
    assert np.diag(found.matrix).max() < 200 / 1e-3**2 * np.log(599) ** 2


def test_windows_are_those_of_the_visits() -> None:
    found = learn_window(Host(truth=no_effects), Grid.window((300, 500), (40, 60)))
    assert found.windows.shape == (1, 2, 2)
    [[(first_row, last_row), (first_column, last_column)]] = found.windows.tolist()
    assert 300 <= first_row < 310 and 330 < last_row <= 340
    assert 500 <= first_column < 510 and 550 < last_column <= 560


def test_a_pruned_sweep_says_nearly_the_same() -> None:
    """A visit in three is a repeated one. Without those, others seem nearer in time."""
    rng = np.random.default_rng(0)
    order = rng.permutation(WINDOW.size)
    batches = [
        rng.permutation([*order[start : start + 40], *order[:20]])
        for start in range(20, WINDOW.size, 40)
    ]
    sweep = Host(truth=effects_of_tiles, spikes=0.0).measure(WINDOW, batches, seed=0)
    whole = find_first_visits(sweep, WINDOW)
    pruned = replace(whole, near=Neighbours(np.zeros(len(whole), np.int64), np.arange(len(whole))))
    predicted = [
        predict(fit(ONE, learn(visits, nothing_known())), WINDOW) for visits in (whole, pruned)
    ]
    truth = true_log_ratios(effects_of_tiles, WINDOW)
    errors = [float(np.std(each - truth)) for each in predicted]
    assert np.std(predicted[1] - predicted[0]) < 0.5 * max(errors)
    assert errors[1] < 1.2 * errors[0]


def test_one_sweep_says_something_of_its_window_and_little_elsewhere() -> None:
    known = fit(ONE, learn_window(Host(truth=effects_of_tiles)))
    truth = true_log_ratios(effects_of_tiles, WINDOW)
    before = np.std(predict(nothing_known(), WINDOW) - truth)
    assert np.std(predict(known, WINDOW) - truth) < 0.7 * before
    far = Grid.window((5000,), (200,))
    deviations = [known.deviate(grid.first, np.array([grid.last]))[0] for grid in (WINDOW, far)]
    # In octaves, the far window is 1/20 as wide, and yet it is as unsure: nothing is known there.
    assert deviations[1] > deviations[0]
    assert known.find_distance((5000,)) > 3
