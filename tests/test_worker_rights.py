"""A worker's role in PostgreSQL may use the tables, and neither makes nor changes any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from profiler_service import jobs
from profiler_service.plan.spec import SweepState
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from tests.processes.fake_worker import PROTOCOL, platform, wait_until
from tests.storage.test_schema import connect
from tests.test_jobs import HOST, Fleet

ROLE = "lhp_worker_without_ddl"


def run(url: str, *statements: str) -> None:
    """Runs the statements in one transaction."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    try:
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
    finally:
        engine.dispose()


def count_points(url: str) -> int:
    """How many curves have points that SQL can read."""
    with connect(url) as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM point_arrays")).scalar_one())


@pytest.fixture
def worker_url(migrated_postgres_url: str) -> Iterator[str]:
    """The database as a role sees it that may only read and write rows."""
    jobs.upgrade(Settings(database_url=migrated_postgres_url, host=HOST))
    rights = (
        "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES",
        "USAGE ON ALL SEQUENCES",
        "EXECUTE ON ALL FUNCTIONS",
    )
    schemas = ("public", jobs.SCHEMA)
    run(
        migrated_postgres_url,
        f"CREATE ROLE {ROLE} LOGIN PASSWORD 'secret'",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        *(f"GRANT USAGE ON SCHEMA {name} TO {ROLE}" for name in schemas),
        *(f"GRANT {what} IN SCHEMA {name} TO {ROLE}" for name in schemas for what in rights),
    )
    url = sa.make_url(migrated_postgres_url).set(username=ROLE, password="secret")
    yield url.render_as_string(hide_password=False)
    run(migrated_postgres_url, f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}")


def test_a_worker_whose_role_may_not_change_the_schema_measures(
    worker_url: str, migrated_postgres_url: str, tmp_path: Path
) -> None:
    with pytest.raises(sa.exc.ProgrammingError, match="denied"):
        run(worker_url, "CREATE TABLE mine (id INTEGER)")
    with closing(Store.open(migrated_postgres_url)) as store:
        store.register_host(HOST, platform(), protocol=PROTOCOL, dtypes=["float32"])
        fleet = Fleet(store, Settings(database_url=worker_url, host=HOST), tmp_path)
        try:
            sweep = fleet.create_sweep(5)
            fleet.start()
            assert fleet.wait_for(sweep).state is SweepState.DONE, fleet.output()
            # Its points are stored for dashboards, too.
            wait_until(lambda: count_points(migrated_postgres_url) == 1)
        finally:
            fleet.close()
