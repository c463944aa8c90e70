"""A worker whose database is lost, or keeps nothing more: it measures nothing in vain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler_service import jobs
from profiler_service.errors import StoreLostError, StoreNotWritableError
from profiler_service.plan.spec import SweepState
from profiler_service.processes import sweep_runner
from profiler_service.processes.exit_codes import TRY_LATER
from profiler_service.settings import Settings
from profiler_service.storage import schema
from profiler_service.storage.store import Store
from tests.processes.fake_worker import (
    PROTOCOL,
    FakeMeasurer,
    begun,
    create_runner,
    create_sweep,
    platform,
    wait_until,
)
from tests.test_jobs import HOST, Fleet


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "kept" / "lhp.sqlite"
    schema.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with contextlib.closing(Store.open(f"sqlite:///{path}")) as store:
        yield store


@pytest.fixture
def fleet(store: Store, path: Path, tmp_path: Path) -> Iterator[Fleet]:
    settings = Settings(database_url=f"sqlite:///{path}", host=HOST)
    jobs.upgrade(settings)
    store.register_host(HOST, platform(), protocol=PROTOCOL, dtypes=["float32"])
    fleet = Fleet(store, settings, tmp_path)
    yield fleet
    fleet.close()


def test_nothing_is_measured_once_the_file_is_lost(
    store: Store, path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_runner, "STORE_CHECK_S", 3600)
    sweep = create_sweep(store, 5)
    runner = create_runner(store, FakeMeasurer(log))
    assert not runner.run_batch(sweep.id)
    away = path.rename(path.with_name("away"))
    for _ in range(3):
        with pytest.raises(StoreLostError):
            runner.run_batch(sweep.id)
    assert begun(log) == [0]
    away.rename(path)
    while not runner.run_batch(sweep.id):
        pass
    assert begun(log) == [0, 1, 2, 3, 4]
    assert store.get_sweep(sweep.id).state is SweepState.DONE


def test_nothing_is_measured_while_nothing_can_be_kept(
    store: Store, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = create_sweep(store, 3)
    runner = create_runner(store, FakeMeasurer(log))

    def fail() -> None:
        raise StoreNotWritableError("its disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "check_usable", fail)
        for _ in range(3):
            with pytest.raises(StoreNotWritableError):
                runner.run_batch(sweep.id)
    assert begun(log) == []
    while not runner.run_batch(sweep.id):
        pass
    assert begun(log) == [0, 1, 2]


def test_a_worker_waits_for_a_file_that_was_moved_away_and_goes_on_with_it(
    fleet: Fleet, path: Path
) -> None:
    sweep = fleet.create_sweep(30)
    process = fleet.start(batch_s=0.1)
    wait_until(lambda: len(begun(fleet.log)) > 3)
    away = path.rename(path.with_name("away"))
    wait_until(lambda: "was deleted or moved away" in fleet.output())
    num_begun = len(begun(fleet.log))
    assert num_begun < 30
    away.rename(path)
    ended = fleet.wait_for(sweep)
    assert ended.state is SweepState.DONE, ended.error
    assert process.poll() is None
    # Nothing was lost, nothing doubled; what was under way was measured again.
    kept = fleet.store.load_batches(sweep.id)
    assert [list(samples.point) for samples in kept] == [[i] for i in range(30)]
    assert len(begun(fleet.log)) <= 30 + 2


def test_without_the_file_of_jobs_a_new_worker_makes_it_anew_and_goes_on(fleet: Fleet) -> None:
    sweep = fleet.create_sweep(120)
    process = fleet.start(batch_s=0.1)
    wait_until(lambda: len(begun(fleet.log)) > 3)
    engine = jobs.engine_url(fleet.settings.database_url).database
    assert engine is not None
    for suffix in ("", "-wal", "-shm"):
        Path(engine + suffix).unlink()
    # Its keeper starts it again.
    assert process.wait(timeout=60) == TRY_LATER
    assert not fleet.store.get_sweep(sweep.id).state.is_final
    fleet.start(batch_s=0.001)
    assert fleet.wait_for(sweep).state is SweepState.DONE
    assert [list(s.point) for s in fleet.store.load_batches(sweep.id)] == [[i] for i in range(120)]
