"""Warm-ups: which visits begin with an untimed call."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.analysis.samples import Samples
from profiler_service.plan.create import create_planner
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.warmup import WarmupRule, second_over_first
from tests.plan.asking import curve_from, spec_above
from tests.synthetic import SyntheticDevice, stairs


def test_slow_first_calls_are_warmed_up() -> None:
    """First calls half as slow again must not decide who is fast."""
    spec = spec_above((401, 401), "race")
    truth = stairs(spec.grid, 16, 0.1)
    for cold_penalty, warmups in ((1.0, {0, 1}), (1.5, {1})):
        device = SyntheticDevice(truth, cold_penalty=cold_penalty)
        planner = create_planner(spec)
        seen = []
        while (batch := planner.next_batch()) is not None:
            seen.append(batch.warmup_calls)
            planner.record(device.measure(batch))
        # Twice to calibrate, once to probe without; then as the probe said.
        assert set(seen[3:]) == warmups
        curve = curve_from(planner)
        assert spec.grid.dims(int(curve.answers.target[0])) == (416, 416)


@pytest.mark.parametrize(
    ("call_s", "narrow_calls", "contest_calls", "wants_probe"),
    [
        (4e-5, 1, 1, False),  # tiny
        (1e-4, 0, 1, True),
        (3e-4, 0, 0, True),  # uses more memory than the inner caches hold
        (3e-3, 0, 0, False),  # dear
    ],
)
def test_warm_ups_follow_from_how_long_calls_take(
    call_s: float, narrow_calls: int, contest_calls: int, wants_probe: bool
) -> None:
    rule = WarmupRule(RACE.warmup, call_s)
    assert (rule.narrow_calls, rule.contest_calls) == (narrow_calls, contest_calls)
    assert rule.wants_probe == wants_probe


@pytest.mark.parametrize(
    ("log_ratios", "warmup_calls"),
    [
        ([-0.10] * 12, 1),  # the first call is 10 % slower, more than 8 %
        ([-0.05] * 12, 0),
        ([0.10] * 12, 0),  # the second is slower: no warm-up would help
        # ± a have a noise of 1.48 a / √2 = 1.047 a a call: 4.2 % against twice 2.5 %, then 6.3 %.
        ([-0.04, 0.04] * 6, 0),
        ([-0.06, 0.06] * 6, 1),
        ([], 0),
    ],
)
def test_a_probe_decides_by_slow_or_noisy_first_calls(
    log_ratios: list[float], warmup_calls: int
) -> None:
    rule = WarmupRule(RACE.warmup, 3e-4)
    rule.update(np.array(log_ratios), noise=0.025)
    # Who needs a warm-up while narrowing needs one in the contest.
    assert (rule.narrow_calls, rule.contest_calls) == (warmup_calls, warmup_calls)


def test_second_calls_are_compared_with_first_ones_of_the_same_point() -> None:
    """Point 4: 1 ms after 2 ms. Point 5 failed the second time, point 6 the first time."""
    samples = Samples(
        point=np.array([5, 4, 4, 6], dtype=np.int32),
        round=np.array([1, 1, 2, 2], dtype=np.int32),
        time_s=np.zeros(4, dtype=np.float32),
        latency_s=np.array([9e-3, 2e-3, 1e-3, 9e-3]),
        calls=1,
        unstable=np.zeros(4, dtype=bool),
    )
    assert np.exp(second_over_first(samples, 1)) == pytest.approx([0.5])
