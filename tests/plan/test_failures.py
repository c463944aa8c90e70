"""Points that fail, from the start or later, in every planner."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.analysis.curve import PointStatus
from profiler_service.analysis.lhp import find_answer
from profiler_service.errors import MeasurementFailedError
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import window_growth
from tests.plan.asking import curve_from, spec_above
from tests.synthetic import SyntheticDevice, smooth, stairs


def test_failed_points_are_left_out_and_named() -> None:
    spec = spec_above((100,), "race")
    truth = np.full(33, 1e-4)
    truth[12], truth[20] = 0.5e-4, 0.9e-4
    planner = create_planner(spec)
    SyntheticDevice(truth, failing=frozenset({12})).run(planner)
    curve = curve_from(planner)
    assert curve.failures == {12: "synthetic failure"}
    assert curve.answers.target[0] == 20
    assert np.isnan(curve.latency_s[12])


@pytest.mark.parametrize("mode", ["race", "survey", "grid"])
def test_a_window_whose_points_all_fail_raises_the_reason(mode: Mode) -> None:
    spec = spec_above((100,), mode)
    planner = create_planner(spec)
    SyntheticDevice(np.full(33, 1e-4), failing=frozenset(range(33))).run(planner)
    with pytest.raises(MeasurementFailedError, match="synthetic failure"):
        curve_from(planner)


@pytest.mark.parametrize("mode", ["race", "survey"])
def test_where_everything_larger_fails_the_answer_is_the_point_itself(mode: Mode) -> None:
    for dims in ((100,), (400, 400)):
        spec = spec_above(dims, mode)
        failing = frozenset(range(1, spec.grid.size))
        planner = create_planner(spec)
        SyntheticDevice(smooth(spec.grid), failing=failing).run(planner)
        curve = curve_from(planner)
        answer = find_answer(curve, dims, prefer="fastest", growth=window_growth(dims))
        assert answer is not None and (answer.lhp, answer.verdict) == (dims, "ambiguous")
        assert 0 < len(curve.failures) <= len(failing)


@pytest.mark.parametrize("after", range(1, 9))
def test_a_queried_point_that_fails_in_mid_race_ends_it_with_the_reason(after: int) -> None:
    spec = spec_above((400, 400), "race")
    device = SyntheticDevice(stairs(spec.grid, 16))
    planner = create_planner(spec)
    for _ in range(after):
        batch = planner.next_batch()
        assert batch is not None
        planner.record(device.measure(batch))
    device.failing = frozenset({0})
    device.run(planner)
    with pytest.raises(MeasurementFailedError, match="synthetic failure"):
        curve_from(planner)


def test_nobody_is_sent_to_a_point_that_failed_after_many_samples() -> None:
    spec = spec_above((100,), "grid")
    truth = np.full(33, 1e-4)
    truth[20] = 0.5e-4
    planner = create_planner(spec)
    device = SyntheticDevice(truth, noise=0.02)
    for _ in range(4):
        batch = planner.next_batch()
        assert batch is not None
        planner.record(device.measure(batch))
    assert curve_from(planner).answers.target[0] == 20
    device.failing = frozenset({20, 16})  # the anchor, too
    device.run(planner)
    curve = curve_from(planner)
    assert set(curve.failures) == {16, 20}
    assert 20 not in curve.answers.target and curve.status[20] == PointStatus.UNMEASURED
    assert curve.num_samples[[16, 20]].tolist() == [0, 0]


def test_a_failing_queried_point_has_no_answer() -> None:
    planner = create_planner(spec_above((100,), "race"))
    SyntheticDevice(np.full(33, 1e-4), failing=frozenset({0})).run(planner)
    with pytest.raises(MeasurementFailedError, match="synthetic failure"):
        curve_from(planner)


def test_a_failing_anchor_is_replaced() -> None:
    spec = spec_above((100,), "grid")
    planner = create_planner(spec)
    SyntheticDevice(smooth(spec.grid), noise=0.001, failing=frozenset({16})).run(planner)
    curve = curve_from(planner)
    assert curve.num_measured == 32
    assert list(curve.failures) == [16]
