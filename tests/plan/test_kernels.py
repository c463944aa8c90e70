"""The search for crossovers on synthetic devices with known ones."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from profiler_service.analysis.crossover import Crossover, KernelRounds, find_crossover
from profiler_service.analysis.curve import PointStatus
from profiler_service.analysis.samples import Samples
from profiler_service.errors import MeasurementFailedError
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR_KERNELS
from profiler_service.kinds.kernels import (
    ALL_KERNELS,
    DENSE_KERNELS,
    MAX_PERCENT,
    NUM_KERNELS,
    Kernel,
)
from profiler_service.plan.base import Planner
from profiler_service.plan.create import create_planner
from profiler_service.plan.kernels import KernelPlanner
from profiler_service.plan.spec import SweepSpec
from tests.synthetic import F64, PLATFORM, PROTOCOL, SyntheticDevice

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def spec(grid: Grid) -> SweepSpec:
    return SweepSpec(workload=LINEAR_KERNELS.describe(), mode="kernels", grid=grid)


def kernels(dense_s: tuple[float, float, float], full_s: float, fixed_s: float = 5e-6) -> F64:
    """Latencies of all kernels; the sparse one takes `fixed_s`, and `full_s` without zeros."""
    percent = np.arange(MAX_PERCENT, -1, -1)
    latency: F64 = np.r_[dense_s, fixed_s + full_s * (1 - percent / 100)]
    return latency


def search(device: SyntheticDevice) -> tuple[Planner, list[Samples]]:
    planner = create_planner(spec(ALL_KERNELS))
    batches = []
    while (batch := planner.next_batch()) is not None:
        batches.append(device.measure(batch))
        planner.record(batches[-1])
    # The first one or two calibrate.
    return planner, [each for each in batches if len(np.unique(each.point)) > 1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("dense_s", "full_s"),
    [((1000e-6, 350e-6, 380e-6), 2000e-6), ((20e-6, 27e-6, 50e-6), 60e-6)],
)
def test_crossovers_are_found_within_one_step_in_a_fraction_of_the_points(
    dense_s: tuple[float, float, float], full_s: float, seed: int
) -> None:
    truth = kernels(dense_s, full_s)
    device = SyntheticDevice(latency_s=truth, noise=0.03, seed=seed)
    planner, batches = search(device)
    rounds = KernelRounds(batches, NUM_KERNELS)
    for dense in range(3):
        # 5 µs + full · (1 − p) < dense: for 350 µs of 2,000 from 1 − 345/2000 = 82.75 % on.
        faster = [p for p in range(MAX_PERCENT + 1) if truth[Kernel("csr", p).point] < truth[dense]]
        found = find_crossover(rounds.compare_sparse(dense))
        assert found is not None and found.percent is not None and found.high is not None
        assert abs(found.percent - min(faster)) <= 1
        assert found.low <= min(faster) + 1 and found.high >= min(faster) - 1
    curve = planner.build_curve(PLATFORM, PROTOCOL, NOW)
    assert curve.num_measured <= 35


def test_a_sparse_kernel_that_never_wins() -> None:
    device = SyntheticDevice(latency_s=kernels((20e-6, 30e-6, 40e-6), 5e-3, fixed_s=100e-6))
    planner, batches = search(device)
    rounds = KernelRounds(batches, NUM_KERNELS)
    for dense in range(3):
        found = find_crossover(rounds.compare_sparse(dense))
        assert found is not None
        # 150 µs at 99 %, against 40 at best.
        assert (found.percent, found.low, found.high) == (None, 100, None)
    # Nothing is in doubt: the scan alone, 3 dense kernels and 12 sparsities.
    assert planner.build_curve(PLATFORM, PROTOCOL, NOW).num_measured == 15


def find_crossovers(device: SyntheticDevice) -> list[Crossover]:
    """The crossover with each dense kernel that a search on this device finds."""
    _, batches = search(device)
    rounds = KernelRounds(batches, NUM_KERNELS)
    found = [find_crossover(rounds.compare_sparse(dense)) for dense in range(3)]
    return [crossover for crossover in found if crossover is not None]


def test_equal_kernels_are_hardly_ever_declared_different_however_often_they_are_looked_at() -> (
    None
):
    """Every kernel takes 100 µs at every sparsity: a bound with any dense kernel is an error.

    All intervals of a search hold together in 95 % of searches. With an error of exactly 5 %, 9 or
    more of 60 searches have one with probability P(Bin(60, 0.05) >= 9) = 0.3 %.
    """
    wrong = 0
    for seed in range(60):
        device = SyntheticDevice(latency_s=np.full(NUM_KERNELS, 100e-6), seed=seed)
        found = find_crossovers(device)
        assert len(found) == 3
        wrong += any((each.low, each.high) != (0, None) for each in found)
    assert wrong < 9


@pytest.mark.parametrize(("ratio", "bounds"), [(0.97, (0, 0)), (1.03, (100, None))])
def test_a_difference_of_3_percent_is_found(ratio: float, bounds: tuple[int, int | None]) -> None:
    # The sparse kernel is 3 % faster (or slower) than all dense kernels, at every sparsity.
    for seed in range(10):
        latency_s = np.r_[np.full(3, 100e-6), np.full(MAX_PERCENT + 1, 100e-6 * ratio)]
        found = find_crossovers(SyntheticDevice(latency_s=latency_s, seed=seed))
        assert [(each.low, each.high) for each in found] == [bounds] * 3


def test_dense_kernels_alone_are_compared_with_their_best() -> None:
    device = SyntheticDevice(latency_s=np.array([120e-6, 90e-6]), noise=0.02)
    planner = create_planner(spec(DENSE_KERNELS))
    device.run(planner)
    curve = planner.build_curve(PLATFORM, PROTOCOL, NOW)
    assert (curve.num_samples >= 60).all()
    # `dense` is surely beaten by `packed`, by 120/90 = 1.33 or so.
    best = int(curve.answers.target[0])
    assert best == 1
    assert curve.answers.target[best] == best
    assert 1 / curve.answers.ratio[0] == pytest.approx(1.33, rel=0.03)
    assert curve.answers.ratio_low[0] < curve.answers.ratio[0] < curve.answers.ratio_high[0] < 1
    assert (curve.status == PointStatus.UNDECIDED).all()


@pytest.mark.parametrize("seed", range(6))
def test_dear_kernels_meet_a_few_times(seed: int) -> None:
    # Calls of 100 and 90 ms. 2 visits with a warm-up each calibrate; 9 rounds of 2 follow.
    device = SyntheticDevice(
        latency_s=np.array([100e-3, 90e-3]), noise=0.01, spikes=0, drift=0, seed=seed
    )
    planner = create_planner(spec(DENSE_KERNELS))
    device.run(planner)
    curve = planner.build_curve(PLATFORM, PROTOCOL, NOW)
    # A warm-up call and a timed one at each visit: 2 · (2 + 9 · 2).
    assert curve.evidence.calls == 40
    assert curve.num_samples.tolist() == [9, 9]
    # 100/90 = 1.11
    assert curve.answers.target.tolist() == [1, 1]
    assert 1 / curve.answers.ratio[0] == pytest.approx(1.11, rel=0.03)


def test_every_visit_of_dear_kernels_has_one_untimed_call_as_in_other_modes() -> None:
    device = SyntheticDevice(latency_s=np.array([100e-3, 90e-3]))
    planner = create_planner(spec(DENSE_KERNELS))
    warmups = set()
    while (batch := planner.next_batch()) is not None:
        warmups.add(batch.warmup_calls)
        planner.record(device.measure(batch))
    assert warmups == {1}


def test_dear_kernels_as_fast_as_each_other_claim_nothing() -> None:
    # All of 6 pairs must agree, by chance once in 32 comparisons on one side or the other; and by
    # 2 % each, which makes it rarer still.
    claims = 0
    for seed in range(100):
        device = SyntheticDevice(latency_s=np.array([100e-3, 100e-3]), seed=seed)
        planner = create_planner(spec(DENSE_KERNELS))
        device.run(planner)
        curve = planner.build_curve(PLATFORM, PROTOCOL, NOW)
        claims += curve.answers.target.tolist() != [0, 1]
    # Of 100/32 = 3.1 only those in which the chosen one is ahead: half. 8 or more of so few have a
    # chance below 0.1 %.
    assert claims < 8


def test_a_small_gain_of_a_dear_kernel_is_not_claimed() -> None:
    # 1 % is plain to see without noise, but another process may differ by that much.
    device = SyntheticDevice(latency_s=np.array([0.1, 0.099]), noise=1e-5, spikes=0, drift=0)
    planner = create_planner(spec(DENSE_KERNELS))
    device.run(planner)
    curve = planner.build_curve(PLATFORM, PROTOCOL, NOW)
    assert curve.answers.ratio_high[0] < 0.991
    assert curve.answers.target.tolist() == [0, 1]


def test_dear_kernels_meet_for_half_a_second_where_more_fits_in() -> None:
    # 2 visits of 2 calls of 5 ms a round: half a second holds 25 rounds, or 22 and the
    # calibration's 6 visits. Rounds come three at a time, so there are 24.
    device = SyntheticDevice(latency_s=np.array([5e-3, 5e-3]))
    planner = create_planner(spec(DENSE_KERNELS))
    device.run(planner)
    rounds = planner.build_curve(PLATFORM, PROTOCOL, NOW).evidence.rounds
    assert rounds is not None
    assert 21 <= rounds <= 24
    assert device.clock_s == pytest.approx(KernelPlanner.COMPARING_S, rel=0.15)


def test_kernels_that_fail_are_left_out() -> None:
    truth = kernels((1000e-6, 350e-6, 380e-6), 2000e-6)
    # Neither packed nor compiled; and the sparse one not at 48 %, beside the crossover at 50.25 %.
    failing = frozenset({1, 2, Kernel("csr", 50).point, Kernel("csr", 48).point})
    planner, batches = search(SyntheticDevice(latency_s=truth, failing=failing))
    rounds = KernelRounds(batches, NUM_KERNELS)
    assert rounds.dense_points() == [0]
    found = find_crossover(rounds.compare_sparse(0))
    # 5 + 2000 · (1 − p) < 1000 from 50.25 % on.
    assert found is not None and found.percent in (50, 51, 52)
    curve = planner.build_curve(PLATFORM, PROTOCOL, NOW)
    assert {1, 2} <= set(curve.failures) <= failing
    assert curve.answers.target[1] == -1


def test_without_a_dense_kernel_there_is_nothing_to_compare() -> None:
    planner = create_planner(spec(ALL_KERNELS))
    SyntheticDevice(latency_s=kernels((1e-3, 1e-3, 1e-3), 2e-3), failing=frozenset({0, 1, 2})).run(
        planner
    )
    with pytest.raises(MeasurementFailedError, match="synthetic failure"):
        planner.build_curve(PLATFORM, PROTOCOL, NOW)


def test_replaying_the_samples_restores_the_plan() -> None:
    device = SyntheticDevice(latency_s=kernels((1000e-6, 350e-6, 380e-6), 2000e-6), seed=5)
    first, second = create_planner(spec(ALL_KERNELS)), create_planner(spec(ALL_KERNELS))
    while (batch := first.next_batch()) is not None:
        again = second.next_batch()
        assert again is not None
        np.testing.assert_array_equal(batch.point, again.point)
        samples = device.measure(batch)
        first.record(samples)
        second.record(samples)
    assert second.next_batch() is None
