"""What races answer, under noise, drift and neighbours of which the truth is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from profiler_service.analysis.lhp import Answer
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import Mode
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.spec import RaceTerms, SweepSpec
from tests.plan.asking import ask, curve_from, random_dims, spec_above, true_ratio
from tests.synthetic import SyntheticDevice, smooth, stairs


def small_spec(reach: int, dims: tuple[int, ...], mode: Mode, *, seed: int) -> SweepSpec:
    """A sweep of a small window, `reach` beyond `dims`, with half a second to settle.

    The rules are those of larger windows, whose fits and draws take several times as long.
    """
    spec = spec_above(dims, mode, seed=seed)
    grid = Grid.window(dims, (reach,) * len(dims))
    return replace(spec, grid=grid, terms=RaceTerms(settle_s=0.5))


def dims_of(seed: int, axes: int) -> tuple[int, ...]:
    """Small ones, of fast calls: a race has time for many."""
    return tuple(dim // 4 + 75 for dim in random_dims(seed, axes))


@pytest.mark.parametrize(("mode", "axes", "seeds"), [("race", 2, 77), ("grid", 1, 60)])
def test_noise_alone_moves_no_answer(mode: Mode, axes: int, seeds: int) -> None:
    """A smooth curve under 3 % heavy-tailed noise and drift: at most 1 % of answers go wrong.

    Below 100 seeds, that is none. None of 77 is as strict as one of 100: where 5 % go wrong, it
    passes with probability 0.95^77 = 0.02 (one of 100: 0.95^100 + 100 · 0.05 · 0.95^99 = 0.04), and
    where 10 % do, with 0.9^77 = 0.0003 (0.9^100 + 100 · 0.1 · 0.9^99 = 0.0003).
    """
    wrong = 0
    for seed in range(seeds):
        spec = small_spec(15, dims_of(seed, axes), mode, seed=seed)
        truth = smooth(spec.grid)
        answer = ask(spec, SyntheticDevice(truth, seed=seed + 1000))
        wrong += true_ratio(spec, truth, answer) > 1.005
    assert wrong <= seeds / 100


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """What was answered where multiples are 3 % faster an axis."""

    answer: Answer
    true_ratio: float
    """Latency of the answer over that of the queried point."""

    @property
    def is_covered(self) -> bool:
        """Whether the answer's interval holds the true speed-up."""
        low, high = self.answer.speedup_interval
        return low <= 1 / self.true_ratio <= high


def ask_stepped(
    mode: Mode, axes: int, multiple: int, seeds: int, *, device_seed: int, least_gain: float = 0.0
) -> list[Stepped]:
    """Answers of windows of two steps, where one is faster than the queried point by a share.

    Elsewhere that is on a step already, or the smooth growth up to the next one eats the gain.
    """
    asked = []
    for seed in range(seeds):
        spec = small_spec(2 * multiple, random_dims(seed, axes), mode, seed=seed)
        truth = stairs(spec.grid, multiple)
        if truth.min() / truth[0] <= 1 - least_gain:
            answer = ask(spec, SyntheticDevice(truth, seed=seed + device_seed))
            asked.append(Stepped(answer=answer, true_ratio=true_ratio(spec, truth, answer)))
    return asked


def check_found(asked: list[Stepped]) -> None:
    """Asserts that at least 95 % of more than 30 answers take the step."""
    assert len(asked) > 30
    assert sum(each.true_ratio < 0.99 for each in asked) >= 0.95 * len(asked)


def test_true_steps_are_found_in_a_grid() -> None:
    check_found(ask_stepped("grid", 1, 4, 60, device_seed=1000, least_gain=0.02))


def test_true_steps_are_found_and_the_promised_intervals_hold() -> None:
    """An interval claims 95 %; looking several times is paid for, so it must hold at least so."""
    found = ask_stepped("race", 2, 16, 60, device_seed=1000, least_gain=0.02)
    check_found(found)
    found += ask_stepped("race", 1, 16, 40, device_seed=5000)
    # Something larger is faster in 53 windows with two axes and in 34 with one: 87. (Of 100 windows
    # with one axis, it would be so in 79: the same share of fewer answers.)
    moved = [each for each in found if each.answer.lhp != each.answer.dims]
    assert len(moved) > 60
    assert sum(each.is_covered for each in moved) >= 0.95 * len(moved)


@pytest.mark.parametrize("seed", range(8))
def test_a_noisy_neighbour_moves_no_answer(seed: int) -> None:
    """It comes after a share of the time that the race takes without it."""
    spec = small_spec(15, (301, 233), "race", seed=seed)
    truth = smooth(spec.grid)
    quiet = SyntheticDevice(truth, seed=seed)
    ask(spec, quiet)
    for share in [0.0, 0.25, 0.5, 0.75, 0.9]:
        from_s = share * quiet.clock_s
        device = SyntheticDevice(truth, seed=seed, neighbour_from_s=from_s)
        assert true_ratio(spec, truth, ask(spec, device)) <= 1.005
        assert device.clock_s > from_s


def test_drift_that_ramps_through_the_race_moves_no_answer() -> None:
    # 60 % slower at the end of every 10 s: a sorted sweep would call the first points fastest.
    for seed in range(10):
        spec = replace(small_spec(15, (701, 333), "race", seed=seed), terms=RaceTerms())
        truth = smooth(spec.grid)
        device = SyntheticDevice(truth, seed=seed, drift=0.6, period_s=1e9)
        assert true_ratio(spec, truth, ask(spec, device)) <= 1.005


def test_a_race_that_misses_a_lone_point_is_honest() -> None:
    """A race looks at a sample of the window: what it answers instead is still no slower."""
    for seed in range(20):
        spec = replace(spec_above((400, 400), "race", seed=seed), terms=RaceTerms(settle_s=0.5))
        truth = smooth(spec.grid)
        truth[int(np.random.default_rng(seed).integers(1, spec.grid.size))] = 0.9 * truth[0]
        answer = ask(spec, SyntheticDevice(truth, seed=seed))
        assert true_ratio(spec, truth, answer) <= 1.0


def test_a_cliff_is_not_fallen_off() -> None:
    # From row 421 on everything is 40 % slower, the multiples of 16 beyond it, too.
    spec = spec_above((401, 401), "race")
    truth = stairs(spec.grid, 16, 0.1)
    truth[20 * spec.grid.shape[1] :] *= 1.4
    answer = ask(spec, SyntheticDevice(truth))
    assert answer.lhp[0] == 416 and answer.lhp[1] % 16 == 0


def test_a_race_visits_few_of_the_points() -> None:
    """A fifth of a 64 × 64 window's points, in the time that its terms give it."""
    grid = Grid.window((1197, 317), (63, 63))
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid)
    truth = stairs(grid, 16)
    planner = create_planner(spec)
    device = SyntheticDevice(truth, noise=0.015)
    device.run(planner)
    assert curve_from(planner).num_measured < 0.2 * grid.size
    assert device.clock_s < RACE.budget.search_s + spec.terms.settle_s + 0.2


def test_expensive_points_are_screened_sparsely() -> None:
    """48 x 48 points of 50 ms at 1 % noise: a race has 14 s, and all points would take 115 s.

    Columns are smooth, rows have steps of 6 % every 16 (as an LSTM's on a CPU here): the best
    point is the largest row of the first block.
    """
    grid = Grid.window((401, 400), (47, 47))
    rows, columns = (grid.all_dims()[:, axis].astype(np.float64) for axis in (0, 1))
    truth = 50e-3 * (1 + 0.06 * np.ceil((rows - 416) / 16)) * (columns / 400) ** 0.5
    truth = np.where(rows == 416, 0.96, 1.0) * truth
    regrets, found = [], 0
    for seed in range(10):
        spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid, seed=seed)
        device = SyntheticDevice(truth, noise=0.008, spikes=0.01, drift=0.01, seed=seed)
        planner = create_planner(spec)
        device.run(planner)
        assert device.clock_s < RACE.budget.longest_s + 1
        target = int(curve_from(planner).answers.target[0])
        regrets.append(truth[target] / truth.min() - 1)
        found += target != 0
        assert truth[target] <= truth[0]
    assert found >= 5
    assert float(np.median(regrets)) < 0.02
