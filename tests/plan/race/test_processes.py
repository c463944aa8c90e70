"""Which measuring processes choose the points of a race, and which judge them."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.analysis.samples import Samples
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.race.standing import count_choices, find_child_levels
from profiler_service.plan.spec import SweepSpec, window_growth
from tests.synthetic import PLATFORM, PROTOCOL, SyntheticDevice, stairs

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DIMS = (197, 131)
GRID = Grid.window(DIMS, window_growth(DIMS))


def race(num_children: int) -> tuple[ConfirmedPair, dict[int, set[int]]]:
    """The answer of a race on so many processes, and the points that each of them visited."""
    planner = RacePlanner(SweepSpec(workload=LINEAR.describe(), mode="race", grid=GRID, seed=1))
    device = SyntheticDevice(stairs(GRID, 16), noise=0.01, num_children=num_children)
    visited: dict[int, set[int]] = {number: set() for number in range(num_children)}
    while (batch := planner.next_batch()) is not None:
        samples = device.measure(batch)
        visited[samples.child] |= {*samples.point.tolist()}
        planner.record(samples)
    curve = planner.build_curve(PLATFORM, PROTOCOL, NOW)
    answer = min(curve.confirmed, key=lambda pair: pair.ratio)
    return answer, visited


@pytest.mark.parametrize("num_children", [2, 4])
def test_an_odd_process_judges_what_the_even_ones_chose(num_children: int) -> None:
    answer, visited = race(num_children)
    # The queried point and four finalists, in one pass or in several.
    for number, points in visited.items():
        assert (len(points) <= 1 + 3 * 4) == bool(number % 2)
    assert answer.num_children == num_children // 2


def test_an_answer_is_less_sure_if_its_judges_chose_it() -> None:
    """One process chooses from some hundred points, which its interval must allow for.

    With three passes and four finalists, 2.5 % / 12 are left of the error: 2.87 in place of 1.96.
    With 3 · 100 points it is 3.76.
    """
    alone, _ = race(1)
    apart, _ = race(2)
    assert apart.tau is not None and alone.tau is not None
    assert apart.tau <= 0.003 * 2.87 / 1.96
    assert alone.tau > 0.003 * 3.76 / 1.96


def test_batches_of_the_contest_and_the_final_last_three_hundredths_of_a_second() -> None:
    """Calls take 0.5 ms, so a visit takes 1 ms. The largest rounds have 25 points.

    A batch has as many rounds as fit into 0.03 s, and one at least. Latencies grow by a third in
    this window, and the time of a visit is known to a few percent.
    """
    truth = 5e-4 * stairs(GRID, 16) / stairs(GRID, 16).mean()
    took_s = []
    for seed in (1, 2, 3):
        spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=GRID, seed=seed)
        planner, device = RacePlanner(spec), SyntheticDevice(truth, noise=0.01)
        while (batch := planner.next_batch()) is not None:
            measured = device.measure(batch)
            if batch.child:
                took_s.append(measured.seconds)
            planner.record(measured)
    assert len(took_s) > 20
    assert max(took_s) < 1.4 * 0.03
    assert np.median(took_s) > 0.6 * 0.03


def samples(*points: int, child: int, latency_s: float = 1e-3) -> Samples:
    """One round of these points."""
    number = len(points)
    return Samples(
        point=np.array(points, dtype=np.int32),
        round=np.zeros(number, dtype=np.int32),
        time_s=np.arange(number, dtype=np.float32),
        latency_s=np.full(number, latency_s),
        calls=1,
        unstable=np.zeros(number, dtype=np.bool_),
        child=child,
    )


def test_choices_are_the_points_that_the_same_processes_visited() -> None:
    earlier = [samples(1, 2, 3, child=0), samples(3, 4, child=1), samples(9, child=2)]
    assert count_choices(earlier, [samples(0, 3, child=3)]) == 2  # 0 and 3
    assert count_choices(earlier, [samples(0, 3, child=0)]) == 4  # 0, 1, 2 and 3
    assert count_choices(earlier, [samples(0, 3, child=0), samples(0, 3, child=1)]) == 5


def test_processes_are_compared_at_the_points_that_all_of_them_visited() -> None:
    rounds = [replace(samples(1, 2, 3, 5, child=0), round=np.arange(4, dtype=np.int32) // 2)]
    rounds.append(samples(2, 3, 4, 5, child=1))
    # Only process 0 visited 1, only process 1 visited 4, and nobody visited 7.
    points = np.array([7, 5, 4, 3, 2, 1], dtype=np.int32)
    found = find_child_levels(rounds, points)
    assert found is not None and found.level.shape == (2, 3)
    assert find_child_levels(rounds, points[:2]) is None
    assert find_child_levels(rounds[:1], np.array([1, 2], dtype=np.int32)) is None
