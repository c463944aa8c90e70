"""Processes of another version than the database's schema: whole commands on PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import sqlalchemy as sa

from profiler_service import jobs
from profiler_service.plan.spec import SweepState
from profiler_service.processes.exit_codes import CANNOT_RUN, DONE, FAILED
from profiler_service.settings import Settings
from profiler_service.storage import schema
from profiler_service.storage.store import Store
from tests.processes.fake_worker import (
    PROTOCOL,
    FakeMeasurer,
    begun,
    create_runner,
    platform,
    wait_until,
)
from tests.processes.test_serve import read_greeting
from tests.storage.test_schema import HEAD, connect, downgrade
from tests.test_jobs import HOST, Fleet

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60

Start = Callable[..., "subprocess.Popen[str]"]


def read_end(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """The exit code, and what was said on stderr."""
    _, err = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in err
    return process.returncode, err.splitlines()


def test_what_is_newer_than_the_schema_says_what_to_do_and_loses_nothing(
    start_lhp: Start, migrated_postgres_url: str, tmp_path: Path
) -> None:
    url = migrated_postgres_url
    settings = Settings(database_url=url, host=HOST)
    jobs.upgrade(settings)
    with closing(Store.open(url)) as store:
        store.register_host(HOST, platform(), protocol=PROTOCOL, dtypes=["float32"])
        fleet = Fleet(store, settings, tmp_path)
        # One of three batches is measured. Then comes the newer version, without its migrations.
        sweep = fleet.create_sweep(3)
        assert not create_runner(store, FakeMeasurer(fleet.log)).run_batch(sweep.id)
        downgrade(url, "-1")
        before = schema.current_revision(url)

        code, said = read_end(start_lhp("worker", LHP_DATABASE_URL=url, LHP_HOST=HOST))
        assert code == CANNOT_RUN  # systemd doesn't start it again and again
        error, hint = said
        assert error.endswith(f"has schema {before}; this version needs {HEAD}")
        assert hint.startswith("hint: run `") and "db upgrade` with this version" in hint
        serving = start_lhp("serve", "--no-worker", "--port", "0", LHP_DATABASE_URL=url)
        assert read_end(serving) == (FAILED, said)
        assert schema.current_revision(url) == before

        assert read_end(start_lhp("db", "upgrade", LHP_DATABASE_URL=url))[0] == DONE
        try:
            fleet.start()
            assert fleet.wait_for(sweep).state is SweepState.DONE, fleet.output()
        finally:
            fleet.close()
        assert [list(kept.point) for kept in store.load_batches(sweep.id)] == [[0], [1], [2]]
    assert begun(fleet.log) == [0, 1, 2]  # nothing was measured twice


def change_schema(url: str, *statements: str) -> None:
    """As the `lhp db upgrade` of a later version does, in one transaction."""
    with connect(url) as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def test_what_is_older_than_the_schema_works_until_an_upgrade_leaves_it_behind(
    start_lhp: Start, migrated_postgres_url: str, tmp_path: Path
) -> None:
    url = migrated_postgres_url
    jobs.upgrade(Settings(database_url=url, host=HOST))
    change_schema(url, "UPDATE alembic_version SET version_num = '9998'")
    own = {"LHP_DATABASE_URL": url, "LHP_HOST": HOST, "XDG_DATA_HOME": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.processes.simulated_lhp", "worker"],
        cwd=ROOT,
        env={**os.environ, **own, "SIMULATED_MACHINE": "there"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        try:
            serving = start_lhp("serve", "--no-worker", "--port", "0", LHP_DATABASE_URL=url)
            address, _ = read_greeting(serving)
            wait_until(
                lambda: (
                    [each["state"] for each in httpx.get(f"{address}/hosts").json()] == ["ready"]
                )
            )
            assert httpx.get(f"{address}/readyz").status_code == 200
            change_schema(
                url,
                "ALTER TABLE hosts RENAME COLUMN status TO condition",
                "UPDATE alembic_version SET version_num = '9999'",
                "UPDATE compatibility SET oldest = '9999'",
            )
            code, said = read_end(worker)
        finally:
            worker.kill()
    assert code == CANNOT_RUN
    assert said[-2].endswith("has schema 9999, which this version can't use")
    assert said[-1].startswith("hint: a newer version wrote it: install that version here")

    # What was answered before could still be answered from memory, so the service goes on.
    wait_until(lambda: "newer version" in httpx.get(f"{address}/readyz").json().get("hint", ""))
    assert httpx.get(f"{address}/readyz").status_code == 503
    assert httpx.get(f"{address}/healthz").status_code == 200
    again = start_lhp("serve", "--no-worker", "--port", "0", LHP_DATABASE_URL=url)
    assert read_end(again) == (FAILED, said[-2:])
