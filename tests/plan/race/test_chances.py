"""What the fit makes probable: ratios to the queried point, and draws of preferred points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.neighbours import Neighbours
from profiler_service.plan.race.chances import (
    PreferredDraw,
    draw_preferred,
    find_ratios,
)
from profiler_service.plan.race.structure import Structure, StructureFit

DIMS = [np.arange(64, 72), np.arange(64, 72)]


def shuffled(visits: int) -> npt.NDArray[np.intp]:
    """So many rounds of all points, each in random order."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.permutation(64) for _ in range(visits)])


def fit_to(number: npt.NDArray[np.integer], value: F64) -> StructureFit:
    positions = np.stack(np.unravel_index(number, (8, 8)), axis=1)
    return Structure(DIMS).fit(positions, value, Neighbours.of_lengths([len(number)]))


def test_ratios_hold_the_truth_as_often_as_they_promise() -> None:
    """Rows differ by 1 %, points by 0.3 %: standard scores of the errors have a spread of 1."""
    scores = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        truth = np.repeat(0.01 * rng.standard_normal(8), 8) + 0.003 * rng.standard_normal(64)
        number = np.concatenate([rng.permutation(np.tile(np.arange(64), 2)), np.zeros(20, int)])
        number = rng.permutation(number)
        value = truth[number] + 0.01 * rng.standard_normal(len(number))
        ratios = find_ratios(fit_to(number, value), number)
        scores.append((ratios.mean - (truth - truth[0]))[1:] / ratios.deviation[1:])
    assert 0.7 < float(np.sqrt(np.mean(np.square(scores)))) < 1.3


def test_the_queried_point_has_no_ratio_to_itself() -> None:
    number = shuffled(3)
    ratios = find_ratios(fit_to(number, np.zeros(192)), number)
    assert ratios.score(0.1)[0] == -np.inf
    assert (ratios.score(0.1)[1:] > 0).all()


def test_a_point_that_many_visits_show_to_be_an_exception_counts_as_one() -> None:
    rng = np.random.default_rng(2)
    number = shuffled(8)
    value = 0.01 * rng.standard_normal(len(number))
    value[number == 20] -= 0.2
    ratios = find_ratios(fit_to(number, value), number)
    assert ratios.mean[20] < -0.15
    assert abs(ratios.mean[21]) < 0.06


def test_one_disturbed_visit_makes_no_exception() -> None:
    rng = np.random.default_rng(3)
    number = shuffled(1)
    value = 0.01 * rng.standard_normal(64)
    value[number == 20] += 0.5
    ratios = find_ratios(fit_to(number, value), number)
    assert ratios.mean[20] < 0.1


@pytest.fixture(scope="module")
def columns() -> StructureFit:
    """Columns 3 and 6 are 10 % faster than the others; nothing else differs."""
    rng = np.random.default_rng(1)
    number = shuffled(12)
    value = np.where(np.isin(number % 8, [3, 6]), -0.1, 0.0)
    return fit_to(number, value + 0.01 * rng.standard_normal(len(number)))


def test_the_first_point_of_the_order_that_is_no_slower_is_drawn(columns: StructureFit) -> None:
    order = np.arange(63, 0, -1).astype(np.int32)  # the largest first: (71, 70) has column 6
    drawn = draw_preferred(columns, order, -0.05, np.random.default_rng(0), 100)
    assert set(drawn.tolist()) == {62}
    drawn = draw_preferred(columns, order[::-1], -0.05, np.random.default_rng(0), 100)
    assert set(drawn.tolist()) == {3}


def test_where_no_point_is_no_slower_none_is_drawn(columns: StructureFit) -> None:
    order = np.arange(1, 64).astype(np.int32)
    assert set(draw_preferred(columns, order, -0.5, np.random.default_rng(0), 50).tolist()) == {-1}
    # Narrowing visits the fastest there.
    fallback = PreferredDraw(fit=columns, preferred=order, bar=-0.5)
    positions = fallback.draw_fastest(np.random.default_rng(0), 50)
    assert positions.shape == (50, 2)
    assert set(positions[:, 1].tolist()) <= {3, 6}


def test_what_single_points_may_have_of_their_own_is_drawn_too(columns: StructureFit) -> None:
    number = shuffled(12)
    ratios = find_ratios(columns, number)
    slow = np.flatnonzero(~np.isin(np.arange(64) % 8, [0, 3, 6])).astype(np.int32)
    rng = np.random.default_rng(5)
    # 0.8 % below the queried point: no position's effect, but some points may be so by themselves.
    alone = draw_preferred(columns, slow, -0.016, rng, 400)
    with_own = draw_preferred(columns, slow, -0.016, rng, 400, ratios=ratios)
    assert np.mean(with_own >= 0) > np.mean(alone >= 0)
