"""Replay: what was kept restores a planner, and what is foreign is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from profiler_service.analysis.samples import Samples
from profiler_service.errors import ReplayError
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.base import Batch
from profiler_service.plan.create import create_planner
from profiler_service.plan.replay import fits, replay
from profiler_service.plan.spec import SweepSpec
from tests.synthetic import SyntheticDevice, stairs

GRID = Grid.window((401, 401), (50, 50))
SPEC = SweepSpec(workload=LINEAR.describe(), mode="race", grid=GRID, seed=3)


def first_batches(count: int) -> list[Samples]:
    planner, device = create_planner(SPEC), SyntheticDevice(stairs(GRID, 16, 0.1))
    kept = []
    for _ in range(count):
        batch = planner.next_batch()
        assert batch is not None
        kept.append(device.measure(batch))
        planner.record(kept[-1])
    return kept


def samples_of(batch: Batch, *, failing: tuple[int, ...] = ()) -> Samples:
    return SyntheticDevice(np.full(GRID.size, 1e-3), failing=frozenset(failing)).measure(batch)


BATCH = Batch(
    point=np.array([0, 5, 7, 0], dtype=np.int32), round=np.array([1, 1, 2, 2], dtype=np.int32)
)


def test_kept_batches_restore_a_planner() -> None:
    kept = first_batches(5)
    planner = create_planner(SPEC)
    replay(planner, kept)
    assert planner.progress().num_samples == sum(map(len, kept))
    # It goes on as the planner does that saw the sixth batch asked for.
    sixth = planner.next_batch()
    assert sixth is not None and fits(first_batches(6)[5], sixth)


def test_nothing_kept_leaves_a_planner_as_it_is() -> None:
    planner = create_planner(SPEC)
    replay(planner, [])
    assert planner.progress().num_samples == 0


def test_the_first_foreign_batch_is_named() -> None:
    kept = first_batches(3)
    kept[2] = dataclasses.replace(kept[2], point=kept[2].point + 1)
    planner = create_planner(SPEC)
    with pytest.raises(ReplayError, match="batch 2 was measured by another version"):
        replay(planner, kept)
    assert planner.progress().num_samples == len(kept[0]) + len(kept[1])


def test_more_batches_than_the_plan_has_are_foreign() -> None:
    # One point: warming up is all there is to do.
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=Grid.window((9, 9), (0, 0)))
    planner, device = create_planner(spec), SyntheticDevice(np.full(1, 1e-3))
    kept = []
    while (batch := planner.next_batch()) is not None:
        kept.append(device.measure(batch))
        planner.record(kept[-1])
    replay(create_planner(spec), kept)
    with pytest.raises(ReplayError):
        replay(create_planner(spec), [*kept, kept[-1]])


def test_samples_fit_the_batch_they_are_of() -> None:
    assert fits(samples_of(BATCH), BATCH)


def test_visits_of_failed_points_are_missing_and_yet_it_fits() -> None:
    samples = samples_of(BATCH, failing=(5,))
    assert samples.point.tolist() == [0, 7, 0]
    assert fits(samples, BATCH)
    assert not fits(dataclasses.replace(samples, failures={}), BATCH)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: dataclasses.replace(s, point=s.point[::-1].copy()),
        lambda s: dataclasses.replace(s, round=s.round + 1),
        lambda s: dataclasses.replace(s, calls=2),
    ],
    ids=["other order", "other rounds", "other calls"],
)
def test_other_visits_dont_fit(change: Callable[[Samples], Samples]) -> None:
    # 0, 5, 7, 0 backwards is 0, 7, 5, 0: the same points, in another order.
    assert not fits(change(samples_of(BATCH)), BATCH)
