"""A race between two points: what an idle worker confirms again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.plan.create import create_planner
from profiler_service.plan.spec import SweepSpec
from tests.plan.asking import curve_from
from tests.synthetic import SyntheticDevice


@pytest.mark.parametrize(("larger", "num_points"), [((1200, 320), 4), ((1200, 317), 2)])
@pytest.mark.parametrize("ratio", [0.97, 1.05])
def test_a_race_between_two_points_confirms_their_pair(
    larger: tuple[int, int], num_points: int, ratio: float
) -> None:
    grid = Grid.pair((1197, 317), larger)
    assert (grid.size, grid.num_candidates) == (num_points, 2)
    # The points beside them would be the fastest, and aren't measured.
    truth = np.full(num_points, 0.5e-3)
    truth[0], truth[-1] = 1e-3, ratio * 1e-3
    planner = create_planner(SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid))
    SyntheticDevice(truth, noise=0.01).run(planner)
    curve = curve_from(planner)
    [pair] = curve.confirmed
    assert (pair.dims, pair.rival) == ((1197, 317), larger)
    assert pair.verdict == ("faster" if ratio < 1 else "slower")
    assert pair.low < ratio < pair.high
    # What its noise explains is a part of the interval.
    assert pair.noise is not None
    assert 0 < pair.noise < math.log(pair.high / pair.low) / 2
    assert np.flatnonzero(curve.num_samples).tolist() == [0, num_points - 1]


def test_a_settled_race_neednt_know_that_a_rival_is_slower() -> None:
    """A rival that is 2 % slower surely isn't 1 % faster long before it surely is slower."""
    grid, verdicts = Grid.pair((1200,), (1208,)), set()
    for seed in range(8):
        spec = SweepSpec(workload=MATMUL.describe(), mode="race", grid=grid, seed=seed)
        planner = create_planner(spec)
        SyntheticDevice(np.array([1e-3, 1.02e-3]), noise=0.01, seed=seed).run(planner)
        curve = curve_from(planner)
        [pair] = curve.confirmed
        assert curve.evidence.settled is True
        assert curve.answers.target[0] == 0
        assert pair.low >= 0.99
        verdicts.add(pair.verdict)
    assert verdicts == {"slower", "ambiguous"}
