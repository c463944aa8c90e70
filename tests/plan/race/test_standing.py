"""How points of a contest stand: by the model, and by their own visits without drift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.neighbours import Neighbours, Noise
from profiler_service.analysis.samples import Samples
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.standing import (
    Standing,
    count_origins,
    find_standing,
    fit_own_levels,
)
from profiler_service.plan.race.structure import Structure, StructureFit


def model_of(count: int, *, visits: int = 30) -> StructureFit:
    """The model's fit to so many samples of equal points: few hardly teach it anything."""
    rng = np.random.default_rng(0)
    position = rng.integers(0, count, visits)[:, np.newaxis]
    value = 0.03 * rng.standard_normal(visits)
    near, known = Neighbours.of_lengths([visits]), Noise(width=0.03, deviation=0.03)
    return Structure([np.arange(100, 100 + count)]).fit(position, value, near, known)


def measure(
    truth: F64,
    fields: list[list[int]],
    rng: np.random.Generator,
    drift: list[float],
    *,
    rounds: int = 40,
    noise: float = 0.01,
) -> list[Samples]:
    """A batch of rounds of each field; everything in it takes longer by its drift, in log."""
    batches, first = [], 0
    for field, shift in zip(fields, drift, strict=True):
        point = np.concatenate([rng.permutation(field) for _ in range(rounds)]).astype(np.int32)
        n = len(point)
        batches.append(
            Samples(
                point=point,
                round=np.repeat(np.arange(first, first + rounds), len(field)).astype(np.int32),
                time_s=np.linspace(0, 1, n, endpoint=False).astype(np.float32),
                latency_s=np.exp(truth[point] + shift + noise * rng.standard_normal(n)),
                calls=1,
                unstable=np.zeros(n, dtype=bool),
                failures={},
                seconds=1.0,
            )
        )
        first += rounds
    return batches


def test_points_that_left_early_are_compared_without_the_drift_since() -> None:
    """30 equal points meet once, two of them ten times more, while the host gets 3 % slower.

    The last two then are as fast as all others still. 40 visits of noise 1 % err by 0.2 %.
    """
    rng = np.random.default_rng(1)
    fields = [[*range(30)], *([0, 1] for _ in range(10))]
    batches = measure(np.zeros(30), fields, rng, np.linspace(0, 0.03, 11).tolist())
    standing = find_standing(batches, np.arange(30, dtype=np.int32), model_of(30))
    lead, error = standing.find_lead(1)
    assert np.abs(lead).max() < 0.01
    assert (np.abs(lead) <= 4 * error + 1e-6).all()
    assert standing.visits.tolist() == [440, 440, *[40] * 28]


def test_batches_are_not_compared_with_each_other() -> None:
    """Points 0 and 1 meet in every other batch, 1 and 2 in those between, which are 2 % slower.

    All are equally fast. 40 batches of 3 rounds, so each difference is one of 120 visits with noise
    of 0.5 %: it errs by 0.08 %. Were neighbours of other batches counted, 2 would seem slower.
    """
    fields, drift = [[0, 1], [1, 2]] * 40, [0.0, 0.02] * 40
    rng = np.random.default_rng(0)
    fitted = fit_own_levels(measure(np.zeros(3), fields, rng, drift, rounds=3, noise=0.005))
    assert fitted.points.tolist() == [0, 1, 2]
    assert np.abs(fitted.level - fitted.level[0]).max() < 0.004


def test_own_visits_overrule_the_model_where_they_contradict_it() -> None:
    truth = np.zeros(12)
    truth[7] = -0.4  # a lone point: nothing would make the model expect it
    batches = measure(truth, [[*range(12)]], np.random.default_rng(2), [0.0])
    standing = find_standing(batches, np.arange(12, dtype=np.int32), model_of(12))
    lead, error = standing.find_lead(0)
    assert lead[7] == pytest.approx(0.4, abs=0.01)
    assert error[7] < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_ten_visits_are_enough_to_overrule_it_by_far(seed: int) -> None:
    """Two points of 31 are 10 % faster than a model says that knows all positions well.

    Ten visits of noise 3 % err by 1.25 · 3 % / √10 = 1.2 %: they are eight errors ahead.
    """
    truth = np.zeros(31)
    truth[[7, 20]] = -0.1
    rng = np.random.default_rng(seed)
    batches = measure(truth, [[*range(31)]], rng, [0.0], rounds=10, noise=0.03)
    sure = model_of(31, visits=4000)
    standing = find_standing(batches, np.arange(31, dtype=np.int32), sure)
    assert set(np.argsort(standing.level)[:2].tolist()) == {7, 20}
    lead, error = standing.find_lead(0)
    assert (lead[[7, 20]] > 3 * error[[7, 20]]).all()


def test_a_point_without_visits_stands_where_the_model_expects_it() -> None:
    """Only points 0 to 9 are visited; the other two could lie anywhere the prior allows."""
    batches = measure(np.zeros(12), [[*range(10)]], np.random.default_rng(3), [0.0])
    standing = find_standing(batches, np.arange(12, dtype=np.int32), model_of(12))
    _, error = standing.find_lead(0)
    assert standing.visits[10:].tolist() == [0, 0]
    assert error[11] > 2 * error[1]
    assert error[11] >= RACE.prior.interaction


def test_errors_of_two_points_that_err_alike_cancel_in_a_lead() -> None:
    """Variances 4 and 5 with a covariance of 4: 4 + 5 - 2 · 4 = 1."""
    standing = Standing(
        points=np.array([3, 8], dtype=np.int32),
        level=np.array([0.5, 0.2]),
        covariance=np.array([[4.0, 4.0], [4.0, 5.0]]),
        visits=np.array([6, 6]),
        noise=0.01,
    )
    lead, error = standing.find_lead(3)
    assert lead.tolist() == pytest.approx([0.0, 0.3])
    assert error.tolist() == pytest.approx([0.0, 1.0])


def test_where_each_point_was_visited_is_counted() -> None:
    """Three batches: points 0 and 1 in the first two, 0 and 2 in the last; children 0, 1 and 0."""
    rng = np.random.default_rng(0)
    batches = measure(np.zeros(4), [[0, 1], [0, 1], [0, 2]], rng, [0.0, 0.0, 0.0], rounds=2)
    batches = [replace(batch, child=child) for batch, child in zip(batches, (0, 1, 0), strict=True)]
    children, arenas = count_origins(batches, np.array([0, 1, 2], dtype=np.int32))
    assert children.tolist() == [2, 2, 1]
    assert arenas.tolist() == [3, 2, 1]
