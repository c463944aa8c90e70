"""Joint effects of two axes: held against dense normal distributions, and in whole races."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from profiler_service.analysis.neighbours import Neighbours
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.race.joint import JointEffects, JointFit
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.race.prior_settings import PriorSettings
from profiler_service.plan.race.priors import position_prior
from profiler_service.plan.race.settings import RACE, RaceSettings
from profiler_service.plan.race.standing import OwnLevels
from profiler_service.plan.race.trust import Prior
from profiler_service.plan.spec import SweepSpec
from tests.plan.race.traces import NOW
from tests.synthetic import F64, PLATFORM, PROTOCOL, SyntheticDevice

SETTINGS = PriorSettings(joint_scales=(0.02,), joint_stretches=3)
AXES = (np.arange(14, 20), np.arange(61, 70))
"""Six rows and nine columns: 16 and 64 are the largest multiples."""
SHAPE = tuple(map(len, AXES))
NUM_POINTS = math.prod(SHAPE)
NEVER = replace(RACE, prior=replace(RACE.prior, joint_least=2.0))
"""Joint effects are always left out: no probability is 2."""


def plain_prior(axes: Sequence[npt.NDArray[np.integer]], settings: PriorSettings) -> Prior:
    """The prior of the effects of positions."""
    parts = [position_prior(dims, settings) for dims in axes]
    size = sum(len(mean) for mean, _ in parts)
    precision, start = np.zeros((size, size)), 0
    for mean, covariance in parts:
        stop = start + len(mean)
        precision[start:stop, start:stop] = np.linalg.inv(covariance)
        start = stop
    return Prior(mean=np.concatenate([mean for mean, _ in parts]), precision=precision)


def multiples_in_common(a: int, b: int) -> float:
    """How many of 2, 4, … 64 divide both; a hundredth more if the same ones divide both."""
    of_a, of_b = ({m for m in (2, 4, 8, 16, 32, 64) if d % m == 0} for d in (a, b))
    return len(of_a & of_b) + 0.01 * (of_a == of_b)


def dense_covariance(scale: float) -> F64:
    """The prior covariance of all points' log latencies, written out point by point."""
    (_, rows), (_, columns) = (position_prior(dims, SETTINGS) for dims in AXES)
    covariance = np.zeros((NUM_POINTS, NUM_POINTS))
    points = list(itertools.product(range(SHAPE[0]), range(SHAPE[1])))
    for (p, (i, j)), (q, (k, m)) in itertools.product(enumerate(points), repeat=2):
        # Three stretches: of two rows, and of three columns. Between neighbouring ones lies a
        # third of the places where an effect may change.
        row_stretches = 1 - abs(i // 2 - k // 2) / 3
        column_stretches = 1 - abs(j // 3 - m // 3) / 3
        of_rows = multiples_in_common(int(AXES[0][i]), int(AXES[0][k])) * column_stretches
        of_columns = multiples_in_common(int(AXES[1][j]), int(AXES[1][m])) * row_stretches
        joint = scale**2 * (of_rows + of_columns)
        covariance[p, q] = rows[i, k] + columns[j, m] + joint
    return covariance


def dense_mean() -> F64:
    rows, columns = (position_prior(dims, SETTINGS)[0] for dims in AXES)
    mean: F64 = np.add.outer(rows, columns).ravel()
    return mean


def draw_levels(seed: int, count: int) -> tuple[npt.NDArray[np.integer], F64, F64]:
    """Some points, their levels, and the covariance of the levels' errors."""
    rng = np.random.default_rng(seed)
    points = np.sort(rng.choice(NUM_POINTS, count, replace=False))
    half = rng.standard_normal((count, count))
    return points, 0.03 * rng.standard_normal(count), 1e-5 * (half @ half.T / count + np.eye(count))


def own_variances(count: int) -> F64:
    """What a point has of its own is the usual: 0.3 %."""
    return np.full(count, SETTINGS.interaction**2)


def test_the_fit_is_the_dense_normal_distribution_given_the_levels() -> None:
    """By conditioning all points on the visited ones: K_pv (K_vv + error)⁻¹ (level - mean)."""
    points, level, error = draw_levels(0, 20)
    joint, plain = JointEffects(AXES, SETTINGS), plain_prior(AXES, SETTINGS)
    known, right = joint.sum_levels(points, level, error, own_variances(len(points)))
    fit = joint.average(plain, known, right, np.array([0.0, 1.0]))
    prior, mean = dense_covariance(0.02), dense_mean()
    # Each point also has an effect of its own, and all levels share one of variance 1.
    noise = error + SETTINGS.interaction**2 * np.eye(20) + 1.0
    gain = prior[:, points] @ np.linalg.inv(prior[np.ix_(points, points)] + noise)
    found, covariance = fit.believe(np.arange(NUM_POINTS))
    assert found == pytest.approx(mean + gain @ (level - mean[points]), abs=2e-5)
    assert covariance == pytest.approx(prior - gain @ prior[points], abs=1e-8)
    assert np.abs(found - mean).max() > 0.01


def test_the_odds_are_those_of_the_densities_of_the_levels() -> None:
    points, level, error = draw_levels(1, 12)
    settings = replace(SETTINGS, joint_scales=(0.005, 0.02), joint_odds=0.5)
    joint, plain = JointEffects(AXES, settings), plain_prior(AXES, settings)
    shares = joint.find_shares(
        plain, *joint.sum_levels(points, level, error, own_variances(len(points)))
    )
    noise, density = error + settings.interaction**2 * np.eye(12) + 1.0, []
    for scale in (0.0, 0.005, 0.02):
        of_levels = dense_covariance(scale)[np.ix_(points, points)] + noise
        off = level - dense_mean()[points]
        _, log_det = np.linalg.slogdet(of_levels)
        density.append(math.exp(-0.5 * (off @ np.linalg.inv(of_levels) @ off + log_det)))
    weight = np.array(density) * [1, 0.25, 0.25]
    assert shares == pytest.approx(weight / weight.sum(), abs=2e-4)
    assert min(shares) > 0.01


def test_without_joint_effects_only_effects_of_positions_are_left() -> None:
    points, level, error = draw_levels(2, 20)
    joint, plain = JointEffects(AXES, SETTINGS), plain_prior(AXES, SETTINGS)
    known, right = joint.sum_levels(points, level, error, own_variances(len(points)))
    predicted = joint.average(plain, known, right, np.array([1.0, 0.0])).predict()
    inner = predicted[1:, 1:] - predicted[:1, 1:] - predicted[1:, :1] + predicted[0, 0]
    assert np.abs(inner).max() < 1e-5
    predicted = joint.average(plain, known, right, np.array([0.0, 1.0])).predict()
    inner = predicted[1:, 1:] - predicted[:1, 1:] - predicted[1:, :1] + predicted[0, 0]
    assert np.abs(inner).max() > 0.01


def test_three_axes_have_joint_effects_of_each_two() -> None:
    axes = (np.arange(15, 18), np.arange(31, 35), np.arange(63, 68))
    joint, plain = JointEffects(axes, SETTINGS), plain_prior(axes, SETTINGS)
    rng = np.random.default_rng(3)
    points = rng.choice(60, 40, replace=False)
    levels = 0.05 * rng.standard_normal(40)
    sums = joint.sum_levels(points, levels, 1e-6 * np.eye(40), own_variances(40))
    fit = joint.average(plain, *sums, np.array([0.0, 1.0]))
    everywhere = np.arange(60)
    columns = fit.find_columns(everywhere)
    # Three axes, and two tables for each two of them.
    assert columns.shape == (60, 3 + 6)
    assert fit.predict().ravel() == pytest.approx(fit.effects[columns].sum(axis=1), abs=1e-6)


def visit(
    log: F64, rng: np.random.Generator, count: int, noise: float
) -> tuple[npt.NDArray[np.integer], F64]:
    """Random points of a window, and a noisy log latency of each."""
    point = rng.integers(0, log.size, count)
    return point, log.ravel()[point] + noise * rng.standard_normal(count)


@pytest.mark.parametrize(("gain", "least", "most"), [(0.06, 0.99, 1.0), (0.0, 0.0, 0.05)])
def test_samples_show_a_switch_or_that_there_is_none(
    gain: float, least: float, most: float
) -> None:
    """Rows that are multiples of 16 are faster in the last half of the columns, or they aren't."""
    axes = (np.arange(400, 448), np.arange(300, 348))
    rng = np.random.default_rng(4)
    log = np.add.outer(*(np.where(dims % 16 == 0, -0.03, 0.0) for dims in axes))
    log[np.ix_(axes[0] % 16 == 0, np.arange(48) >= 24)] -= gain
    joint, plain = JointEffects(axes), plain_prior(axes, RACE.prior)
    point, value = visit(log, rng, 600, 0.01)
    near = Neighbours.of_lengths([600])
    shares = joint.find_shares(plain, *joint.sum_samples(plain, point, value, near, 0.01))
    assert least <= 1 - shares[0] <= most


def test_a_point_that_is_fast_alone_is_no_switch() -> None:
    """Of 24 points that met in rounds, one is 8 % faster than its row and its column say."""
    axes = (np.arange(400, 448), np.arange(300, 348))
    rng = np.random.default_rng(7)
    log = np.add.outer(*(np.where(dims % 16 == 0, -0.03, 0.0) for dims in axes)).ravel()
    joint, plain = JointEffects(axes), plain_prior(axes, RACE.prior)
    point, value = visit(log, rng, 600, 0.01)
    seen = joint.sum_samples(plain, point, value, Neighbours.of_lengths([600]), 0.01)
    points = np.sort(rng.choice(log.size, 24, replace=False))
    lone = log[points] - np.where(np.arange(24) == 11, 0.08, 0.0)
    error = 1e-6 * np.eye(24)
    usual = np.full(24, RACE.prior.interaction**2)

    def find_share(level: F64, own: F64) -> float:
        more = joint.sum_levels(points, level, error, own)
        shares = joint.find_shares(plain, seen[0] + more[0], seen[1] + more[1])
        return float(1 - shares[0])

    own = joint.find_own_variances(plain, *seen, own_levels(points, lone, error))
    assert np.flatnonzero(own > 2 * usual).tolist() == [11]
    assert find_share(lone, own) < 0.1
    # Were all points taken for equals, the lone one would look like joint effects.
    assert find_share(lone, usual) > 0.9


def own_levels(points: npt.NDArray[np.integer], level: F64, covariance: F64) -> OwnLevels:
    """Levels of points, as of visits in rounds."""
    return OwnLevels(
        point=points.astype(np.int64),
        log_latency=level,
        noise=0.01,
        points=points.astype(np.int64),
        level=level,
        covariance=covariance,
    )


def test_the_fastest_points_are_drawn_as_often_as_they_are_the_fastest() -> None:
    points, level, error = draw_levels(5, 30)
    joint, plain = JointEffects(AXES, SETTINGS), plain_prior(AXES, SETTINGS)
    fit = joint.average(
        plain,
        *joint.sum_levels(points, level, error, own_variances(len(points))),
        np.array([0.0, 1.0]),
    )
    mean, covariance = fit.believe(points)
    rng = np.random.default_rng(6)
    drawn = points[rng.multivariate_normal(mean, covariance, 20_000).argmin(axis=1)]
    expected = np.bincount(drawn, minlength=NUM_POINTS) / 20_000
    found = np.bincount(fit.draw_fastest(rng, 20_000, points), minlength=NUM_POINTS) / 20_000
    # Of 20,000 draws, a share of one half has a standard error of 0.35 %.
    assert found == pytest.approx(expected, abs=0.02)
    assert np.count_nonzero(expected > 0.05) > 1
    assert isinstance(fit, JointFit)


# --- Whole races ----------------------------------------------------------------------------


def race_with_a_switch(seed: int, settings: RaceSettings) -> tuple[bool, float, float]:
    """Whether the race is settled, its margin, and by how much its answer truly misses the best.

    Multiples of 16 are 2 % faster on either axis. Rows that are multiples of 16 are 6 % faster
    still in the last quarter of the columns.
    """
    grid = Grid.window((401 + seed, 300 + 3 * seed), (47, 47))
    rows, columns = (np.array(axis.dims) for axis in grid.axes)
    log = 0.2 * np.add.outer(np.log(rows / rows[0]), np.log(columns / columns[0]))
    log -= np.add.outer(*(np.where(dims % 16 == 0, 0.02, 0.0) for dims in (rows, columns)))
    log[np.ix_(rows % 16 == 0, np.arange(48) >= 36)] -= 0.06
    own = 0.003 * np.random.default_rng([seed, 5]).standard_normal(log.size)
    truth = 1e-4 * np.exp(log.ravel() + own)
    device = SyntheticDevice(truth, noise=0.009, spikes=0.02, drift=0.01, seed=seed)
    planner = RacePlanner(
        SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid, seed=seed), settings
    )
    while (batch := planner.next_batch()) is not None:
        planner.record(device.measure(batch))
    curve = planner.build_curve(PLATFORM, PROTOCOL, NOW)
    margin = curve.evidence.margin
    assert margin is not None
    answer = int(curve.answers.target[0])
    return bool(curve.evidence.settled), margin, float(truth[answer] / truth.min() - 1)


@pytest.mark.parametrize("seed", [1, 8, 14, 17])
def test_a_race_doesnt_settle_at_a_margin_that_a_switch_makes_wrong(seed: int) -> None:
    """A sum of effects of rows and columns is surprised by the switch, and settles nevertheless."""
    settled, margin, regret = race_with_a_switch(seed, NEVER)
    assert settled
    assert regret > margin
    settled, margin, regret = race_with_a_switch(seed, RACE)
    assert not settled or regret <= margin
    assert regret < 0.005
