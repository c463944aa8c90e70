"""Workers one version behind go on working, and workers that may not change the schema."""

from __future__ import annotations

import importlib.resources
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from profiler_service.plan.spec import SweepState
from profiler_service.storage import schema
from profiler_service.storage.store import Store
from tests.storage.examples import (
    PROGRESS,
    PROTOCOL,
    create_curve,
    create_platform,
    create_samples,
    create_spec,
)
from tests.storage.test_schema import connect

ROOT = Path(__file__).parents[2]
EXPANDING_SINCE = "0014"
"""From here on, a migration only adds, or says in `compatibility` whom it leaves behind."""

OLD_WORKER = """
import sys
from profiler_service.plan.spec import SweepState
from profiler_service.storage import schema
from profiler_service.storage.store import Store, WorkerIdentity
from tests.storage.examples import *

url = sys.argv[1]
schema.upgrade(url)
store = Store.open(url, worker=WorkerIdentity(id="w", description="old", device_lock="cpu"))

def register():
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=["float32"])
    store.touch_host("east")

store.take_lease("east")
register()
sweep, _ = store.create_sweep(create_spec(), host="east")
store.start_sweep(sweep.id, measured_as="so")
store.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
print(schema.current_revision(url), flush=True)
sys.stdin.readline()
store.renew_lease("east")
register()
store.check_usable()
store.commit_batch(sweep.id, 1, create_samples(), PROGRESS)
store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
another, _ = store.create_sweep(create_spec(start=100), host="east")
store.start_sweep(another.id, measured_as="so")
store.fail_sweep(another.id, "planned")
store.release_lease("east")
print(sweep.id, flush=True)
"""


def config(connection: Connection) -> Config:
    config = Config()
    location = importlib.resources.files("profiler_service.migrations")
    config.set_main_option("script_location", str(location))
    config.attributes["connection"] = connection
    return config


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


@pytest.fixture
def previous_version(tmp_path: Path) -> Path:
    """The source of the version that brought the migration before the newest one."""
    before = sorted(path.name for path in (ROOT / "migrations/versions").glob("[0-9]*.py"))[-2]
    added = git("log", "--diff-filter=A", "--format=%H", "--", f"migrations/versions/{before}")
    if not added:
        pytest.skip("needs the project's history")
    commit = added.splitlines()[-1]
    directory = tmp_path / "previous"
    directory.mkdir()
    archive = subprocess.run(
        ["git", "archive", commit, "profiler_service", "migrations", "tests"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    subprocess.run(["tar", "-x"], input=archive.stdout, cwd=directory, check=True)
    (directory / "profiler_service" / "migrations").symlink_to("../migrations")
    return directory


def test_the_previous_version_s_worker_goes_on_when_the_schema_is_upgraded_under_it(
    previous_version: Path, empty_database_url: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OLD_WORKER, empty_database_url],
        cwd=previous_version,
        env={**os.environ, "PYTHONPATH": str(previous_version)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        old_revision = worker.stdout.readline().strip()
        schema.upgrade(empty_database_url)
        # The worker is an older version indeed.
        assert old_revision < str(schema.current_revision(empty_database_url))
        worker.stdin.write("\n")
        worker.stdin.flush()
        sweep_id = worker.stdout.readline().strip()
    assert worker.returncode == 0
    with closing(Store.open(empty_database_url)) as store:
        sweep = store.get_sweep(sweep_id)
        assert sweep.state is SweepState.DONE
        assert len(store.load_batches(sweep_id)) == 2
        assert sweep.curve_id is not None
        store.load_curve(sweep.curve_id)


def test_migrations_only_add(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'lhp.sqlite'}"
    with connect(url) as connection:
        script = ScriptDirectory.from_config(config(connection))
    revisions = sorted(each.revision for each in script.walk_revisions())
    before: dict[str, dict[str, tuple[str, bool]]] = {}
    oldest = None
    for revision in revisions[revisions.index(EXPANDING_SINCE) - 1 :]:
        with connect(url) as connection:
            command.upgrade(config(connection), revision)
            inspector = sa.inspect(connection)
            after = {}
            for table in inspector.get_table_names():
                columns = inspector.get_columns(table)
                after[table] = {c["name"]: (str(c["type"]), c["nullable"]) for c in columns}
                for column in columns:
                    # What an older version inserts lacks the new columns.
                    if table in before and column["name"] not in before[table]:
                        assert column["nullable"] or column["default"] is not None
            oldest_before = oldest
            if "compatibility" in after:
                oldest = connection.scalar(sa.text("SELECT oldest FROM compatibility"))
        if oldest == oldest_before or revision == EXPANDING_SINCE:
            for table, named in before.items():
                assert named.items() <= after[table].items(), f"{revision} changes {table}"
        before = after


def test_this_version_starts_and_works_with_a_schema_that_was_expanded(database_url: str) -> None:
    """As after the next version's `lhp db upgrade`: a column in every table, and a new table."""
    with connect(database_url) as connection:
        for table in sa.inspect(connection).get_table_names():
            connection.execute(
                sa.text(f"ALTER TABLE {table} ADD COLUMN coming TEXT DEFAULT '' NOT NULL")
            )
        connection.execute(sa.text("CREATE TABLE coming (id INTEGER PRIMARY KEY)"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    schema.upgrade(database_url)  # as an embedded database's service does when it starts
    assert schema.current_revision(database_url) == "9999"
    with closing(Store.open(database_url)) as store:
        store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
        sweep, _ = store.create_sweep(create_spec(), host="east")
        store.start_sweep(sweep.id, measured_as="so")
        assert store.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
        curve_id = store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
        assert curve_id is not None
        assert store.load_curve(curve_id).num_measured == 3
        store.check_usable()
