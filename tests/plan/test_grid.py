"""Grid sweeps: what their progress says of the points left undecided."""

from __future__ import annotations

import datetime as dt
import re

import numpy as np

from profiler_service.analysis.curve import PointStatus
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from profiler_service.plan.grid import GridPlanner
from profiler_service.plan.spec import SweepSpec
from tests.synthetic import PLATFORM, PROTOCOL, SyntheticDevice, stairs

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
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
    curve = planner.build_curve(PLATFORM, PROTOCOL, NOW)
    assert curve.num_lhps > 4
    # The curve asks for less certainty than laying points to rest does.
    assert curve.num_undecided <= told[rounds[-1]]


def test_a_sweep_stopped_early_names_the_rival_of_every_undecided_point() -> None:
    planner = GridPlanner(SPEC)
    device = SyntheticDevice(stairs(SPEC.grid, 16, 0.05), noise=0.01)
    while not planner.progress().stage.startswith("round 19"):
        batch = planner.next_batch()
        assert batch is not None
        planner.record(device.measure(batch))
    curve = planner.build_curve(PLATFORM, PROTOCOL, NOW)
    undecided = np.flatnonzero(curve.status == PointStatus.UNDECIDED)
    answers = curve.answers
    assert answers.rival is not None and len(undecided)
    assert np.all(answers.rival[undecided] > undecided)
    # None of them is confidently beaten by the rival that it names: else it were decided.
    assert np.all(answers.target[undecided] == undecided)
    assert np.all(np.isfinite(answers.ratio_low[undecided]))
    # The last point has nothing larger.
    assert answers.rival[-1] == -1 and np.isnan(answers.ratio[-1])
