"""Which visits of a sweep a model learns from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.samples import Samples
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from profiler_service.latency_model.first_visits import FirstVisits, find_first_visits
from profiler_service.latency_model.settings import LearningSettings
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepSpec
from tests.synthetic import SyntheticDevice, smooth

GRID = Grid.window((10,), (9,))


def samples(*points: int, latency_s: float = 1e-5, unstable: tuple[int, ...] = ()) -> Samples:
    """Visits of these points; the positions in `unstable` were disturbed. Latencies differ."""
    count = len(points)
    return Samples(
        point=np.array(points, dtype=np.int32),
        round=np.zeros(count, dtype=np.int32),  # a grid's first round has the number 0, too
        time_s=np.arange(count, dtype=np.float32),
        latency_s=latency_s * np.arange(1.0, count + 1),
        calls=1,
        unstable=np.isin(np.arange(count), unstable),
    )


def found_in(*batches: Samples, grid: Grid = GRID) -> list[tuple[int, float]]:
    """Each visit's dim, and its latency in µs."""
    visits = find_first_visits(batches, grid)
    return [
        (int(dims[0]), round(float(np.exp(log)) * 1e6, 6))
        for dims, log in zip(visits.points, visits.log_latency, strict=True)
    ]


def pairs_of(visits: FirstVisits) -> set[tuple[int, int]]:
    return set(zip(visits.near.first.tolist(), visits.near.second.tolist(), strict=True))


def test_the_first_visit_of_each_point_counts_in_the_order_of_time() -> None:
    calibration = samples(0, 0, 0)
    first = samples(3, 1, 3, 2)
    second = samples(2, 5, 1, latency_s=1e-3)
    assert found_in(calibration, first, second) == [(13, 10), (11, 20), (12, 40), (15, 2000)]


def test_the_calibrated_point_is_left_out_and_no_other_of_round_0() -> None:
    """Its later visits are repeated ones. Calibrations of two batches occur, and empty ones."""
    calibration = [samples(), samples(4), samples(4, 4)]
    assert found_in(*calibration, samples(4, 1, 4, 2)) == [(11, 20), (12, 40)]


def test_points_whose_first_visit_was_disturbed_are_left_out() -> None:
    """Not replaced by their next visit: that one is warmer."""
    assert found_in(samples(0), samples(1, 2, 1, 2, 3, unstable=(1,))) == [(11, 10), (13, 50)]


@pytest.mark.parametrize("batches", [[], [samples()], [samples(0, 0)], [samples(0), samples(0)]])
def test_a_sweep_that_visited_one_point_or_none_has_no_visits(batches: list[Samples]) -> None:
    visits = find_first_visits(batches, GRID)
    assert len(visits) == 0
    assert visits.points.shape == (0, 1)
    assert pairs_of(visits) == set()


def test_neighbours_are_those_that_were_near_in_the_whole_batch() -> None:
    """Points 1 and 2 are visits 0 and 9: not near, though nothing new is between them.

    Point 3, visit 11, is near to point 2 only. The next batch's point has no neighbour.
    """
    batch = samples(1, *[1] * 8, 2, 1, 3)
    visits = find_first_visits([samples(0), batch, samples(4, 5)], GRID)
    assert visits.points[:, 0].tolist() == [11, 12, 13, 14, 15]
    assert pairs_of(visits) == {(1, 2), (3, 4)}


def test_dims_are_those_of_the_grid_also_of_one_with_second() -> None:
    grid = Grid(
        axes=(
            GridAxis(first=317, count=4, step=64, second=320),  # 317, 320, 384, 448
            GridAxis(first=50, count=3, step=10),
        )
    )
    points = [0, 3, 8, 11]  # row-major, 3 in a row: (0, 0), (1, 0), (2, 2), (3, 2)
    visits = find_first_visits([samples(1, 1), samples(*points)], grid)
    assert visits.points.tolist() == [[317, 50], [320, 50], [384, 70], [448, 70]]
    assert visits.points.dtype == np.int64


def test_of_a_large_curve_the_first_so_many_count() -> None:
    few = LearningSettings(most_visits=3)
    visits = find_first_visits([samples(0), samples(5, 4, 3, 2, 1)], GRID, few)
    assert visits.points[:, 0].tolist() == [15, 14, 13]


def prune(batches: list[Samples]) -> list[Samples]:
    """The first sample of each point, as `storage.retention` leaves them."""
    seen: set[int] = set()
    pruned = []
    for batch in batches:
        kept = np.zeros(len(batch), dtype=np.bool_)
        for number, point in enumerate(batch.point.tolist()):
            kept[number] = point not in seen
            seen.add(point)
        names = ("point", "round", "time_s", "latency_s", "unstable")
        pruned.append(replace(batch, **{name: getattr(batch, name)[kept] for name in names}))
    return pruned


@pytest.mark.parametrize("mode", ["grid", "race"])
def test_a_pruned_sweep_has_the_same_first_visits(mode: Mode) -> None:
    """Of real planners, with one sample in twenty disturbed."""
    grid = Grid.window((100,), (299,))
    planner = create_planner(SweepSpec(workload=MATMUL.describe(), mode=mode, grid=grid))
    device = SyntheticDevice(smooth(grid))
    rng = np.random.default_rng(0)
    batches: list[Samples] = []
    while (batch := planner.next_batch()) is not None and len(batches) < 40:
        measured = device.measure(batch)
        measured = replace(measured, unstable=rng.random(len(measured)) < 0.05)
        planner.record(measured)
        batches.append(measured)
    whole, pruned = find_first_visits(batches, grid), find_first_visits(prune(batches), grid)
    assert len(whole) > (250 if mode == "grid" else 30)
    np.testing.assert_array_equal(pruned.points, whole.points)
    np.testing.assert_array_equal(pruned.log_latency, whole.log_latency)
    # Visits seem nearer, so no pair is lost.
    assert pairs_of(whole) <= pairs_of(pruned)
