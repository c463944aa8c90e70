"""Latency models and the scores of their predictions, on every database the store runs on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from profiler_service.kinds import MATMUL
from profiler_service.latency_model.basis import Basis
from profiler_service.latency_model.statistics import Statistics
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepState
from profiler_service.storage.model_records import ModelKey, Unlearned
from profiler_service.storage.store import Host, Store
from tests.storage.examples import (
    PROGRESS,
    PROTOCOL,
    create_curve,
    create_platform,
    create_samples,
    create_spec,
)
from tests.storage.learned import KEY, KEY_TAIL, finish

VERSION = "1-abc"
SIZE = 6


def statistics_of(number: float, *, features: tuple[int, ...] = (1, 3, 4)) -> Statistics:
    """What a sweep of ten visits said of these features of six."""
    used = np.zeros(SIZE)
    used[list(features)] = number
    return Statistics(
        matrix=np.outer(used, used) + np.diag(used),
        right=used / 3,
        num_visits=10.0,
        num_sweeps=1.0,
        windows=np.array([[[8, 8 + int(number)]]]),
    )


def assert_same(found: Statistics | None, expected: Statistics) -> None:
    assert found is not None
    np.testing.assert_array_equal(found.matrix, expected.matrix)
    np.testing.assert_array_equal(found.right, expected.right)
    np.testing.assert_array_equal(found.windows, expected.windows)
    assert found.num_visits == expected.num_visits
    assert found.num_sweeps == expected.num_sweeps


def learn(
    store: Store, sweep_id: str, found: Statistics, *, key: ModelKey = KEY, version: str = VERSION
) -> bool:
    return store.learn(sweep_id, key, found, version=version)


def find(store: Store, *, key: ModelKey = KEY, version: str = VERSION) -> Statistics | None:
    model = store.find_model(key, version=version)
    return None if model is None else model.statistics


def unlearned(
    store: Store,
    *,
    version: str = VERSION,
    modes: tuple[Mode, ...] = ("grid", "race"),
    without: tuple[str, ...] = (),
) -> Unlearned | None:
    return store.find_unlearned("east", version=version, modes=modes, without=without)


def unlearned_id(store: Store, *, version: str = VERSION) -> str | None:
    found = unlearned(store, version=version)
    return None if found is None else found.sweep_id


# Learning.


def test_what_a_sweep_said_comes_back_bit_for_bit(store: Store, host: Host) -> None:
    """Features of which nothing is known are not stored, and are 0 again."""
    assert find(store) is None
    assert learn(store, finish(store), statistics_of(2.5))
    assert_same(find(store), statistics_of(2.5))
    model = store.find_model(KEY, version=VERSION)
    assert model is not None
    header = model.header
    assert (header.key, header.generation, header.spreads) == (KEY, 1, None)
    assert (header.num_visits, header.num_sweeps) == (10.0, 1.0)
    [other] = store.find_model_headers(
        "matmul", KEY.platform_key, KEY.protocol_key, version=VERSION
    )
    assert other == header


def test_a_model_of_the_real_size_comes_back(store: Store, host: Host) -> None:
    """All features of one axis, from all but a few: symmetric, with the largest and smallest."""
    size = Basis(1).size
    rng = np.random.default_rng(0)
    half = rng.standard_normal((size, size)) * 10.0 ** rng.integers(-9, 9, (size, 1))
    half[[5, 77]] = 0.0
    given = Statistics(
        matrix=half @ half.T,
        right=half @ rng.standard_normal(size),
        num_visits=1234.5,
        num_sweeps=17.25,
        windows=rng.integers(1, 4096, (512, 1, 2)),
    )
    given = replace(given, matrix=(given.matrix + given.matrix.T) / 2)
    learn(store, finish(store), given)
    assert_same(find(store), given)


def test_sweeps_add_up_and_earlier_ones_are_forgotten_a_little(store: Store, host: Host) -> None:
    first, second = statistics_of(2.0), statistics_of(3.0, features=(0, 4))
    learn(store, finish(store), first)
    learn(store, finish(store, start=50), second)
    assert_same(find(store), first.followed_by(second))
    [header] = store.find_model_headers("matmul", *KEY_TAIL, version=VERSION)
    assert header.generation == 2
    # Half as much after 400 further sweeps.
    assert header.num_sweeps == pytest.approx(1 + 0.5 ** (1 / 400))


def test_each_sweep_is_learned_once(store: Store, host: Host) -> None:
    sweep_id = finish(store)
    assert learn(store, sweep_id, statistics_of(2.0))
    assert not learn(store, sweep_id, statistics_of(2.0))
    assert_same(find(store), statistics_of(2.0))


def test_a_sweep_that_says_nothing_is_not_looked_at_again(store: Store, host: Host) -> None:
    sweep_id = finish(store)
    assert learn(store, sweep_id, Statistics.empty(SIZE, 1))
    assert find(store) is None
    assert unlearned(store) is None
    assert not learn(store, sweep_id, Statistics.empty(SIZE, 1))


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, workload=MATMUL.describe({"batch": 3})),
        replace(KEY, platform_key=create_platform(threads=2).key),
        replace(KEY, protocol_key="cuda_events-warm-v1"),
    ],
    ids=["workload", "platform", "protocol"],
)
def test_models_of_other_workloads_platforms_and_protocols_stay_apart(
    store: Store, host: Host, other: ModelKey
) -> None:
    store.register_host("west", create_platform(threads=2), protocol=PROTOCOL, dtypes=[])
    learn(store, finish(store), statistics_of(2.0))
    assert find(store, key=other) is None
    learn(store, finish(store, start=50), statistics_of(5.0), key=other)
    assert_same(find(store), statistics_of(2.0))
    assert_same(find(store, key=other), statistics_of(5.0))


def test_models_of_a_kind_are_listed_with_the_best_known_first(store: Store, host: Host) -> None:
    keys = [replace(KEY, workload=MATMUL.describe({"batch": batch})) for batch in (1, 2, 3)]
    for number, (key, visits) in enumerate(zip(keys, (10.0, 30.0, 20.0), strict=True)):
        found = replace(statistics_of(1.0), num_visits=visits)
        learn(store, finish(store, start=1 + 10 * number), found, key=key)
    listed = store.find_model_headers("matmul", *KEY_TAIL, version=VERSION)
    assert [header.key for header in listed] == [keys[1], keys[2], keys[0]]
    assert store.find_model_headers("linear", *KEY_TAIL, version=VERSION) == []
    assert store.find_model_headers("matmul", *KEY_TAIL, version="1-def") == []


def test_spreads_are_kept_with_the_model_that_they_were_learned_for(
    store: Store, host: Host
) -> None:
    def spreads() -> tuple[float, ...] | None:
        model = store.find_model(KEY, version=VERSION)
        return None if model is None else model.header.spreads

    store.keep_spreads(KEY, (0.1, 0.2), version=VERSION)  # there is no model
    assert find(store) is None
    learn(store, finish(store), statistics_of(2.0))
    store.keep_spreads(KEY, (0.9,), version="1-def")  # of another version's features
    assert spreads() is None
    store.keep_spreads(KEY, (0.1, 0.2), version=VERSION)
    assert spreads() == (0.1, 0.2)
    learn(store, finish(store, start=50), statistics_of(3.0))
    assert spreads() == (0.1, 0.2)
    model = store.find_model(KEY, version=VERSION)
    assert model is not None and model.header.generation == 3


# Several writers.


def test_writers_at_the_same_time_lose_nothing(store: Store, host: Host, database_url: str) -> None:
    """Two processes' stores, each with a sweep of its own at a time: what both said is there."""
    rounds = 8
    ids = [
        [finish(store, start=1 + 10 * (2 * number + writer)) for number in range(rounds)]
        for writer in range(2)
    ]
    barrier = threading.Barrier(2)

    def write(writer: int) -> list[bool]:
        with closing(Store.open(database_url)) as mine:
            learned = []
            for number in range(rounds):
                barrier.wait()
                learned.append(learn(mine, ids[writer][number], statistics_of(1.0)))
            return learned

    with ThreadPoolExecutor(2) as pool:
        learned = list(pool.map(write, range(2)))
    assert learned == [[True] * rounds] * 2
    expected = statistics_of(1.0)
    for _ in range(2 * rounds - 1):
        expected = expected.followed_by(statistics_of(1.0))
    # All sweeps said the same, so their order makes no difference.
    assert_same(find(store), expected)


def test_one_of_two_who_learn_the_same_sweep_does(
    store: Store, host: Host, database_url: str
) -> None:
    ids = [finish(store, start=1 + 10 * number) for number in range(8)]
    barrier = threading.Barrier(2)

    def write(_: int) -> list[bool]:
        with closing(Store.open(database_url)) as mine:
            learned = []
            for sweep_id in ids:
                barrier.wait()
                learned.append(learn(mine, sweep_id, statistics_of(1.0)))
            return learned

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(write, range(2))
    assert [one + other for one, other in zip(first, second, strict=True)] == [1] * 8
    found = find(store)
    assert found is not None and found.num_sweeps == pytest.approx(
        sum(0.5 ** (number / 400) for number in range(8))
    )


# Versions.


def test_a_model_of_another_version_is_replaced_and_its_sweeps_are_found_again(
    store: Store, host: Host
) -> None:
    old = [finish(store, start=start) for start in (1, 50)]
    for sweep_id in old:
        learn(store, sweep_id, statistics_of(2.0))
    store.keep_spreads(KEY, (0.1,), version=VERSION)
    assert unlearned(store) is None
    # The upgrade: the old model can't be used, and is there until the first sweep is learned.
    assert find(store, version="2-new") is None
    assert unlearned_id(store, version="2-new") == old[0]
    # The new version has other features: nine.
    found = replace(statistics_of(1.0), matrix=np.eye(9), right=np.ones(9))
    assert learn(store, old[0], found, version="2-new")
    assert_same(find(store, version="2-new"), found)
    model = store.find_model(KEY, version="2-new")
    assert model is not None and model.header.spreads is None
    assert find(store) is None
    assert unlearned_id(store, version="2-new") == old[1]
    assert learn(store, old[1], found, version="2-new")
    assert unlearned(store, version="2-new") is None


def test_versions_that_replace_each_others_models_lose_nothing(store: Store, host: Host) -> None:
    """A fleet under upgrade: one worker is newer, both measure on one platform.

    The newer one has learned from its sweeps. The older one's next sweep begins the old model anew.
    When it is upgraded as well, all sweeps must be in the new model, those of the newer one, too.
    """
    newer = [finish(store, start=start) for start in (1, 10)]
    for sweep_id in newer:
        learn(store, sweep_id, statistics_of(1.0), version="2-new")
    older = finish(store, start=50)
    learn(store, older, statistics_of(1.0), version="1-old")
    assert find(store, version="2-new") is None
    # After the upgrade, an idle worker learns whatever is found.
    learn(store, older, statistics_of(1.0), version="2-new")
    again = []
    while (left := unlearned_id(store, version="2-new")) is not None:
        learn(store, left, statistics_of(1.0), version="2-new")
        again.append(left)
    assert again == newer
    found = find(store, version="2-new")
    assert found is not None
    assert found.num_sweeps == pytest.approx(1 + 0.5 ** (1 / 400) + 0.5 ** (2 / 400))


def test_a_model_that_begins_anew_leaves_others_alone(store: Store, host: Host) -> None:
    """Sweeps of another workload's model are not found again."""
    other = replace(KEY, workload=MATMUL.describe({"batch": 3}))
    sweep, _ = store.create_sweep(create_spec(batch=3), host="east")
    store.finish_sweep(sweep.id, create_curve(workload=other.workload), state=SweepState.DONE)
    learn(store, sweep.id, statistics_of(1.0), key=other)
    learn(store, finish(store, start=50), statistics_of(1.0))
    assert unlearned(store) is None


# What isn't learned yet.


def test_the_oldest_sweep_is_found_with_its_samples(store: Store, host: Host) -> None:
    assert unlearned(store) is None
    first, second = finish(store), finish(store, start=50)
    found = unlearned(store)
    assert found is not None
    assert (found.sweep_id, found.key, found.grid) == (first, KEY, create_curve().grid)
    [batch] = found.batches
    np.testing.assert_array_equal(batch.point, create_samples(20, seed=1).point)
    learn(store, first, statistics_of(1.0))
    assert unlearned_id(store) == second
    learn(store, second, statistics_of(1.0))
    assert unlearned(store) is None


def test_of_a_pruned_sweep_the_first_samples_are_left_to_learn_from(
    store: Store, host: Host
) -> None:
    finish(store)
    while store.prune_some(older_than_s=0) is not None:
        pass
    found = unlearned(store)
    assert found is not None
    [batch] = found.batches
    points = create_samples(20, seed=1).point
    _, first = np.unique(points, return_index=True)
    np.testing.assert_array_equal(batch.point, points[np.sort(first)])


def test_sweeps_that_go_on_failed_or_are_of_no_use_are_not_found(store: Store, host: Host) -> None:
    running, _ = store.create_sweep(create_spec(start=100), host="east")
    store.start_sweep(running.id)
    store.commit_batch(running.id, 0, create_samples(), PROGRESS)
    failed, _ = store.create_sweep(create_spec(start=200), host="east")
    store.fail_sweep(failed.id, "lost")
    finish(store, start=300, state=SweepState.CANCELLED)
    assert unlearned(store) is None
    finish(store)
    assert unlearned(store) is not None
    assert unlearned(store, without=("matmul",)) is None
    assert unlearned(store, modes=("race",)) is None
    assert unlearned(store, modes=()) is None
    assert unlearned(store, without=("linear",)) is not None
    assert store.find_unlearned("west", version=VERSION, modes=("grid",)) is None


def test_sweeps_of_the_hosts_platform_come_before_those_of_an_earlier_one(
    store: Store, host: Host
) -> None:
    """Those are learned from, too: the platform after an upgrade may inherit them."""
    before = finish(store)
    upgraded = create_platform(threads=2)
    store.register_host("east", upgraded, protocol=PROTOCOL, dtypes=["float32"])
    after = finish(store, start=50, platform=upgraded)
    found = unlearned(store)
    assert found is not None
    assert (found.sweep_id, found.key.platform_key) == (after, upgraded.key)
    learn(store, after, statistics_of(1.0), key=found.key)
    found = unlearned(store)
    assert found is not None
    assert (found.sweep_id, found.key) == (before, KEY)
