"""What an idle worker costs its database, and how soon it measures all the same."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from profiler_service import jobs
from profiler_service.processes import attendance
from profiler_service.processes.attendance import HEARTBEAT_S, Attendance, Lease
from profiler_service.settings import Settings
from profiler_service.storage import schema
from profiler_service.storage.database import parse_url
from profiler_service.storage.store import Store, WorkerIdentity
from tests.processes.fake_worker import HOST, PROTOCOL, platform, spec, wait_until

NEVER = threading.Event()


class Worker:
    """One host's worker in this process; its sweeps end when they begin."""

    def __init__(self, url: str) -> None:
        self.settings = Settings(database_url=url, host=HOST)
        identity = WorkerIdentity(id="w", description="a worker", device_lock="l", machine="m")
        self.store = Store.open(url, worker=identity)
        self.lease = Lease(self.store, HOST)
        self.store.register_host(HOST, platform(), protocol=PROTOCOL, dtypes=["float32"])
        jobs.upgrade(self.settings)
        pool = self.store.shared_pool
        self.client = jobs.JobClient(self.settings, pool=pool)
        self.runner = jobs.JobRunner(self.settings, self._run_batch, pool=pool)
        self.attendance = Attendance(
            self.store, self.lease, HOST, client=self.client, runner=self.runner
        )
        self.begun_s: dict[str, float] = {}
        self.may_end = threading.Event()
        self.may_end.set()

    def _run_batch(self, sweep_id: str) -> bool:
        self.begun_s.setdefault(sweep_id, time.monotonic())
        if self.may_end.wait(0.01):
            self.store.fail_sweep(sweep_id, "seen")
            return True
        return False

    def beat(self, sleep_after_s: float = 0) -> None:
        """As the worker's loop."""
        self.attendance.beat()
        assert not self.client.has_lost_tables()
        self.attendance.tend_engine(sleep_after_s=sleep_after_s)

    def rest(self) -> None:
        """As the worker's loop."""
        assert not self.attendance.wait(NEVER)

    def close(self) -> None:
        """Ends it."""
        self.may_end.set()
        self.runner.close()
        self.client.close()
        self.store.close()


@pytest.fixture
def worker(migrated_postgres_url: str) -> Iterator[Worker]:
    with closing(Worker(migrated_postgres_url)) as worker:
        yield worker


@pytest.fixture
def asker(worker: Worker) -> Iterator[Callable[[], tuple[str, float]]]:
    """Asks for a sweep as the service does; gives its id and when it was asked for."""
    with (
        closing(Store.open(worker.settings.database_url)) as store,
        closing(jobs.JobClient(worker.settings)) as client,
    ):

        def ask() -> tuple[str, float]:
            asked_s = time.monotonic()
            sweep, _ = store.create_sweep(spec(1), host=HOST)
            client.enqueue(sweep)
            return sweep.id, asked_s

        yield ask


def _num_connections(url: str) -> int:
    """How many the database has, besides the one that asks."""
    engine = sa.create_engine(parse_url(url), poolclass=sa.NullPool)
    with engine.connect() as connection:
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return int(connection.scalar(sa.text(query)))


def test_an_idle_worker_needs_one_connection_and_two_statements_a_second(
    worker: Worker, tmp_path: Path
) -> None:
    worker.beat()
    worker.rest()  # listens from now on, and returns at once
    pool = worker.store.shared_pool
    assert pool is not None
    with (tmp_path / "trace").open("w") as trace:
        with pool.connect() as connection:
            driver: Any = connection.connection.driver_connection
        # Whatever the client sends, begins, ends and pings included.
        driver.pgconn.trace(trace.fileno())
        begun_s = time.monotonic()
        worker.beat()
        worker.rest()
        lasted_s = time.monotonic() - begun_s
        driver.pgconn.untrace()
    sent = re.findall(
        r"\tF\t\d+\t(?:Query|Execute)\t\s*(.*)", (tmp_path / "trace").read_text(), re.MULTILINE
    )
    assert lasted_s == pytest.approx(HEARTBEAT_S, abs=1)
    # Are the jobs' tables there, renew the lease, record the heartbeat, is there a sweep.
    assert len(sent) >= 4
    assert len(sent) <= 2 * HEARTBEAT_S, sent
    assert not worker.runner.is_awake
    assert _num_connections(worker.settings.database_url) == 1


def test_a_sweep_wakes_a_sleeping_worker_which_sleeps_again_afterwards(
    worker: Worker, asker: Callable[[], tuple[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendance, "HEARTBEAT_S", 600.0)  # none comes to help
    for _ in range(2):  # the engine wakes and sleeps more than once
        asked: list[tuple[str, float]] = []
        asking = threading.Timer(0.3, lambda asked=asked: asked.append(asker()))
        asking.start()
        while not worker.runner.is_awake:
            worker.beat()
            if not worker.runner.is_awake:
                worker.rest()
        asking.join()
        [(sweep_id, asked_s)] = asked
        wait_until(lambda sweep_id=sweep_id: sweep_id in worker.begun_s)  # type: ignore[misc]
        assert worker.begun_s[sweep_id] - asked_s < 60

        def is_asleep() -> bool:
            worker.beat()
            return not worker.runner.is_awake

        wait_until(is_asleep)


def test_the_engine_stays_awake_while_a_sweep_runs_and_for_a_while_after_it(
    worker: Worker, asker: Callable[[], tuple[str, float]]
) -> None:
    worker.may_end.clear()
    sweep_id, _ = asker()
    worker.beat()
    wait_until(lambda: sweep_id in worker.begun_s)
    worker.beat()
    worker.runner.sleep()
    assert worker.runner.is_awake
    worker.may_end.set()
    wait_until(lambda: worker.store.get_sweep(sweep_id).state.is_final)
    worker.beat(sleep_after_s=600)
    assert worker.runner.is_awake


def test_a_waiting_worker_hears_only_of_its_own_sweeps(worker: Worker) -> None:
    url = worker.settings.database_url
    with closing(Store.open(url)) as other:
        other.register_host("other", platform("b"), protocol=PROTOCOL, dtypes=["float32"])
        worker.store.wait_for_sweep(HOST, 60)  # listens from now on
        other.create_sweep(spec(1), host="other")
        begun_s = time.monotonic()
        worker.store.wait_for_sweep(HOST, 0.2)
        assert time.monotonic() - begun_s >= 0.2
        # What is said while nobody waits isn't lost.
        other.create_sweep(spec(1), host=HOST)
        worker.store.touch_host(HOST)
        begun_s = time.monotonic()
        worker.store.wait_for_sweep(HOST, 60)
        assert time.monotonic() - begun_s < 30


def test_on_sqlite_the_engine_never_sleeps(tmp_path: object) -> None:
    url = f"sqlite:///{tmp_path}/lhp.sqlite"
    schema.upgrade(url)
    with closing(Worker(url)) as worker:
        worker.beat()
        worker.beat()
        assert worker.runner.is_awake


def test_a_lease_is_renewed_by_a_thread_only_when_the_heartbeats_are_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attendance, "HEARTBEAT_S", 0.0)
    monkeypatch.setattr(attendance, "LATE_S", 0.5)
    monkeypatch.setattr(attendance, "LOOK_S", 0.01)
    renewed = threading.Event()

    class Leases:
        """The part of the store that a lease uses."""

        def take_lease(self, host: str) -> None:
            pass

        def renew_lease(self, host: str) -> None:
            renewed.set()

        def release_lease(self, host: str) -> None:
            pass

    lease = Lease(cast("Store", Leases()), HOST)
    with lease.held():
        for _ in range(20):  # for a second, a heartbeat every 0.05 s
            lease.note_renewed()
            assert not renewed.wait(0.05)
        assert renewed.wait(30)


def test_a_worker_looks_soon_while_the_database_is_away_and_when_a_sweep_was_put_off(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendance, "HEARTBEAT_S", 600.0)
    monkeypatch.setattr(attendance, "AWAY_S", 0.05)
    begun_s = time.monotonic()
    assert not worker.attendance.wait(NEVER, is_away=True)
    worker.runner.wake()
    worker.runner.put_off.add("a sweep")
    assert not worker.attendance.wait(NEVER)
    assert time.monotonic() - begun_s < 60
