"""Grid sweeps: rounds, verdicts, budgets, and what progress says of the points left undecided."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.curve import PointStatus
from profiler_service.analysis.lhp import find_answer
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from profiler_service.plan.base import ANCHOR_EVERY
from profiler_service.plan.create import create_planner
from profiler_service.plan.grid import GridPlanner, plan_looks
from profiler_service.plan.spec import SweepSpec, window_growth
from tests.plan.asking import curve_from, spec_above
from tests.synthetic import SyntheticDevice, stairs

SPEC = SweepSpec(
    workload=MATMUL.describe(), mode="grid", grid=Grid(axes=(GridAxis(first=100, count=64),))
)


def test_progress_tells_how_few_points_are_left_undecided() -> None:
    planner = GridPlanner(SPEC)
    device = SyntheticDevice(stairs(SPEC.grid, 16, 0.05), noise=0.01)
    told = {}
    while (batch := planner.next_batch()) is not None:
        planner.record(device.measure(batch))
        match = re.fullmatch(r"round (\d+), (\d+) of 64 points undecided", planner.progress().stage)
        if match:
            told[int(match[1])] = int(match[2])
    rounds = sorted(told)
    # Nothing is decided before the first look, after 18 rounds.
    assert told[1] == 64 and told[rounds[-1]] < 16
    # Points decided as LHPs go on being measured, and aren't undecided.
    curve = curve_from(planner)
    assert np.isin(curve.status, (PointStatus.LHP, PointStatus.EDGE)).sum() > 4
    # The curve asks for less certainty than what makes a point rest.
    assert curve.num_undecided <= told[rounds[-1]]


def test_a_sweep_stopped_early_names_the_rival_of_every_undecided_point() -> None:
    planner = GridPlanner(SPEC)
    device = SyntheticDevice(stairs(SPEC.grid, 16, 0.05), noise=0.01)
    while not planner.progress().stage.startswith("round 19"):
        batch = planner.next_batch()
        assert batch is not None
        planner.record(device.measure(batch))
    curve = curve_from(planner)
    undecided = np.flatnonzero(curve.status == PointStatus.UNDECIDED)
    answers = curve.answers
    assert answers.rival is not None and len(undecided)
    assert np.all(answers.rival[undecided] > undecided)
    # None of them is confidently beaten by the rival that it names: else it were decided.
    assert np.all(answers.target[undecided] == undecided)
    assert np.all(np.isfinite(answers.ratio_low[undecided]))
    # The last point has nothing larger.
    assert answers.rival[-1] == -1 and np.isnan(answers.ratio[-1])


def test_grid_statuses_on_a_quiet_device() -> None:
    # matmul 100..132, multiples of 16 are 5 % faster, the slope is 0.3 % a step. 113 to 127 lose
    # to 128 (15 steps are 4.5 %); nothing beats 112 or 128, and 132 is the last point: an edge.
    spec = spec_above((100,), "grid")
    planner = create_planner(spec)
    SyntheticDevice(stairs(spec.grid, 16, 0.05), noise=0.001, spikes=0, drift=0.02).run(planner)
    curve = curve_from(planner)
    lhps = [spec.grid.dims(int(i))[0] for i in np.flatnonzero(curve.status == PointStatus.LHP)]
    assert {112, 128} <= set(lhps) and 132 not in lhps
    assert curve.status[-1] == PointStatus.EDGE
    assert not set(lhps) & set(range(113, 128))
    assert curve.answers.target[spec.grid.find_index((105,)) or 0] == spec.grid.find_index((112,))
    assert curve.redundancy == 1 - len(lhps) / 33


def test_grid_rounds_visit_every_point_once_in_random_order_between_anchors() -> None:
    planner = create_planner(spec_above((100,), "grid"))
    device = SyntheticDevice(np.full(33, 1e-4))
    for _ in range(2):
        calibration = planner.next_batch()
        assert calibration is not None
        planner.record(device.measure(calibration))
    batch = planner.next_batch()
    assert batch is not None
    anchor = 33 // 2
    first, second = (batch.point[batch.round == number] for number in (0, 1))
    visits = Counter(first.tolist())
    # 33 points once each, and the anchor before every 16 of them (3 times) and at the end.
    assert visits.pop(anchor) == 1 + 3 + 1
    assert set(visits.values()) == {1} and len(visits) == 32
    assert np.diff(np.flatnonzero(first == anchor)).max() <= ANCHOR_EVERY + 1
    assert np.any(np.diff(first[first != anchor]) < 0), "sorted, drift would draw a staircase"
    assert Counter(second.tolist()) == Counter(first.tolist())
    assert second.tolist() != first.tolist()
    # 18 rounds of 33 visits of 0.2 ms fit into half a second: nothing is decided before them.
    assert batch.round.max() == 17


@pytest.mark.parametrize("budget_s", [1e-4, 0.01, 0.05])
def test_a_grid_with_too_small_a_budget_answers_with_the_point_itself(budget_s: float) -> None:
    spec = replace(spec_above((40, 40), "grid"), budget_s=budget_s)
    planner = create_planner(spec)
    SyntheticDevice(np.full(spec.grid.size, 1e-3)).run(planner)
    curve = curve_from(planner)
    assert curve.evidence.cut_short == 1
    answer = find_answer(curve, (40, 40), prefer="nearest", growth=window_growth((40, 40)))
    assert answer is not None and (answer.lhp, answer.verdict) == ((40, 40), "ambiguous")


def test_points_that_rest_have_intervals_that_hold() -> None:
    """Some points rest because of luck, and the interval on their ratio must allow for that.

    Multiples of 4 are 3 % faster. Of the ratios of points that rest, at most 2.5 % may be better
    than the truth beyond their interval, as of any 95 % interval.
    """
    num_points = num_too_good = 0
    for seed in range(20):
        spec = spec_above((200,), "grid", seed=seed)
        truth = stairs(spec.grid, 4)
        planner = GridPlanner(spec)
        SyntheticDevice(truth, seed=seed + 77).run(planner)
        answers = curve_from(planner).answers
        for point in planner._rested:
            assert answers.rival is not None
            rival = int(answers.rival[point])
            num_points += 1
            num_too_good += bool(answers.ratio_high[point] < truth[rival] / truth[point])
    assert num_points > 300
    assert num_too_good <= 0.025 * num_points


def test_all_looks_and_the_curve_share_the_error_of_one_interval() -> None:
    # 18, 21, 24, 30 … 291, 300: 16 looks of 1/640 make 1/40, and the curve's own error is 1/40.
    looks = plan_looks(GridPlanner.MIN_ROUNDS, GridPlanner.MAX_ROUNDS)
    assert (looks[:4], looks[-2:], len(looks)) == ((18, 21, 24, 30), (291, 300), 16)
    error = len(looks) * (1 - GridPlanner.REST_CONFIDENCE) + (1 - GridPlanner.CURVE_CONFIDENCE)
    assert error == pytest.approx(0.05)


def test_equal_points_are_hardly_ever_declared_faster_however_often_they_are_looked_at() -> None:
    """All points of a grid are equal: each that has another answer than itself is an error.

    A point may err with 2.5 %. Points of one curve err together, because they share rivals: the
    shares of single curves spread by less than 6 %. So the mean of 40 curves is at most 2.5 % +
    3 · 6 % / √40 = 5.3 %, but for one time in a thousand.
    """
    shares = []
    for seed in range(40):
        spec = spec_above((200,), "grid", seed=seed)
        planner = create_planner(spec)
        SyntheticDevice(np.full(spec.grid.size, 1e-4), seed=seed + 500).run(planner)
        target = curve_from(planner).answers.target
        shares.append(np.mean(target != np.arange(spec.grid.size)))
    assert np.std(shares) < 0.06
    assert np.mean(shares) <= 0.025 + 3 * 0.06 / np.sqrt(40)


def test_a_grid_sweep_ends_with_its_budget_and_keeps_what_it_knows() -> None:
    spec = replace(spec_above((100,), "grid"), budget_s=0.02)
    truth = stairs(spec.grid, 16, 0.05)
    planner = create_planner(spec)
    device = SyntheticDevice(truth)
    device.run(planner)
    curve = curve_from(planner)
    assert planner.progress().fraction == 1.0
    # One batch beyond the budget at most: 18 rounds of 33 points, some anchors, two calls each.
    assert device.clock_s < 0.02 + 18 * 39 * 2 * truth.max() * 2
    assert curve.num_measured == 33
