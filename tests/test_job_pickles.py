"""A pickle in the job engine's tables runs in no process, however it got there."""

from __future__ import annotations

import base64
import contextlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dbos import DBOSPortableJSONSerializer
from dbos import _serialization as serialization

from profiler_service import jobs
from profiler_service.plan.spec import SweepState
from profiler_service.settings import Settings
from tests.databases import only_sqlite
from tests.test_jobs import Fleet, client, fleet, settings

__all__ = ["client", "fleet", "settings"]


class Bomb:
    """When its pickle is loaded, it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self._path), "w")


class Planter:
    """Writes to the engine's tables, as somebody would who has the database's password."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.went_off = directory / "went-off"
        self.payload = base64.b64encode(pickle.dumps(Bomb(self.went_off))).decode()
        self._engine = sa.create_engine(jobs.engine_url(settings.database_url))
        on_postgres = self._engine.dialect.name == "postgresql"
        self._schema = jobs.SCHEMA if on_postgres else None

    def _table(self, name: str) -> sa.Table:
        return sa.Table(name, sa.MetaData(), schema=self._schema, autoload_with=self._engine)

    def plant_input(self, job: str, **values: object) -> None:
        """Puts the pickle in place of the job's input."""
        status, inputs = self._table("workflow_status"), self._table("workflow_input")
        with self._engine.begin() as connection:
            for table, changes in (
                (status, {"inputs": self.payload, "serialization": "py_pickle", **values}),
                (inputs, {"inputs": self.payload}),
            ):
                found = table.c.workflow_uuid == job
                assert connection.execute(sa.update(table).where(found).values(changes)).rowcount

    def plant_output(self, job: str) -> None:
        """Makes the job one that ended with the pickle as its output and its error."""
        self.plant_input(job, status="ERROR", output=self.payload, error=self.payload)
        values = {"workflow_uuid": job, "output": self.payload, "error": self.payload}
        with self._engine.begin() as connection:
            output = sa.insert(self._table("workflow_output"))
            connection.execute(output.values(retention_timestamp=0, **values))

    def plant_step(self, job: str) -> None:
        """Makes the pickle what the job's first step has returned."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.insert(self._table("operation_outputs")).values(
                    workflow_uuid=job,
                    function_id=1,
                    function_name=jobs.STEP,
                    output=self.payload,
                    serialization="py_pickle",
                    retention_timestamp=0,
                )
            )

    def close(self) -> None:
        self._engine.dispose()


@pytest.fixture
def planter(settings: Settings, tmp_path: Path) -> Any:
    with contextlib.closing(Planter(settings, tmp_path)) as planter:
        yield planter


def test_the_pickle_would_go_off_if_it_were_loaded(planter: Planter) -> None:
    pickle.loads(base64.b64decode(planter.payload)).close()
    assert planter.went_off.exists()


@pytest.mark.parametrize(
    ("database_url", "where"),
    [("postgresql", "input"), ("sqlite", "step")],
    indirect=["database_url"],
)
def test_a_worker_loads_no_pickle_and_still_measures_the_sweep(
    fleet: Fleet, client: jobs.JobClient, planter: Planter, where: str
) -> None:
    sweep = fleet.create_sweep(3)
    client.enqueue(sweep)
    if where == "input":
        planter.plant_input(sweep.id)
    else:
        planter.plant_step(sweep.id)
    fleet.start()
    assert fleet.wait_for(sweep).state is SweepState.DONE
    assert not planter.went_off.exists()
    assert "holds a pickle, which is never loaded" in fleet.output()


@only_sqlite
def test_a_worker_that_resumes_a_job_loads_no_pickle(
    fleet: Fleet, client: jobs.JobClient, planter: Planter, settings: Settings
) -> None:
    sweep = fleet.create_sweep(3)
    client.enqueue(sweep)
    # As if its worker had died.
    planter.plant_input(sweep.id, status="PENDING", executor_id=settings.host)
    fleet.start()
    assert fleet.wait_for(sweep).state is SweepState.DONE
    assert not planter.went_off.exists()


@pytest.mark.parametrize("ended", [False, True])
def test_enqueueing_listing_and_reconciling_load_no_pickle(
    fleet: Fleet, client: jobs.JobClient, planter: Planter, ended: bool
) -> None:
    sweep = fleet.create_sweep(1)
    client.enqueue(sweep)
    planter.plant_output(sweep.id)
    if ended:
        fleet.store.fail_sweep(sweep.id, "seen")
    client.enqueue(sweep)
    assert client.list_jobs() == {sweep.id: "ERROR"}
    client.reconcile(fleet.store, ())
    # Reconciling forgets the job, or makes it anew.
    assert client.list_jobs() == ({} if ended else {sweep.id: "ENQUEUED"})
    assert not planter.went_off.exists()


@pytest.mark.parametrize(
    "load",
    [
        serialization.deserialize_value,
        serialization.deserialize_args,
        serialization.deserialize_exception,
    ],
)
def test_the_engine_refuses_a_row_that_says_it_is_a_pickle(
    planter: Planter, load: Callable[..., object]
) -> None:
    with pytest.raises(TypeError, match="holds a pickle"):
        load(planter.payload, "py_pickle", DBOSPortableJSONSerializer())
    assert not planter.went_off.exists()
