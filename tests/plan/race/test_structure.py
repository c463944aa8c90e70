"""The structure of latency: a fit through noise, and its values at unvisited positions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from profiler_service.analysis.comparison import F64
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.structure import Structure, StructureFit, position_prior


def positions_of(number: npt.NDArray[np.integer], shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    return np.stack(np.unravel_index(number, shape), axis=1)


def test_effects_are_found_through_outliers_and_drift() -> None:
    rng = np.random.default_rng(3)
    rows, columns = 0.02 * rng.normal(size=20), 0.02 * rng.normal(size=30)
    truth = np.add.outer(rows, columns) - 9.0
    number = rng.choice(600, size=400, replace=False)
    time: F64 = np.arange(400.0) * 1e-3
    value = truth.ravel()[number] + 0.002 * rng.standard_normal(400) + 0.2 * time
    value[::20] += 0.5  # pre-empted
    structure = Structure([np.arange(100, 120), np.arange(200, 230)])
    fit = structure.fit(positions_of(number, (20, 30)), value, time)
    error = fit.predict() - truth
    # A level is shared with the drift; what ranks points is what is left.
    assert np.abs(error - np.median(error)).max() < 0.01, "what ranks points"
    # 0.002 was put in; 50 effects bend to 400 samples, which the scale makes up for.
    assert fit.noise == pytest.approx(0.002, rel=0.4)
    corrected = fit.without_drift - truth.ravel()[number]
    assert np.ptp(np.delete(corrected, np.s_[::20])) < 0.02


def test_positions_never_seen_follow_their_class() -> None:
    """Multiples of 8 are 6 % faster: seen on 104 and 112, expected of 120, which nobody saw."""
    dims = np.arange(100, 124)
    truth = np.where(dims % 8 == 0, -0.06, 0.0)
    seen = np.tile(np.flatnonzero(dims != 120), 40)
    rng = np.random.default_rng(0)
    value = truth[seen] + 0.005 * rng.standard_normal(len(seen))
    fit = Structure([dims]).fit(seen[:, np.newaxis], value, np.zeros(len(seen)))
    effect = fit.predict()
    others = np.setdiff1d(np.flatnonzero(dims % 8 != 0), [])
    assert effect[dims == 120][0] < effect[others].min() - 0.01


def test_positions_never_seen_follow_their_block() -> None:
    """A step of 10 % after 112, as at the beginning of a tile; 118 wasn't seen."""
    dims = np.arange(105, 125)
    truth = np.where(dims > 112, 0.1, 0.0)
    seen = np.tile(np.flatnonzero(dims != 118), 20)
    rng = np.random.default_rng(0)
    value = truth[seen] + 0.005 * rng.standard_normal(len(seen))
    fit = Structure([dims]).fit(seen[:, np.newaxis], value, np.zeros(len(seen)))
    effect = fit.predict()
    assert effect[dims == 118][0] - effect[dims == 110][0] == pytest.approx(0.1, abs=0.02)


def test_the_prior_lets_effects_grow_with_the_dimension() -> None:
    mean, covariance = position_prior(np.array([100, 200, 400]))
    # 0.7 · log 2 a doubling, about a mean of zero.
    assert np.diff(mean).tolist() == pytest.approx([0.7 * np.log(2)] * 2)
    assert mean.sum() == pytest.approx(0)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_noise_of_several_modes_is_fitted_from_below() -> None:
    """Half of the visits meet a host 5 % slower, a tenth one up to 40 % slower: as clock steps
    and a neighbour leave it. The lowest mode is ± 0.3 % wide, so 12 visits tell points apart."""
    rng = np.random.default_rng(0)
    dims = np.arange(1000, 1016)
    truth = 0.01 * rng.standard_normal(16)
    errors = []
    for _ in range(20):
        seen = np.concatenate([rng.permutation(16) for _ in range(12)])
        noise = 0.003 * rng.standard_normal(len(seen))
        noise += 0.05 * (rng.random(len(seen)) < 0.5)
        noise += rng.uniform(0, 0.4, len(seen)) * (rng.random(len(seen)) < 0.1)
        fit = Structure([dims]).fit(seen[:, np.newaxis], truth[seen] + noise, np.arange(192.0))
        error = fit.predict() - truth
        errors.append(error - np.median(error))
    # A median of 12 visits errs by 1.25 · 5 % / √12 = 1.8 % at least, being either mode's.
    assert float(np.sqrt(np.mean(np.square(errors)))) < 0.007


def test_points_are_drawn_as_often_as_they_may_be_the_fastest() -> None:
    """Positions 4 and 11 are 10 % faster than the others, and equal: over many sets of samples
    each is drawn in half of all cases (the deviation of a mean of 20 such shares is below 0.1)."""
    dims = np.arange(64, 84)
    truth = np.where(np.isin(np.arange(20), [4, 11]), -0.1, 0.0)
    seen = np.tile(np.arange(20), 8)
    shares, num_undecided = [], 0
    for seed in range(20):
        value = truth[seen] + 0.01 * np.random.default_rng(seed).standard_normal(len(seen))
        samples = seen[:, np.newaxis], value, np.zeros(len(seen))
        drawn = Structure([dims]).fit(*samples).draw_fastest(np.random.default_rng(2), 200)
        assert drawn.shape == (200, 1)
        counts = np.bincount(drawn[:, 0], minlength=20)
        assert counts[4] + counts[11] == 200
        shares.append(counts[4] / 200)
        num_undecided += min(counts[4], counts[11]) > 10
    assert np.mean(shares) == pytest.approx(0.5, abs=0.25)
    assert num_undecided >= 5, "8 samples at 1 % noise don't tell equals apart"


def fit_of_equals(noise: float, visits: int) -> StructureFit:
    """The fit to so many visits of each of 8 × 8 equal points."""
    number = np.tile(np.arange(64), visits)
    value = noise * np.random.default_rng(4).standard_normal(len(number))
    time = np.arange(float(len(number)))
    return Structure([np.arange(64, 72)] * 2).fit(positions_of(number, (8, 8)), value, time)


def test_draws_of_one_point_spread_like_its_posterior() -> None:
    """The variance of row 2 plus column 5, as `believe` has it, and an effect of its own."""
    fit = fit_of_equals(0.02, 6)
    point = 2 * 8 + 5
    drawn = fit.draw_smallest(np.random.default_rng(0), 4000, np.array([point]))
    _, covariance = fit.believe(np.array([point]))
    variance = covariance.item() + RACE.prior.interaction**2
    # Errors are stated for the whole noise, which is no smaller than the noise below.
    parts = np.ix_([2, 8 + 5], [2, 8 + 5])
    assert covariance.item() >= np.linalg.inv(fit.precision)[parts].sum()
    # 4,000 draws: the mean errs by a 63rd of a deviation, the deviation by 1 / √8,000 = 1.1 %.
    assert drawn.mean() == pytest.approx(fit.predict().ravel()[point], abs=4 * variance**0.5 / 63)
    assert drawn.std() == pytest.approx(variance**0.5, rel=0.05)
    assert (np.diff(drawn) >= 0).all(), "ascending"


def test_the_smallest_of_many_draws_lies_below_each() -> None:
    """With effects that are known well, only the own effects of 64 equal points are left.

    The smallest of 64 normal values lies 2.4 standard deviations below their mean (tables of
    order statistics: 2.39 for 64).
    """
    fit = fit_of_equals(1e-3, 400)
    points = np.arange(64)
    drawn = fit.draw_smallest(np.random.default_rng(0), 2000, points)
    below = (fit.predict().mean() - drawn.mean()) / RACE.prior.interaction
    assert below == pytest.approx(2.39, abs=0.15)
    one = fit.draw_smallest(np.random.default_rng(0), 2000, points[:1])
    assert drawn.mean() < one.mean() - 2 * RACE.prior.interaction


def test_few_samples_are_fitted_without_being_believed() -> None:
    """30 samples, 96 effects: what they bend to isn't taken for quiet."""
    dims = [np.arange(150, 198), np.arange(390, 438)]
    rng = np.random.default_rng(5)
    noises = []
    for _ in range(20):
        number = rng.choice(48 * 48, size=30, replace=False)
        value = 0.02 * rng.standard_normal(30)
        fit = Structure(dims).fit(
            positions_of(number, (48, 48)), value, np.arange(30.0), known_noise=0.02
        )
        noises.append(fit.noise)
    assert 0.01 <= float(np.median(noises)) < 0.04
    # Believed, 30 draws would be one point; with the noise known, many may be the fastest.
    drawn = fit.draw_fastest(np.random.default_rng(0), 30)
    assert len(np.unique(drawn, axis=0)) > 10
