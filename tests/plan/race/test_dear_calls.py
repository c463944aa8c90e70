"""Races of calls that last long: few visits, each as cheap as it can be."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.base import Batch
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.spec import SweepSpec
from tests.plan.asking import NOW
from tests.synthetic import PLATFORM, PROTOCOL, SyntheticDevice, smooth

GRID = Grid.window((401, 401), (47, 47))


def race(call_s: float, seed: int) -> tuple[RacePlanner, list[Batch]]:
    """A race with 5 % of the time of calling each point once, where 416 and 432 are 8 % faster."""
    grown = smooth(GRID) / smooth(GRID)[0]
    truth = call_s * grown**0.3 * np.where(GRID.all_dims()[:, 0] % 16 == 0, 0.92, 1.0)
    budget_s = 0.05 * float(truth.sum())
    spec = SweepSpec(
        workload=LINEAR.describe(), mode="race", grid=GRID, seed=seed, budget_s=budget_s
    )
    planner, device = RacePlanner(spec), SyntheticDevice(truth, noise=0.01, drift=0.0, seed=seed)
    batches = []
    while (batch := planner.next_batch()) is not None:
        batches.append(batch)
        planner.record(device.measure(batch))
    return planner, batches


@pytest.mark.parametrize(("call_s", "warms_once"), [(0.02, True), (0.005, False)])
def test_long_calls_are_warmed_up_once_in_a_process(call_s: float, warms_once: bool) -> None:
    _, batches = race(call_s, 0)
    calibration = [batch for batch in batches if not batch.round.any()]
    assert not any(batch.warms_once for batch in calibration)
    assert all(batch.warms_once == warms_once for batch in batches[len(calibration) :])


def test_only_the_calls_that_are_made_are_counted() -> None:
    planner, batches = race(0.02, 0)
    expected, warm = 0, set[tuple[int, int]]()
    for batch in batches:
        for point in batch.point.tolist():
            # One timed call, and an untimed one if the process hasn't visited the point.
            expected += 1 + (not batch.warms_once or (batch.child % 4, point) not in warm)
            warm.add((batch.child % 4, point))
    curve = planner.build_curve(PLATFORM, PROTOCOL, NOW)
    assert curve.evidence.calls == expected


def test_what_multiples_gain_is_found_with_a_twentieth_of_the_calls() -> None:
    """8 % of gain less some growth: each of ten answers is a multiple of 16, but two at most."""
    found = 0
    for seed in range(10):
        planner, _ = race(0.02, seed)
        curve = planner.build_curve(PLATFORM, PROTOCOL, NOW)
        found += GRID.dims(int(curve.answers.target[0]))[0] % 16 == 0
    assert found >= 8


def test_a_final_has_so_many_rounds_that_intervals_are_closed() -> None:
    """With three finalists, 11 rounds ruled nothing out: at 99.9 % it takes more than 11."""
    for seed in range(10):
        planner, _ = race(0.02, seed)
        for final, judgement in planner._finals:
            assert final.num_rounds >= 12
            for each in judgement.comparisons.values():
                assert each.low > 0
                assert each.high < np.inf
