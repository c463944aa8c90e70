"""A database that goes away under the job engine: jobs go on as soon as it is back."""

from __future__ import annotations

import contextlib
import threading
import time

import psycopg
import pytest
import sqlalchemy as sa
from dbos import _sys_db as engine_database

from profiler_service import jobs
from profiler_service.errors import StoreUnavailableError
from profiler_service.jobs.engine import LONGEST_PAUSE_S, to_text
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from tests.databases import only_postgresql
from tests.processes.fake_worker import PATIENCE_S, wait_until
from tests.test_jobs import Fleet, client, fleet, settings

__all__ = ["client", "fleet", "settings"]


def test_a_job_that_was_put_off_is_resumed_when_it_is_looked_at_first(
    fleet: Fleet, settings: Settings, client: jobs.JobClient
) -> None:
    sweep, ended = fleet.create_sweep(1), fleet.create_sweep(2)
    client.enqueue(sweep)
    calls: list[str] = []

    def run_batch(sweep_id: str) -> bool:
        calls.append(sweep_id)
        if len(calls) == 1:
            raise StoreUnavailableError("it is away")
        fleet.store.fail_sweep(sweep_id, "seen")
        return True

    fleet.store.fail_sweep(ended.id, "seen")
    with contextlib.closing(jobs.JobRunner(settings, run_batch)) as runner:
        runner.put_off.add(ended.id)
        runner.wake()
        wait_until(lambda: sweep.id in runner.put_off and not runner.running)
        client.reconcile(fleet.store, runner.running, runner.put_off)
        wait_until(lambda: fleet.store.get_sweep(sweep.id).state.is_final)
    assert calls == [sweep.id] * 2
    assert runner.put_off == set()


def test_the_engine_tries_a_database_again_after_a_second_however_long_it_was_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By itself, it would make pauses of about 1, 2, 4, 8, 16, 32 and 60 s."""
    pauses_s: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses_s.append)
    num_calls = 0

    @engine_database.db_retry()
    def ask() -> str:
        nonlocal num_calls
        num_calls += 1
        if num_calls <= 7:
            refused = psycopg.OperationalError("connection failed: refused")
            raise sa.exc.OperationalError("SELECT 1", None, refused)
        return "answered"

    assert ask() == "answered"
    assert len(pauses_s) == 7
    assert max(pauses_s) == LONGEST_PAUSE_S


@only_postgresql
def test_an_engine_that_ends_slowly_doesnt_keep_its_worker(
    fleet: Fleet, settings: Settings, client: jobs.JobClient
) -> None:
    """Its threads wait for a locked table; meanwhile the worker must give signs of life."""
    sweep = fleet.create_sweep(1)
    seen = threading.Event()

    def run_batch(sweep_id: str) -> bool:
        fleet.store.fail_sweep(sweep_id, "seen")
        seen.set()
        return True

    runner = jobs.JobRunner(settings, run_batch, pool=fleet.store.shared_pool)
    with contextlib.closing(runner):
        runner.wake()
        url = to_text(jobs.engine_url(settings.database_url))
        with psycopg.connect(url.replace("+psycopg", "")) as locking:
            locking.execute(f"LOCK TABLE {jobs.SCHEMA}.workflow_status IN ACCESS EXCLUSIVE MODE")
            wait_until(lambda: _is_somebody_waiting(fleet.store))
            began_s = time.monotonic()
            runner.sleep()
            assert not runner.is_awake
            runner.wake()
            # It would wait until the database gives up, after 4 s, and 10 s for each thread.
            assert time.monotonic() - began_s < 2.5
            assert not runner.is_awake
        client.enqueue(sweep)

        def wake() -> bool:
            runner.wake()
            return runner.is_awake

        wait_until(wake)
        assert seen.wait(PATIENCE_S)


def _is_somebody_waiting(store: Store) -> bool:
    """Whether a query waits for a table."""
    assert store.shared_pool is not None
    with store.shared_pool.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        )
        return bool(found.scalar_one())
