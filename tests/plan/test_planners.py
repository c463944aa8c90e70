"""What all planners have in common: replay, progress, curves at any time."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.analysis.curve import PointStatus
from profiler_service.analysis.lhp import find_answer
from profiler_service.grid import Grid
from profiler_service.kinds import MATMUL
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepSpec, window_growth
from tests.plan.asking import curve_from, spec_above
from tests.synthetic import SyntheticDevice, smooth, stairs


@pytest.mark.parametrize("mode", ["race", "survey", "grid"])
def test_replaying_committed_batches_restores_the_planner(mode: Mode) -> None:
    spec = spec_above((640, 320), mode, seed=5)
    truth = stairs(spec.grid, 8)
    device = SyntheticDevice(truth, seed=1)
    planner = create_planner(spec)
    committed = []
    for _ in range(9):
        batch = planner.next_batch()
        assert batch is not None
        committed.append(device.measure(batch))
        planner.record(committed[-1])
    resumed = create_planner(spec)
    for samples in committed:
        assert resumed.next_batch() is not None
        resumed.record(samples)
    ours, theirs = planner.next_batch(), resumed.next_batch()
    assert ours is not None and theirs is not None
    np.testing.assert_array_equal(ours.point, theirs.point)
    np.testing.assert_array_equal(ours.round, theirs.round)
    assert planner.progress() == resumed.progress()


@pytest.mark.parametrize("mode", ["race", "survey", "grid"])
def test_a_window_of_one_point_answers_with_itself(mode: Mode) -> None:
    spec = SweepSpec(workload=MATMUL.describe(), mode=mode, grid=Grid.window((100,), (0,)))
    planner = create_planner(spec)
    SyntheticDevice(np.array([1e-4])).run(planner)
    answer = find_answer(curve_from(planner), (100,), prefer="fastest", growth=(32,))
    assert answer is not None and answer.lhp == (100,)


def test_a_race_stopped_early_claims_nothing() -> None:
    spec = spec_above((640, 320), "race")
    planner = create_planner(spec)
    device = SyntheticDevice(stairs(spec.grid, 16))
    # Twice to calibrate, once to probe, twice to narrow.
    for _ in range(5):
        batch = planner.next_batch()
        assert batch is not None
        planner.record(device.measure(batch))
    curve = curve_from(planner)
    assert curve.num_measured > 100
    assert curve.answers.target[0] == -1
    growth = window_growth((640, 320))
    assert find_answer(curve, (640, 320), prefer="fastest", growth=growth) is None


@pytest.mark.parametrize("cold_penalty", [1.0, 1.5])
def test_measured_points_are_those_with_a_latency(cold_penalty: float) -> None:
    """Also if a shape's first call, on which a race's probe spends some visits, is slow."""
    modes: tuple[Mode, ...] = ("race", "survey", "grid")
    for mode in modes:
        spec = spec_above((130, 140), mode)
        device = SyntheticDevice(smooth(spec.grid), noise=0.005, cold_penalty=cold_penalty)
        planner = create_planner(spec)
        device.run(planner)
        curve = curve_from(planner)
        measured = curve.num_samples > 0
        assert np.isfinite(curve.latency_s[measured]).all()
        assert np.isnan(curve.latency_s[~measured]).all()
        assert ((curve.status == PointStatus.UNMEASURED) == ~measured).all()


def test_progress_never_falls_and_ends_at_one() -> None:
    modes: tuple[Mode, ...] = ("race", "survey", "grid")
    for mode in modes:
        spec = spec_above((130, 140), mode)
        device = SyntheticDevice(smooth(spec.grid), noise=0.005)
        planner = create_planner(spec)
        fractions = []
        while (batch := planner.next_batch()) is not None:
            planner.record(device.measure(batch))
            fractions.append(planner.progress().fraction)
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
        assert planner.progress().seconds == pytest.approx(device.clock_s)
