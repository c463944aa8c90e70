"""Batches of samples, on every database that the store runs on."""

from __future__ import annotations

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.samples import Samples
from profiler_service.errors import ConflictError
from profiler_service.plan.spec import Progress, SweepState
from profiler_service.storage.store import Store, Sweep
from tests.storage.examples import PROGRESS, create_curve, create_samples


def assert_same_samples(found: Samples, given: Samples) -> None:
    for name in ("point", "round", "time_s", "latency_s", "unstable"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name), strict=True)
    assert found.calls == given.calls
    assert found.num_discarded == given.num_discarded
    assert found.failures == given.failures
    assert found.seconds == given.seconds


def test_committed_samples_come_back_bit_for_bit(store: Store, sweep: Sweep) -> None:
    given = [create_samples(10_000, seed=1), create_samples(0), create_samples(1, seed=2)]
    later = Progress(fraction=0.5, stage="round 1 of 2", num_samples=10_001, seconds=2.0)
    # out of order: index decides, not time
    assert store.commit_batch(sweep.id, 2, given[2], PROGRESS)
    assert store.commit_batch(sweep.id, 0, given[0], PROGRESS)
    assert store.commit_batch(sweep.id, 1, given[1], later)
    found = store.load_batches(sweep.id)
    assert len(found) == 3
    for mine, theirs in zip(found, given, strict=True):
        assert_same_samples(mine, theirs)
    assert store.get_sweep(sweep.id).progress == later


def test_lost_times_come_back_and_are_missing_where_none_were_recorded(
    store: Store, sweep: Sweep
) -> None:
    lost_s = np.array([0, np.nan, 2e-6], dtype=np.float32)
    given = [replace(create_samples(3), lost_s=lost_s), create_samples(3)]
    for number, samples in enumerate(given):
        store.commit_batch(sweep.id, number, samples, PROGRESS)
    found, without = store.load_batches(sweep.id)
    np.testing.assert_array_equal(found.lost_s, lost_s, strict=True)
    assert without.lost_s is None


def test_clocks_come_back_and_are_missing_where_none_were_recorded(
    store: Store, sweep: Sweep
) -> None:
    clock_hz = np.array([1.98e9, np.nan, 1.41e9], dtype=np.float32)
    given = [replace(create_samples(3), clock_hz=clock_hz), create_samples(3)]
    for number, samples in enumerate(given):
        store.commit_batch(sweep.id, number, samples, PROGRESS)
    found, without = store.load_batches(sweep.id)
    np.testing.assert_array_equal(found.clock_hz, clock_hz, strict=True)
    assert without.clock_hz is None


def test_sweep_without_batches_loads_none(store: Store, sweep: Sweep) -> None:
    assert store.load_batches(sweep.id) == []


def test_sweep_was_last_measured_when_its_newest_batch_was_kept(store: Store, sweep: Sweep) -> None:
    assert store.last_measured_at(sweep.id) == sweep.created_at
    store.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
    before = dt.datetime.now(dt.UTC)
    store.commit_batch(sweep.id, 1, create_samples(), PROGRESS)
    after = dt.datetime.now(dt.UTC)
    last = store.last_measured_at(sweep.id)
    assert before <= last <= after
    assert last.utcoffset() == dt.timedelta(0)
    # Neither a batch that is kept already nor the end of the sweep is a measurement.
    assert not store.commit_batch(sweep.id, 1, create_samples(), PROGRESS)
    store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    assert store.last_measured_at(sweep.id) == last


def test_batch_is_kept_once(store: Store, sweep: Sweep) -> None:
    first = create_samples(seed=1)
    assert store.commit_batch(sweep.id, 0, first, PROGRESS)
    later = replace(PROGRESS, fraction=0.9)
    assert not store.commit_batch(sweep.id, 0, create_samples(seed=2), later)
    (found,) = store.load_batches(sweep.id)
    assert_same_samples(found, first)
    assert store.get_sweep(sweep.id).progress == PROGRESS


def test_numpy_numbers_are_kept_as_numbers(store: Store, sweep: Sweep) -> None:
    samples = replace(
        create_samples(),
        calls=np.int64(5),  # type: ignore[arg-type]
        num_discarded=np.int32(2),  # type: ignore[arg-type]
        seconds=np.float64(1.5),
        failures={np.int32(7): "out of memory"},  # type: ignore[dict-item]
    )
    progress = Progress(
        fraction=np.float64(0.25),
        stage="screening",
        num_samples=np.int64(3),  # type: ignore[arg-type]
        seconds=np.float32(0.5),  # type: ignore[arg-type]
    )
    assert store.commit_batch(sweep.id, 0, samples, progress)
    (found,) = store.load_batches(sweep.id)
    assert_same_samples(found, create_samples())
    assert store.get_sweep(sweep.id).progress == PROGRESS


def test_ended_sweep_takes_no_new_batch(store: Store, sweep: Sweep) -> None:
    store.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
    store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    assert not store.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
    with pytest.raises(ConflictError):
        store.commit_batch(sweep.id, 1, create_samples(), PROGRESS)
    assert len(store.load_batches(sweep.id)) == 1


def test_each_thread_commits_or_finds_the_batch_kept(store: Store, sweep: Sweep) -> None:
    threads, numbers = 6, 10
    barrier = threading.Barrier(threads)

    def commit(seed: int) -> list[bool]:
        samples = create_samples(seed=seed)
        barrier.wait()
        kept = []
        for number in range(numbers):
            kept.append(store.commit_batch(sweep.id, number, samples, PROGRESS))
            store.get_sweep(sweep.id)
        return kept

    with ThreadPoolExecutor(threads) as pool:
        kept = list(pool.map(commit, range(threads)))
    assert [sum(column) for column in zip(*kept, strict=True)] == [1] * numbers
