"""Raw samples are pruned; first visits, curves and facts stay."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import sqlalchemy as sa

from profiler_service.analysis.samples import Samples
from profiler_service.errors import ConflictError
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepState
from profiler_service.processes.idle_pruning import PAUSE_S, IdlePruning
from profiler_service.storage import blobs, retention
from profiler_service.storage.store import Host, Store
from profiler_service.storage.tables import batches
from tests.storage.examples import PROGRESS, create_curve, create_samples, create_spec
from tests.storage.test_schema import connect

HOUR_S = 3600.0


def visits(*points: int) -> Samples:
    """Samples of these points in this order."""
    return replace(create_samples(len(points)), point=np.array(points, dtype=np.int32))


def finish(store: Store, *measured: Samples, start: int = 1, mode: Mode = "grid") -> str:
    """The id of a sweep that has ended with these batches."""
    sweep, new = store.create_sweep(create_spec(start=start, mode=mode), host="east")
    assert new
    for number, samples in enumerate(measured):
        store.commit_batch(sweep.id, number, samples, PROGRESS)
    store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    return sweep.id


def kept_points(url: str, sweep_id: str) -> list[list[int]]:
    """The points whose samples are left, batch by batch."""
    query = sa.select(batches.c.arrays).where(batches.c.sweep_id == sweep_id)
    with connect(url) as connection:
        found = connection.scalars(query.order_by(batches.c.number))
        return [list(map(int, blobs.unpack(arrays)["point"])) for arrays in found]


def test_pruning_keeps_the_first_visit_of_each_point_and_the_curve(
    store: Store, host: Host, database_url: str
) -> None:
    sweep_id = finish(store, visits(0, 1, 0), visits(1, 2, 2), visits(0, 1))
    assert store.prune_some(older_than_s=HOUR_S) is None  # it ended just now
    assert kept_points(database_url, sweep_id) == [[0, 1, 0], [1, 2, 2], [0, 1]]
    pruned = store.prune_some(older_than_s=0)
    assert pruned is not None and (pruned.num_sweeps, pruned.num_batches) == (1, 3)
    assert kept_points(database_url, sweep_id) == [[0, 1], [2], []]
    assert store.prune_some(older_than_s=0) is None
    curve_id = store.get_sweep(sweep_id).curve_id
    assert curve_id is not None and store.load_curve(curve_id).num_measured == 3
    with pytest.raises(ConflictError, match="were pruned"):
        store.load_batches(sweep_id)


def test_sweeps_that_go_on_and_answers_read_from_samples_stay_whole(
    store: Store, host: Host
) -> None:
    kernels = finish(store, visits(0, 0), mode="kernels")
    running, _ = store.create_sweep(create_spec(start=50), host="east")
    store.start_sweep(running.id)
    store.commit_batch(running.id, 0, visits(0, 0), PROGRESS)
    assert store.find_prunable(older_than_s=0).num_sweeps == 0
    assert store.prune_some(older_than_s=0) is None
    for sweep_id in (kernels, running.id):
        assert [list(each.point) for each in store.load_batches(sweep_id)] == [[0, 0]]


def test_a_long_prune_is_many_transactions_and_goes_on_where_it_was_broken_off(
    store: Store, host: Host, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCHES_PER_STEP", 2)
    # Five batches in steps of two: 2, 2, and 1, which is the last.
    sweep_id = finish(store, *(visits(0, number, 0) for number in range(5)))
    first = store.prune_some(older_than_s=0)
    assert first is not None and (first.num_sweeps, first.num_batches) == (0, 2)
    with pytest.raises(ConflictError, match="were pruned"):
        store.load_batches(sweep_id)
    with closing(Store.open(database_url)) as another:
        steps = [another.prune_some(older_than_s=0) for _ in range(3)]
    assert [None if each is None else each.num_batches for each in steps] == [2, 1, None]
    # Batch n visits 0, n, 0: point 0 is first visited by the first one.
    assert kept_points(database_url, sweep_id) == [[0], [1], [2], [3], [4]]


def test_sizes_are_shown_and_bound_what_a_prune_frees(store: Store, host: Host) -> None:
    finish(store, visits(*[0] * 5000))
    finish(store, visits(*[0] * 5000), start=20)
    sizes = {size.name: size for size in store.measure_sizes()}
    assert sizes["batches"].num_rows == 2
    prunable = store.find_prunable(older_than_s=0)
    assert prunable.num_sweeps == 2
    size_bytes = sizes["batches"].size_bytes
    assert size_bytes is not None and 0 < prunable.size_bytes < size_bytes
    assert store.find_prunable(older_than_s=HOUR_S).num_sweeps == 0
    freed_bytes = 0
    while (pruned := store.prune_some(older_than_s=0)) is not None:
        freed_bytes += pruned.freed_bytes
    # One sample in 5,000 stays: nearly all was freed.
    assert 0.9 * prunable.size_bytes < freed_bytes < prunable.size_bytes


def test_an_idle_worker_prunes_only_if_it_was_told_to(store: Store, host: Host) -> None:
    finish(store, visits(0, 0))
    now_s = [0.0]
    off = IdlePruning(store, "east", keep_days=0, clock=lambda: now_s[0])
    assert off.consider() is None
    young = IdlePruning(store, "east", keep_days=1, clock=lambda: now_s[0])
    assert young.consider() is None
    old = IdlePruning(store, "east", keep_days=1e-12, clock=lambda: now_s[0])
    waiting, _ = store.create_sweep(create_spec(start=50), host="east")
    assert old.consider() is None  # not idle
    store.request_cancel(waiting.id)
    pruned = old.consider()
    assert pruned is not None and pruned.num_sweeps == 1
    # The cancelled one has nothing to prune, but is looked at once; then there is a pause.
    while old.consider() is not None:
        pass
    finish(store, visits(0, 0), start=90)
    assert old.consider() is None
    now_s[0] = PAUSE_S
    assert old.consider() is not None
