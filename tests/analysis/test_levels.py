"""Levels of many points, from rounds in which some of them met: their values and errors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.neighbours import Neighbours, fit_levels
from tests.analysis.series import Series, draw_states, order_rounds, simulate


def contest(seed: int) -> tuple[Series, F64]:
    """Six points with random levels in three batches; every batch has four of them."""
    rng = np.random.default_rng(seed)
    level = 0.03 * rng.standard_normal(6)
    level -= level.mean()
    fields = [*[[0, 1, 2, 3]] * 30, *[[2, 3, 4, 5]] * 30, *[[0, 1, 4, 5]] * 30]
    series = order_rounds(fields, rng)
    batch = series.round_number // 30
    value = level[series.point] + np.array([0.0, 0.5, -0.3])[batch]
    value += draw_states(len(value), rng, visits=(5, 40), correlation=0.0)
    value += 0.01 * rng.standard_normal(len(value))
    value += rng.uniform(0.1, 0.6, len(value)) * (rng.random(len(value)) < 0.03)
    return replace(series, batch=batch, value=value), level


def contrasts(size: int) -> Iterator[F64]:
    """The difference of each two of so many groups."""
    for first, second in itertools.combinations(range(size), 2):
        contrast = np.zeros(size)
        contrast[first], contrast[second] = 1.0, -1.0
        yield contrast


def test_levels_err_as_they_say() -> None:
    """120 contests: each difference, over the error that is said of it, has a deviation of 1."""
    scores: list[float] = []
    for seed in range(120):
        series, level = contest(seed)
        found = series.levels()
        for contrast in contrasts(6):
            error = math.sqrt(contrast @ found.covariance @ contrast)
            scores.append(float(contrast @ (found.level - level)) / error)
    assert float(np.std(scores)) == pytest.approx(1.0, abs=0.15)
    assert abs(float(np.mean(scores))) < 0.15
    assert float(np.mean(np.abs(scores) > 1.96)) < 0.09


def test_batches_are_not_mixed() -> None:
    """Whatever the host was like in other batches, their levels say nothing of the points."""
    series, _ = contest(0)
    before = series.levels()
    after = replace(series, value=series.value + np.array([0.0, 5.0, -2.0])[series.batch]).levels()
    # Passes end when levels move by less than 1e-5. Noise is 1 %.
    np.testing.assert_allclose(after.level, before.level, atol=1e-4)
    np.testing.assert_allclose(after.covariance, before.covariance, rtol=0.02, atol=1e-8)
    assert before.level.mean() == pytest.approx(0.0, abs=1e-12)


def test_points_that_never_met_are_compared_through_others() -> None:
    """0 meets 1, and 1 meets 2, in batches that differ by 40 %: 0 is 2 % + 3 % above 2.

    The errors of both comparisons add in squares, but for what is added for points whose samples
    disagree.
    """
    rng = np.random.default_rng(0)
    series = order_rounds([*[[0, 1]] * 60, *[[1, 2]] * 60], rng)
    batch = series.round_number // 60
    value = np.array([0.05, 0.03, 0.0])[series.point] + 0.4 * batch
    value += 0.01 * rng.standard_normal(len(value))
    found = replace(series, batch=batch, value=value).levels()
    assert found.level[0] - found.level[2] == pytest.approx(0.05, abs=0.008)
    first, second, both = (
        float(np.array(each) @ found.covariance @ np.array(each))
        for each in ([1, -1, 0], [0, 1, -1], [1, 0, -1])
    )
    assert both == pytest.approx(first + second, rel=0.1)
    # Two means of 60 visits with noise of 1 %.
    assert 0.6 < first / (2 * 0.01**2 / 60) < 2.5


def test_points_without_a_link_have_any_level() -> None:
    """0 and 1 meet in one batch, 2 and 3 in another: nothing says how far these are apart."""
    rng = np.random.default_rng(0)
    series = order_rounds([*[[0, 1]] * 30, *[[2, 3]] * 30], rng)
    batch = series.round_number // 30
    value = np.array([0.0, 0.1, 0.0, 0.2])[series.point] + 0.01 * rng.standard_normal(120)
    found = replace(series, batch=batch, value=value + 0.5 * batch).levels()
    assert found.level[1] - found.level[0] == pytest.approx(0.1, abs=0.01)
    assert found.level[3] - found.level[2] == pytest.approx(0.2, abs=0.01)
    for apart in ([1, 0, -1, 0], [0, 1, -1, 0], [0, 1, 0, -1]):
        assert np.array(apart) @ found.covariance @ np.array(apart) > 0.5**2


def test_levels_of_nothing_and_of_one_point() -> None:
    none = np.zeros(0, dtype=np.intp)
    assert fit_levels(np.zeros(0), none, none, Neighbours.of_lengths([])).level.tolist() == []
    alone = fit_levels(
        np.full(5, -9.0), np.zeros(5, dtype=np.intp), np.arange(5), Neighbours.of_lengths([5])
    )
    assert alone.level.tolist() == [0.0]
    assert alone.residual.tolist() == [-9.0] * 5


def test_two_points_have_the_same_ratio_as_levels_and_as_a_pair() -> None:
    """Both ways weigh the same pairs, so they differ by less than their error.

    Levels are said to err no less, and more where the samples of a point disagree.
    """
    for seed in range(5):
        series = simulate(seed, points=2, rounds=100)
        pair, levels = series.pair(0, 1), series.levels()
        contrast = np.array([1.0, -1.0])
        error = math.sqrt(contrast @ levels.covariance @ contrast)
        assert float(contrast @ levels.level) == pytest.approx(pair.center, abs=0.2 * error)
        assert 0.9 < error / pair.error < 1.3
