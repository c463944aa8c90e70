"""The structure of latency: a fit through noise, and its values at unvisited positions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.neighbours import Neighbours, Noise
from profiler_service.plan.race.priors import find_alignments, position_prior
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.structure import Structure, StructureFit


def positions_of(number: npt.NDArray[np.integer], shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    return np.stack(np.unravel_index(number, shape), axis=1)


def in_one_batch(number: npt.NDArray[np.integer]) -> Neighbours:
    return Neighbours.of_lengths([len(number)])


def draw_states(count: int, rng: np.random.Generator) -> F64:
    """Levels within ± 20 % that the host jumps between, each for 5 to 40 visits."""
    lengths = rng.integers(5, 41, count)
    drawn: F64 = np.repeat(rng.uniform(-0.2, 0.2, count), lengths)[:count]
    return drawn


def test_effects_are_found_through_outliers_and_states_of_the_host() -> None:
    rng = np.random.default_rng(3)
    rows, columns = 0.02 * rng.normal(size=20), 0.02 * rng.normal(size=30)
    truth = np.add.outer(rows, columns) - 9.0
    number = rng.choice(600, size=400, replace=False)
    states = draw_states(400, rng)
    value = truth.ravel()[number] + 0.002 * rng.standard_normal(400) + states
    value[::20] += 0.5  # pre-empted
    structure = Structure([np.arange(100, 120), np.arange(200, 230)])
    fit = structure.fit(positions_of(number, (20, 30)), value, in_one_batch(number))
    error = fit.predict() - truth
    assert np.abs(error - np.median(error)).max() < 0.012, "what ranks points"
    # 0.002 was put in; jumps and what 50 effects bend to add to it.
    assert 0.002 < fit.noise < 0.006
    # Without its state, a sample is its point's latency and a level that all share. A state of 8
    # visits or fewer is never most of 17 neighbours: 5 + 6 + 7 + 8 of 5 + … + 40 = 810 visits, 3 %,
    # and some more of those that are little longer.
    corrected = fit.without_states - truth.ravel()[number]
    corrected -= np.median(corrected)
    usual = np.delete(corrected, np.s_[::20])
    assert np.mean(np.abs(usual) < 0.02) > 0.9
    assert np.median(corrected[::20]) == pytest.approx(0.5, abs=0.02), "what a visit has of its own"


def test_batches_say_nothing_of_each_other() -> None:
    """Two batches, the second of which finds the host 40 % slower: the same effects."""
    rng = np.random.default_rng(0)
    truth = 0.02 * rng.standard_normal(16)
    number = np.concatenate([rng.permutation(16) for _ in range(12)])
    value = truth[number] + 0.005 * rng.standard_normal(192)
    structure, near = Structure([np.arange(1000, 1016)]), Neighbours.of_lengths([96, 96])
    effects = [
        structure.fit(number[:, np.newaxis], value + shift, near).predict()
        for shift in (np.zeros(192), np.repeat([0.0, 0.4], 96))
    ]
    effects = [effect - effect.mean() for effect in effects]
    np.testing.assert_allclose(effects[0], effects[1], atol=1e-5)


@pytest.mark.parametrize("lengths", [[40], [25, 14]])
def test_one_sample_more_or_less_makes_no_other_fit(lengths: list[int]) -> None:
    """With fewer samples than effects, the fit goes another way: it must find the same."""
    rng = np.random.default_rng(0)
    dims = np.arange(100, 140)
    number = rng.integers(0, 40, sum(lengths))
    value = 0.02 * rng.standard_normal(40)[number] + 0.005 * rng.standard_normal(len(number))
    structure, near = Structure([dims]), Neighbours.of_lengths(lengths)
    found = structure.fit(number[:, np.newaxis], value, near, Noise(width=0.01, deviation=0.005))
    by_the_other = Structure([dims])
    swapped = {"_smooth_by_samples": "_smooth_by_effects"}
    swapped |= {other: one for one, other in swapped.items()}
    for one, other in swapped.items():
        setattr(by_the_other, one, getattr(structure, other))
    known = Noise(width=0.01, deviation=0.005)
    expected = by_the_other.fit(number[:, np.newaxis], value, near, known)
    np.testing.assert_allclose(found.predict(), expected.predict(), atol=1e-5)
    assert found.noise == pytest.approx(expected.noise, rel=1e-6)


def test_the_posterior_is_as_sure_as_it_is_right() -> None:
    """40 windows, drawn from the prior, on a host that jumps between states of ± 20 %.

    10 visits of each position, with noise of 1 %. The errors of differences to the first position,
    over what the posterior says of them, have a deviation of 1.
    """
    dims = np.arange(1000, 1016)
    mean, covariance = position_prior(dims)
    scores = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        truth = rng.multivariate_normal(mean, covariance)
        number = np.concatenate([rng.permutation(16) for _ in range(10)])
        value = truth[number] + 0.01 * rng.standard_normal(160) + draw_states(160, rng)
        known = Noise(width=0.01, deviation=0.01)
        fit = Structure([dims]).fit(number[:, np.newaxis], value, in_one_batch(number), known)
        error = (fit.predict() - fit.predict()[0]) - (truth - truth[0])
        scores.append(error[1:] / np.sqrt(fit.find_variances()[1:]))
    assert float(np.sqrt(np.mean(np.square(scores)))) == pytest.approx(1.0, abs=0.3)
    assert float(np.mean(np.abs(scores) < 1.96)) > 0.88


def test_positions_never_seen_follow_their_class() -> None:
    """Multiples of 8 are 6 % faster: seen on 104 and 112, expected of 120, which nobody saw."""
    dims = np.arange(100, 124)
    truth = np.where(dims % 8 == 0, -0.06, 0.0)
    seen = np.tile(np.flatnonzero(dims != 120), 40)
    rng = np.random.default_rng(0)
    value = truth[seen] + 0.005 * rng.standard_normal(len(seen))
    fit = Structure([dims]).fit(seen[:, np.newaxis], value, in_one_batch(seen))
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
    fit = Structure([dims]).fit(seen[:, np.newaxis], value, in_one_batch(seen))
    effect = fit.predict()
    assert effect[dims == 118][0] - effect[dims == 110][0] == pytest.approx(0.1, abs=0.02)


def test_the_prior_lets_effects_grow_with_the_dimension() -> None:
    mean, covariance = position_prior(np.array([100, 200, 400]))
    # 0.7 · log 2 a doubling, about a mean of zero.
    assert np.diff(mean).tolist() == pytest.approx([0.7 * np.log(2)] * 2)
    assert mean.sum() == pytest.approx(0)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_noise_of_several_modes_is_as_good_as_that_of_one() -> None:
    """Half of the time the host is 5 % slower, in turns of 20 visits, as clock steps leave it.

    A tenth of the visits take up to 40 % longer. Within a turn, visits differ by 0.3 %, so 12 of
    them tell points apart.
    """
    rng = np.random.default_rng(0)
    dims = np.arange(1000, 1016)
    truth = 0.01 * rng.standard_normal(16)
    errors = []
    for _ in range(20):
        seen = np.concatenate([rng.permutation(16) for _ in range(12)])
        noise = 0.003 * rng.standard_normal(len(seen))
        noise += 0.05 * (np.arange(len(seen)) // 20 % 2)
        noise += rng.uniform(0, 0.4, len(seen)) * (rng.random(len(seen)) < 0.1)
        fit = Structure([dims]).fit(seen[:, np.newaxis], truth[seen] + noise, in_one_batch(seen))
        error = fit.predict() - truth
        errors.append(error - np.median(error))
    # A median of 12 visits errs by 1.25 · 5 % / √12 = 1.8 % at least, being either turn's.
    assert float(np.sqrt(np.mean(np.square(errors)))) < 0.004


def test_points_are_drawn_as_often_as_they_may_be_the_fastest() -> None:
    """Positions 7 and 15, the dims 71 and 79, are 10 % faster than the others, and equal: over many
    sets of samples each is drawn in half of all cases (the deviation of a mean of 20 such shares is
    below 0.1)."""
    dims = np.arange(64, 84)
    truth = np.where(np.isin(np.arange(20), [7, 15]), -0.1, 0.0)
    order = np.random.default_rng(0)
    seen = np.concatenate([order.permutation(20) for _ in range(8)])
    shares, num_undecided = [], 0
    for seed in range(20):
        value = truth[seen] + 0.01 * np.random.default_rng(seed).standard_normal(len(seen))
        samples = seen[:, np.newaxis], value, in_one_batch(seen)
        drawn = Structure([dims]).fit(*samples).draw_fastest(np.random.default_rng(2), 200)
        assert drawn.shape == (200, 1)
        counts = np.bincount(drawn[:, 0], minlength=20)
        assert counts[7] + counts[15] == 200
        shares.append(counts[7] / 200)
        num_undecided += min(counts[7], counts[15]) > 10
    assert np.mean(shares) == pytest.approx(0.5, abs=0.25)
    assert num_undecided >= 5, "8 samples at 1 % noise don't tell equals apart"


def fit_of_equals(noise: float, visits: int) -> StructureFit:
    """The fit to so many visits of each of 8 × 8 equal points."""
    rng = np.random.default_rng(4)
    number = np.concatenate([rng.permutation(64) for _ in range(visits)])
    value = noise * rng.standard_normal(len(number))
    near = in_one_batch(number)
    return Structure([np.arange(64, 72)] * 2).fit(positions_of(number, (8, 8)), value, near)


def test_draws_of_one_point_spread_like_its_posterior() -> None:
    """Row 2 and column 5 beside row 3 and column 7, as `believe` has both, and an own effect."""
    fit = fit_of_equals(0.02, 6)
    point, beside = 2 * 8 + 5, 3 * 8 + 7
    rng = np.random.default_rng(0)
    drawn = fit.draw_smallest(rng, 4000, np.array([point]), np.array([beside]))
    _, covariance = fit.believe(np.array([point, beside]))
    contrast = np.array([1.0, -1.0])
    difference = float(contrast @ covariance @ contrast)
    variance = difference + RACE.prior.interaction**2
    # 6 visits of 64 points of noise 2 %: 48 of a row and of a column, so both differences err by
    # √(2 · 2 / 48) · 2 % = 0.58 % at most, and by no less than half of that.
    assert 0.0029 < difference**0.5 < 0.0062
    # 4,000 draws: the mean errs by a 63rd of a deviation, the deviation by 1 / √8,000 = 1.1 %.
    assert drawn.mean() == pytest.approx(fit.predict().ravel()[point], abs=4 * variance**0.5 / 63)
    assert drawn.std() == pytest.approx(variance**0.5, rel=0.05)


def test_only_differences_to_the_points_beside_are_drawn() -> None:
    """The level isn't known at all. So a point beside itself has its own effect alone."""
    fit = fit_of_equals(0.02, 6)
    one = np.array([20])
    drawn = fit.draw_smallest(np.random.default_rng(0), 4000, one, one)
    assert drawn.std() == pytest.approx(RACE.prior.interaction, rel=0.05)
    # Beside the mean of all of its row, a point spreads like its column's difference to the others.
    row = np.arange(16, 24)
    drawn = fit.draw_smallest(np.random.default_rng(0), 4000, one, row)
    _, covariance = fit.believe(row)
    contrast = np.where(row == 20, 1.0, 0.0) - 1 / 8
    variance = float(contrast @ covariance @ contrast) + RACE.prior.interaction**2
    assert drawn.std() == pytest.approx(variance**0.5, rel=0.05)


def test_the_smallest_of_many_draws_lies_below_each() -> None:
    """With effects that are known well, only the own effects of 64 equal points are left.

    The smallest of 64 normal values lies 2.4 standard deviations below their mean (tables of
    order statistics: 2.39 for 64).
    """
    fit = fit_of_equals(1e-3, 400)
    points = np.arange(64)
    drawn = fit.draw_smallest(np.random.default_rng(0), 2000, points, points)
    below = (fit.predict().mean() - drawn.mean()) / RACE.prior.interaction
    assert below == pytest.approx(2.39, abs=0.15)
    one = fit.draw_smallest(np.random.default_rng(0), 2000, points[:1], points)
    assert drawn.mean() < one.mean() - 2 * RACE.prior.interaction


def test_a_clock_too_coarse_to_show_noise_stops_no_fit() -> None:
    """All samples are equal, and so were those of the calibration."""
    number = np.arange(100) % 64
    silent = Noise(width=0.005, deviation=0.0)
    fit = Structure([np.arange(100, 108)] * 2).fit(
        positions_of(number, (8, 8)), np.zeros(100), in_one_batch(number), silent
    )
    assert fit.noise == pytest.approx(1e-3)  # the least that a fit assumes
    assert np.abs(fit.predict() - fit.predict()[0, 0]).max() < 0.01


def test_few_samples_are_fitted_without_being_believed() -> None:
    """30 samples, 96 effects: what they bend to isn't taken for quiet."""
    dims = [np.arange(150, 198), np.arange(390, 438)]
    rng = np.random.default_rng(5)
    noises = []
    for _ in range(20):
        number = rng.choice(48 * 48, size=30, replace=False)
        value = 0.02 * rng.standard_normal(30)
        fit = Structure(dims).fit(
            positions_of(number, (48, 48)),
            value,
            in_one_batch(number),
            Noise(width=0.02, deviation=0.02),
        )
        noises.append(fit.noise)
    assert 0.01 <= float(np.median(noises)) < 0.04
    # Believed, 30 draws would be one point; with the noise known, many may be the fastest.
    drawn = fit.draw_fastest(np.random.default_rng(0), 30)
    assert len(np.unique(drawn, axis=0)) > 10


def test_dims_have_the_largest_multiple_that_divides_them() -> None:
    dims = np.array([1, 6, 8, 24, 48, 64, 128, 192])
    assert find_alignments(dims).tolist() == [1, 2, 8, 8, 16, 64, 64, 64]
    assert find_alignments(dims, (2, 8)).tolist() == [1, 2, 8, 8, 8, 8, 8, 8]


def test_multiples_have_more_in_common_than_other_classes() -> None:
    """400 and 432 are multiples of 2, 4, 8 and 16: 4 · 0.03² more than 405 and 437 share.

    Both pairs are of one class modulo 2 … 32, and of one block of 64. 408 and 416 are multiples of
    2, 4 and 8: 3 · 0.03². Their classes modulo 2, 4 and 8 and their blocks are as common as those
    of 405 and 413.
    """
    without_growth = replace(RACE.prior, growth_spread=0.0)
    _, covariance = position_prior(np.arange(400, 448), without_growth)
    assert covariance[0, 32] - covariance[5, 37] == pytest.approx(4 * 0.03**2)
    assert covariance[8, 16] - covariance[5, 13] == pytest.approx(3 * 0.03**2)
    # 400 and 405 share no alignment, and no class: only blocks.
    none = replace(without_growth, alignment_spread=0.0)
    _, without = position_prior(np.arange(400, 448), none)
    assert covariance[0, 5] == without[0, 5]
