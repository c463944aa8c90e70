"""The job engine's tables, dropped under a service and its worker: noticed, and made anew."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from profiler_service import jobs
from profiler_service.errors import StoreUnavailableError
from profiler_service.plan.spec import SweepState
from profiler_service.processes.exit_codes import TRY_LATER
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from tests.processes.fake_worker import wait_until
from tests.test_jobs import Fleet, client, fleet, settings

__all__ = ["client", "fleet", "settings"]


def _drop_engine_tables(settings: Settings) -> None:
    """As a backup does that is put back without them."""
    url = jobs.engine_url(settings.database_url)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        if url.get_backend_name() == "sqlite":
            for name in sa.inspect(connection).get_table_names():
                connection.exec_driver_sql(f'DROP TABLE "{name}"')
        else:
            connection.exec_driver_sql(f"DROP SCHEMA {jobs.SCHEMA} CASCADE")
    engine.dispose()


def test_dropped_tables_are_noticed_until_they_are_made_anew(
    store: Store, settings: Settings, client: jobs.JobClient
) -> None:
    jobs.upgrade(settings)
    client.check_usable()
    assert not client.has_lost_tables()
    _drop_engine_tables(settings)
    with pytest.raises(StoreUnavailableError, match="can't be used") as caught:
        client.check_usable()
    assert "lhp db upgrade" in caught.value.hint
    assert client.has_lost_tables()


def test_a_worker_whose_jobs_tables_were_dropped_ends_and_the_next_one_goes_on(
    fleet: Fleet,
) -> None:
    sweep = fleet.create_sweep(60)
    process = fleet.start(batch_s=0.1)
    wait_until(lambda: fleet.num_kept(sweep) > 0)
    _drop_engine_tables(fleet.settings)
    assert process.wait(timeout=60) == TRY_LATER, fleet.output()
    if fleet.settings.database_url.startswith("postgresql"):
        # There, an operator makes tables.
        assert fleet.start().wait(timeout=60) == 1
        assert "job engine's tables" in fleet.output()
        jobs.upgrade(fleet.settings)
    fleet.start()
    assert fleet.wait_for(sweep).state is SweepState.DONE
