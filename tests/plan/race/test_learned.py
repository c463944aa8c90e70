"""Races that start from what the host's model says: the prior, the visits, and the answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from profiler_service.analysis.neighbours import Neighbours, Noise
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import Mode
from profiler_service.plan.race.ladder import LadderPlanner
from profiler_service.plan.race.narrow import Draw, Narrowing
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.race.prior_settings import PriorSettings
from profiler_service.plan.race.priors import learned_prior, position_prior
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.structure import Structure, StructureFit
from profiler_service.plan.race.visits import RaceVisits
from profiler_service.plan.spec import SweepSpec
from tests.plan.asking import curve_from
from tests.plan.predicting import learn, learn_nothing
from tests.plan.race.test_narrow import DIMS, Posterior
from tests.synthetic import F64, SyntheticDevice, smooth

THREE = np.array([100, 200, 400])
"""Their logarithms are ln 2 = 0.6931 apart."""


def test_learned_effects_are_expected_with_their_growth() -> None:
    """The line through 0, 3 %, 0 is 1 % everywhere: beyond it are -1, 2 and -1 %."""
    mean, _ = learned_prior(THREE, np.array([0.0, 0.03, 0.0]), 0.2)
    assert mean == pytest.approx([-0.01, 0.02, -0.01])
    grown, _ = learned_prior(THREE, 0.5 * np.log(THREE) + np.array([0.0, 0.03, 0.0]), 0.2)
    assert grown == pytest.approx([-0.3566, 0.02, 0.3366], abs=5e-5)


def test_learned_effects_are_doubted_together_and_all_else_is_less() -> None:
    """With a spread of 0.2, variances are multiplied by 0.04, and that of classes by 0.4² = 0.16.

    Growth: 0.35² · 0.6931² = 0.058856. All dims are even, and no other class is smaller than the
    axis: 0.01² = 0.0001. Multiples of 4, 8 and 16 have something in common, but no class: 100 is
    one of 2 and 4, 200 of 8, too, and 400 of 16, too: 0.03² = 0.0009 each. Five sizes of blocks,
    all of which differ: 5 · 0.02² = 0.002. A single position: 0.007² = 0.000049. The doubt is half
    of -1, 2 and -1 %.
    """
    _, covariance = learned_prior(THREE, np.array([0.0, 0.03, 0.0]), 0.2)
    classes, two = 0.16 * 0.0001, 0.04 * 2 * 0.0009
    # 0.058856 + 0.002 + 0.000049; the second one has no growth, and one alignment more.
    assert covariance[0, 0] == pytest.approx(0.04 * 0.060905 + classes + two + 0.25e-4, abs=1e-7)
    assert covariance[1, 1] == pytest.approx(
        0.04 * (0.002049 + 0.0009) + classes + two + 1e-4, abs=1e-7
    )
    # Both pairs share 2 and 4.
    assert covariance[0, 1] == pytest.approx(classes + two - 0.5e-4, abs=1e-7)
    assert covariance[0, 2] == pytest.approx(0.04 * -0.058856 + classes + two + 0.25e-4, abs=1e-7)


def test_a_model_that_doesnt_hold_leaves_growth_and_the_same_spread() -> None:
    """So only what is beyond growth decides between the two."""
    effects = 0.5 * np.log(THREE) + np.array([0.0, 0.03, 0.0])
    mean, covariance = learned_prior(THREE, effects, 0.2, holds=False)
    assert mean == pytest.approx([-0.3466, 0.0, 0.3466], abs=5e-5)
    holding = learned_prior(THREE, effects, 0.2)[1]
    # -1, 2 and -1 %, of which half is one standard deviation.
    doubt = 0.25e-4 * np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    assert holding - covariance == pytest.approx(doubt, abs=1e-9)


def test_a_single_position_has_nothing_to_learn() -> None:
    mean, covariance = learned_prior(np.array([64]), np.array([0.3]), 0.4)
    assert mean.tolist() == [0.0]
    assert covariance == pytest.approx(0.16 * position_prior(np.array([64]))[1])


def test_how_far_a_model_is_trusted_is_a_setting() -> None:
    settings = PriorSettings(learned_share=0.5, learned_doubt=0.0, learned_class=1.0)
    mean, covariance = learned_prior(THREE, np.array([0.0, 0.03, 0.0]), 1.0, settings)
    assert mean == pytest.approx([-0.005, 0.01, -0.005])
    assert covariance == pytest.approx(position_prior(THREE)[1])


AXES = [np.arange(401, 449), np.arange(201, 249)]
STEPS = [np.where(dims % 16 == 0, -0.05, 0.0) for dims in AXES]
"""True effects of the positions: multiples of 16 are 5 % faster."""
SHUFFLED = [np.random.default_rng(1).permutation(effect) for effect in STEPS]
"""The same at other positions."""


def fit_random(
    learned: Sequence[F64] | None,
    num_visits: int,
    guide: Sequence[F64] | None = None,
    seed: int = 0,
) -> StructureFit:
    """The fit to visits of random points, each position equally often, with 1.5 % noise."""
    rng = np.random.default_rng(seed)
    columns = [np.concatenate([rng.permutation(48) for _ in range(num_visits // 48)]) for _ in AXES]
    log = sum(effect[at] for effect, at in zip(STEPS, columns, strict=True))
    structure = Structure(
        AXES,
        None if guide is None else [each.tolist() for each in guide],
        learned=None if learned is None else [each.tolist() for each in learned],
    )
    return structure.fit(
        np.stack(columns, axis=1),
        log + 0.015 * rng.standard_normal(num_visits),
        Neighbours.of_lengths([num_visits]),
        Noise(width=0.015, deviation=0.015),
    )


@pytest.mark.parametrize("seed", range(5))
def test_two_visits_of_each_position_tell_a_right_model_from_wrong_ones(seed: int) -> None:
    rng = np.random.default_rng(seed + 100)
    shuffled = [rng.permutation(effect) for effect in STEPS]
    assert fit_random(STEPS, 96, seed=seed).trust > 0.9
    assert fit_random([0.5 * effect for effect in STEPS], 96, seed=seed).trust > 0.9
    assert fit_random(shuffled, 96, seed=seed).trust < 0.25
    # A model that says nothing is no better and no worse than none.
    nothing = [np.zeros(48), np.zeros(48)]
    assert fit_random(nothing, 96, seed=seed).trust == pytest.approx(0.5, abs=1e-3)
    assert fit_random(None, 96, seed=seed).trust == 0.0


def miss(fit: StructureFit) -> float:
    """The standard deviation of the errors of the first axis' effects."""
    return float(np.std(fit.effects[0] - STEPS[0]))


def test_a_wrong_model_leaves_the_fit_as_it_is_without_one() -> None:
    wrong, plain = fit_random(SHUFFLED, 192), fit_random(None, 192)
    assert wrong.effects[0] == pytest.approx(plain.effects[0], abs=1e-3)
    assert wrong.noise == plain.noise


def test_a_right_model_leaves_less_to_find_out() -> None:
    seeds = range(5)
    plain = [miss(fit_random(None, 96, seed=seed)) for seed in seeds]
    right = [miss(fit_random(STEPS, 96, seed=seed)) for seed in seeds]
    assert np.mean(right) < 0.8 * np.mean(plain)


def test_a_model_of_the_opposite_sign_does_no_harm() -> None:
    """It may be believed a little: that its share is -1 says where the truth is."""
    assert miss(fit_random([-effect for effect in STEPS], 192)) < miss(fit_random(None, 192))


def test_a_guide_serves_where_a_model_doesnt_hold() -> None:
    wrong = SHUFFLED
    both, guided = fit_random(wrong, 192, guide=STEPS), fit_random(None, 192, guide=STEPS)
    assert both.effects[0] == pytest.approx(guided.effects[0], abs=1e-3)
    right = fit_random(STEPS, 192, guide=wrong), fit_random(STEPS, 192)
    assert right[0].effects[0] == pytest.approx(right[1].effects[0], abs=1e-3)


def narrowing_of(allowed: int, prior: PriorSettings | None, seed: int = 0) -> Narrowing:
    rng = np.random.default_rng(seed)
    return Narrowing(RACE.narrow, DIMS, rng, allowed=allowed, few=3, prior=prior)


def test_half_of_the_visits_are_made_where_a_model_holds() -> None:
    """Without a model, 160 visits are wanted for 20 positions: 8 of each, half of them random."""
    narrowing = narrowing_of(1000, RACE.prior)
    assert (narrowing.wanted, narrowing.design_size) == (80, 40)
    without = narrowing_of(1000, None)
    assert (without.wanted, without.design_size) == (160, 80)
    # There is time for half of them: half of those are random.
    assert narrowing_of(20, RACE.prior).design_size == 10
    posterior = Posterior((0, 1))
    # The rest in six batches: (80 - 40) / 6 = 6.7 and (160 - 40) / 6 = 20; but four at least.
    assert len(narrowing.design()) == 40
    narrowing.suggest(posterior, wanted=80, left=1000)
    narrowing.suggest(posterior, wanted=160, left=1000)
    narrowing.suggest(posterior, wanted=41, left=1000)
    assert posterior.counts == [7, 20, 4]


def test_visits_grow_back_when_a_model_doesnt_hold() -> None:
    narrowing = narrowing_of(1000, RACE.prior)
    assert len(narrowing.design()) == 40
    narrowing.learn(1.0)
    assert len(narrowing.design()) == 0
    # Half a probability: three quarters of 80 and of 160.
    narrowing.learn(0.5)
    assert (narrowing.wanted, len(narrowing.design())) == (120, 20)
    narrowing.learn(0.0)
    assert (narrowing.wanted, len(narrowing.design())) == (160, 20)
    # What was visited can't be saved any more.
    narrowing.learn(1.0)
    assert len(narrowing.design()) == 0


def test_a_probability_says_nothing_without_a_model() -> None:
    narrowing = narrowing_of(1000, None)
    narrowing.learn(1.0)
    assert (narrowing.wanted, narrowing.design_size) == (160, 80)


def test_a_tenth_of_the_later_visits_are_random_where_a_model_holds() -> None:
    """Of 20 visits, 2. All others are the point that is drawn, number 1."""
    seen: set[int] = set()
    for seed in range(300):
        narrowing = narrowing_of(1000, RACE.prior, seed)
        narrowing.design()
        draw = narrowing.suggest(Posterior((0, 1)), wanted=160, left=999)
        assert isinstance(draw, Draw) and len(draw.points) == 20
        assert set(draw.points[2:].tolist()) == {1}
        seen |= set(draw.points[:2].tolist())
        assert draw.alive == (1, 1), "what is random says nothing of the model"
    # 600 visits of 200 points leave out each one with probability e^-3 = 5 %: ten of them.
    assert len(seen) > 175
    for narrowing in (narrowing_of(1000, None), narrowing_of(1000, RACE.prior)):
        narrowing.learn(0.0)
        draw = narrowing.suggest(Posterior((0, 1)), wanted=160, left=1000)
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


def test_a_race_that_starts_from_a_model_has_its_guide_besides() -> None:
    truth = truth_of(0.05)
    guide = learn(GRID, truth).effects
    for each, learned in ((guide, None), (guide, learn_nothing(GRID, GRID.first)), (None, None)):
        spec = SweepSpec(
            workload=LINEAR.describe(), mode="race", grid=GRID, guide=each, learned=learned
        )
        planner = create_planner(spec)
        SyntheticDevice(truth, noise=0.01).run(planner)
        assert curve_from(planner).evidence.guided is (each is not None)
