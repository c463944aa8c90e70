"""Races that start from what the host's model says: the prior, the visits, and the answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.neighbours import Neighbours
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import Mode
from profiler_service.plan.race.ladder import LadderPlanner
from profiler_service.plan.race.narrow import Draw, Narrowing
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.race.settings import RACE, PriorSettings
from profiler_service.plan.race.structure import Structure, learned_prior, position_prior
from profiler_service.plan.race.visits import RaceVisits
from profiler_service.plan.spec import SweepSpec
from tests.plan.asking import curve_from
from tests.plan.predicting import learn, learn_nothing
from tests.plan.race.test_narrow import SHAPE, Posterior
from tests.synthetic import F64, SyntheticDevice, smooth

THREE = np.array([100, 200, 400])
"""Their logarithms are ln 2 = 0.6931 apart."""


def test_learned_effects_are_expected_with_their_growth() -> None:
    """The line through 0, 3 %, 0 is 1 % everywhere: beyond it are -1, 2 and -1 %."""
    mean, _ = learned_prior(THREE, np.array([0.0, 0.03, 0.0]))
    assert mean == pytest.approx([-0.01, 0.02, -0.01])
    grown, _ = learned_prior(THREE, 0.5 * np.log(THREE) + np.array([0.0, 0.03, 0.0]))
    assert grown == pytest.approx([-0.3566, 0.02, 0.3366], abs=5e-5)


def test_learned_effects_are_doubted_together_and_all_else_is_two_fifths() -> None:
    """Of the prior without a model, the variances are multiplied by 0.4² = 0.16.

    Growth: 0.35² · 0.6931² = 0.058856. All dims are even, and no other class is smaller than the
    axis: 0.015² = 0.000225. Five sizes of blocks, all of which differ: 5 · 0.04² = 0.008. A single
    position: 0.007² = 0.000049. The doubt is the products of -1, 2 and -1 %.
    """
    _, covariance = learned_prior(THREE, np.array([0.0, 0.03, 0.0]))
    assert covariance[0, 0] == pytest.approx(0.16 * 0.067130 + 1e-4, abs=1e-7)
    assert covariance[1, 1] == pytest.approx(0.16 * 0.008274 + 4e-4, abs=1e-7)
    assert covariance[0, 1] == pytest.approx(0.16 * 0.000225 - 2e-4, abs=1e-7)
    assert covariance[0, 2] == pytest.approx(0.16 * (0.000225 - 0.058856) + 1e-4, abs=1e-7)
    # The doubt has one direction: it is by how much all learned effects are wrong together.
    doubt = covariance - 0.16 * position_prior(THREE)[1]
    assert np.linalg.matrix_rank(doubt, tol=1e-9) == 1


def test_a_single_position_has_nothing_to_learn() -> None:
    mean, covariance = learned_prior(np.array([64]), np.array([0.3]))
    assert mean.tolist() == [0.0]
    assert covariance == pytest.approx(0.16 * position_prior(np.array([64]))[1])


def test_how_far_a_model_is_trusted_is_a_setting() -> None:
    settings = PriorSettings(learned_share=0.5, learned_doubt=0.0, learned_spread=1.0)
    mean, covariance = learned_prior(THREE, np.array([0.0, 0.03, 0.0]), settings)
    assert mean == pytest.approx([-0.005, 0.01, -0.005])
    assert covariance == pytest.approx(position_prior(THREE)[1])


def test_what_was_learned_is_taken_instead_of_a_guide() -> None:
    axes = [np.arange(64, 96)]
    learned, guide = np.where(axes[0] % 16 == 0, -0.05, 0.0), np.linspace(0, 0.3, 32) ** 2
    both = Structure(axes, [guide.tolist()], learned=[learned.tolist()])
    alone = Structure(axes, learned=[learned.tolist()])
    guided = Structure(axes, [guide.tolist()])
    assert expected_by(both) == expected_by(alone) != expected_by(guided)


def expected_by(structure: Structure) -> list[float]:
    """The effects of the only axis, before there are samples."""
    fit = structure.fit(np.zeros((0, 1), dtype=np.intp), np.zeros(0), Neighbours.of_lengths([0]))
    return [float(effect) for effect in fit.effects[0]]


def narrowing_of(allowed: int, prior: PriorSettings | None, seed: int = 0) -> Narrowing:
    rng = np.random.default_rng(seed)
    return Narrowing(RACE.narrow, SHAPE, rng, allowed=allowed, few=3, prior=prior)


def test_half_of_the_visits_are_made_where_a_model_is_trusted() -> None:
    """Without a model, 160 visits are wanted for 20 positions: 8 of each, half of them random."""
    narrowing = narrowing_of(1000, RACE.prior)
    assert (narrowing.wanted, narrowing.design_size) == (80, 40)
    without = narrowing_of(1000, None)
    assert (without.wanted, without.design_size) == (160, 80)
    # There is time for half of them: half of those are random.
    assert narrowing_of(20, RACE.prior).design_size == 10
    posterior = Posterior((0, 1))
    # The rest in six batches: (80 - 40) / 6 = 6.7 and (160 - 40) / 6 = 20; but four at least.
    narrowing.suggest(posterior, wanted=80, left=1000)
    narrowing.suggest(posterior, wanted=160, left=1000)
    narrowing.suggest(posterior, wanted=41, left=1000)
    assert posterior.counts == [7, 20, 4]


def test_a_tenth_of_the_later_visits_are_random_where_a_model_is_trusted() -> None:
    """Of 20 visits, 2. All others are the point that is drawn, number 1."""
    seen: set[int] = set()
    for seed in range(300):
        draw = narrowing_of(1000, RACE.prior, seed).suggest(Posterior((0, 1)), wanted=160, left=999)
        assert isinstance(draw, Draw) and len(draw.points) == 20
        assert set(draw.points[2:].tolist()) == {1}
        seen |= set(draw.points[:2].tolist())
        assert draw.alive == (1, 1), "what is random says nothing of the model"
    # 600 visits of 200 points leave out each one with probability e^-3 = 5 %: ten of them.
    assert len(seen) > 175
    draw = narrowing_of(1000, None).suggest(Posterior((0, 1)), wanted=160, left=1000)
    assert isinstance(draw, Draw) and set(draw.points.tolist()) == {1}


GRID = Grid(axes=(GridAxis(first=401, count=48), GridAxis(first=201, count=48)))


def truth_of(step: float) -> F64:
    """Multiples of 16 are `step` faster on either axis. Growth is a third of a product's."""
    dims, grown = GRID.all_dims(), smooth(GRID)
    fast = np.count_nonzero(dims % 16 == 0, axis=1)
    latency: F64 = 1e-4 * (grown / grown[0]) ** 0.3 * (1 - step) ** fast
    return latency


def race(
    truth: F64, seed: int, *, sign: float | None, mode: Mode = "race"
) -> tuple[RacePlanner | LadderPlanner, float]:
    """A race that starts from effects with that sign, and its answer's regret.

    Without a sign, there is no model.
    """
    learned = None if sign is None else learn(GRID, truth, sign=sign)
    spec = SweepSpec(workload=LINEAR.describe(), mode=mode, grid=GRID, seed=seed, learned=learned)
    planner = create_planner(spec)
    SyntheticDevice(truth, noise=0.01, seed=seed).run(planner)
    curve = curve_from(planner)
    answer = int(curve.answers.target[0])
    assert truth[answer] <= truth[0]
    assert isinstance(planner, RacePlanner | LadderPlanner)
    return planner, float(truth[answer] / truth.min() - 1)


def narrowing_visits(planner: RaceVisits) -> int:
    return sum(stage.num_visits for stage in planner.stages if stage.name == "narrow")


def test_a_right_model_needs_fewer_visits_for_the_same_answer() -> None:
    truth = truth_of(0.05)
    plain: list[int] = []
    learned: list[int] = []
    for seed in range(6):
        for sign, visits in ((None, plain), (1.0, learned)):
            planner, regret = race(truth, seed, sign=sign)
            assert regret < 0.005
            visits.append(narrowing_visits(planner))
    # 96 random visits instead of 192, and then batches of at least 4 in place of larger ones.
    assert np.median(learned) < 0.6 * np.median(plain)


def test_a_false_model_costs_visits_and_not_the_answer() -> None:
    """By the model, multiples of 16 are as much slower as they are faster."""
    truth = truth_of(0.06)
    regrets = [race(truth, seed, sign=-1.0)[1] for seed in range(8)]
    assert np.median(regrets) < 0.001
    assert max(regrets) < 0.01


@pytest.mark.parametrize("mode", ["nearest", "largest"])
def test_a_ladder_starts_from_the_model_too(mode: Mode) -> None:
    truth = truth_of(0.06)
    (plain, _), (learned, _) = (
        race(truth, 1, sign=None, mode=mode),
        race(truth, 1, sign=1.0, mode=mode),
    )
    answers = [curve_from(planner).answers.target[0] for planner in (plain, learned)]
    assert 0 not in answers
    assert narrowing_visits(learned) < narrowing_visits(plain)


def test_a_race_that_starts_from_a_model_isnt_guided() -> None:
    truth = truth_of(0.05)
    guide = learn(GRID, truth).effects
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=GRID, guide=guide)
    for learned in (None, learn_nothing(GRID, GRID.first)):
        planner = create_planner(replace(spec, learned=learned))
        SyntheticDevice(truth, noise=0.01).run(planner)
        assert curve_from(planner).evidence.guided is (learned is None)
