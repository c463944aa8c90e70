"""Warm-ups: which visits begin with an untimed call."""

from __future__ import annotations

from profiler_service.plan.create import create_planner
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
