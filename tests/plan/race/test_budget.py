"""The budget: what it follows from, and that it is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.lhp import find_answer
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.create import create_planner
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.spec import SweepSpec, window_growth
from tests.plan.asking import curve_from, spec_above
from tests.synthetic import SyntheticDevice, stairs


@pytest.mark.parametrize(
    ("call_s", "noise", "budget_s"),
    [
        # 4,096 points; growth of 1/8 on each axis from 512 makes the mean call some 4 % longer
        # on each. Calling each once: 0.044 s, 0.44 s and 4.4 s.
        (1e-5, 0.005, 0.06),  # 0.85 * 0.044 s is too little for a look of 15 ms
        (1e-5, 0.08, 0.35),  # what nobody notices
        (1e-4, 0.005, 0.85 * 0.44),
        (1e-4, 0.08, 0.97 * 0.44),
        (1e-3, 0.005, 1.15),
        (1e-3, 0.08, 1.5 * 1.15),
    ],
)
def test_noise_buys_time_but_never_more_than_a_look_at_each_point_or_a_moment(
    call_s: float, noise: float, budget_s: float
) -> None:
    grid = Grid.window((512, 512), (63, 63))
    planner = RacePlanner(SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid))
    SyntheticDevice(np.full(4096, call_s), noise=noise, spikes=0, drift=0).run(planner)
    assert curve_from(planner).evidence["budget_s"] == pytest.approx(budget_s, rel=0.1)


@pytest.mark.parametrize("budget_s", [0.002, 0.02, 0.1, 0.5])
def test_a_budget_is_kept(budget_s: float) -> None:
    spec = replace(spec_above((640, 320), "race"), budget_s=budget_s)
    truth = stairs(spec.grid, 16)
    planner = create_planner(spec)
    device = SyntheticDevice(truth)
    device.run(planner)
    curve = curve_from(planner)
    # What is under way when the budget ends is finished: calibration, or one batch.
    assert device.clock_s < budget_s + 60 * truth[0]
    assert truth[curve.answers.target[0]] <= truth[0]


def test_a_survey_of_dear_calls_keeps_to_its_budget() -> None:
    spec = replace(spec_above((100, 100), "survey"), budget_s=2.0)
    planner = create_planner(spec)
    device = SyntheticDevice(np.full(spec.grid.size, 20e-3))
    device.run(planner)
    # Batches last half a second; one may be under way.
    assert device.clock_s < 2.0 + 1.0
    assert curve_from(planner).evidence["cut_short"] == 1


def test_a_budget_too_small_for_a_verdict_answers_with_the_point_itself() -> None:
    spec = replace(spec_above((640, 320), "race"), budget_s=0.001)
    planner = create_planner(spec)
    SyntheticDevice(stairs(spec.grid, 16)).run(planner)
    curve = curve_from(planner)
    answer = find_answer(curve, (640, 320), prefer="fastest", growth=window_growth((640, 320)))
    assert answer is not None and (answer.lhp, answer.verdict) == ((640, 320), "ambiguous")
    assert curve.evidence["cut_short"] == 1
    enough = create_planner(spec_above((640, 320), "race"))
    SyntheticDevice(stairs(spec.grid, 16)).run(enough)
    assert curve_from(enough).evidence["cut_short"] == 0
