"""Several processes on one database: the API, the worker and the commands."""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from profiler_service.storage import schema
from profiler_service.storage.database import create_database_engine, parse_url
from profiler_service.storage.store import Store
from tests.storage.examples import PROGRESS, PROTOCOL, create_platform, create_samples, create_spec

T = TypeVar("T")
NUM_BATCHES = 20

barrier: multiprocessing.synchronize.Barrier
"""Set in each child: both wait at it before each thing that they do at once."""


def set_barrier(given: multiprocessing.synchronize.Barrier) -> None:
    global barrier
    barrier = given


def barrier_wait() -> int:
    """Returns once both processes have called it: 0 in one of them, 1 in the other."""
    return barrier.wait()


def run_twice(function: Callable[[str], T], url: str) -> list[T]:
    """What `function(url)` returned in each of two processes, run at the same moment."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        2, mp_context=context, initializer=set_barrier, initargs=(context.Barrier(2, timeout=60),)
    ) as pool:
        return [future.result() for future in [pool.submit(function, url) for _ in range(2)]]


def upgrade(url: str) -> None:
    barrier.wait()
    schema.upgrade(url)


def connect_to_new_files(directory: str) -> None:
    for number in range(50):
        engine = create_database_engine(parse_url(f"sqlite:///{directory}/{number}.sqlite"))
        barrier.wait()
        with engine.connect():
            pass
        engine.dispose()


def create_sweeps(url: str) -> list[tuple[str, bool]]:
    created = []
    with closing(Store.open(url)) as store:
        for start in range(1, NUM_BATCHES + 1):
            barrier.wait()
            sweep, new = store.create_sweep(create_spec(start=start), host="east")
            created.append((sweep.id, new))
    return created


def commit_batches(url: str) -> list[bool]:
    kept = []
    with closing(Store.open(url)) as store:
        (sweep,) = store.list_sweeps().items
        for number in range(NUM_BATCHES):
            barrier.wait()
            kept.append(store.commit_batch(sweep.id, number, create_samples(), PROGRESS))
    return kept


def test_two_processes_upgrade_an_empty_database_once(empty_database_url: str) -> None:
    run_twice(upgrade, empty_database_url)
    with closing(Store.open(empty_database_url)) as store:
        assert store.generation() == 0  # its one row: two would make it no single number


def test_two_processes_may_be_first_to_open_a_sqlite_file(tmp_path: Path) -> None:
    # Each switches the file to write-ahead logging; SQLite itself lets one of them down.
    run_twice(connect_to_new_files, str(tmp_path))


def test_two_processes_asking_for_the_same_get_one_sweep(store: Store, database_url: str) -> None:
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
    first, second = run_twice(create_sweeps, database_url)
    assert [sweep_id for sweep_id, _ in first] == [sweep_id for sweep_id, _ in second]
    assert [a + b for (_, a), (_, b) in zip(first, second, strict=True)] == [1] * NUM_BATCHES
    assert len(store.list_sweeps().items) == NUM_BATCHES


def test_two_processes_keep_each_batch_once(store: Store, database_url: str) -> None:
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
    sweep, _ = store.create_sweep(create_spec(), host="east")
    first, second = run_twice(commit_batches, database_url)
    assert [a + b for a, b in zip(first, second, strict=True)] == [1] * NUM_BATCHES
    assert len(store.load_batches(sweep.id)) == NUM_BATCHES
