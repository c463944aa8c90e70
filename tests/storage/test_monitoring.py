"""What monitoring reads: counts that agree with what happened, by statements that read few rows."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from profiler_service.plan.spec import SweepState
from profiler_service.storage import schema
from profiler_service.storage.store import FleetStatus, HostStatus, Store
from tests.storage.examples import (
    PROGRESS,
    PROTOCOL,
    create_curve,
    create_platform,
    create_samples,
    create_spec,
)
from tests.storage.test_schema import connect, downgrade


def register(store: Store, *names: str) -> None:
    for name in names:
        store.register_host(name, create_platform(), protocol=PROTOCOL, dtypes=["float32"])


def read(store: Store, *, max_hosts: int = 9) -> FleetStatus:
    return store.read_fleet(kinds=["linear", "matmul"], max_hosts=max_hosts)


def measure(store: Store) -> None:
    """On `east`: a grid that is done, with four discarded samples, and one that fails."""
    register(store, "east")
    done, _ = store.create_sweep(create_spec(), host="east")
    for index in range(2):  # two samples are discarded in each
        store.commit_batch(done.id, index, create_samples(), PROGRESS)
    store.finish_sweep(done.id, create_curve(), state=SweepState.DONE)
    failing, _ = store.create_sweep(create_spec(start=7), host="east")
    store.fail_sweep(failing.id, "planned")
    store.fail_sweep(failing.id, "again: it has ended, and counts once")


ENDED = {("east", "grid", "done"): 1, ("east", "grid", "failed"): 1}


def test_it_counts_what_ended_and_what_is_open(store: Store) -> None:
    measure(store)
    for start in (20, 30):
        store.create_sweep(create_spec(start=start), host="east")
    status = read(store)
    assert [host.name for host in status.hosts] == ["east"]
    assert (status.num_open, status.num_ended) == ({"east": 2}, ENDED)
    assert status.num_discarded == {"east": 4}
    # The example curve measures three of its points; one of them is an LHP.
    [header] = store.list_curves().items
    assert (header.num_lhps, header.num_measured) == (1, 3)
    assert status.redundancy == {("east", "matmul"): pytest.approx(2 / 3)}


def test_what_happened_before_there_were_counts_is_counted(database_url: str) -> None:
    store = Store.open(database_url)
    measure(store)
    store.close()
    downgrade(database_url, "0015")
    schema.upgrade(database_url)
    store = Store.open(database_url)
    status = read(store)
    assert (status.num_ended, status.num_discarded) == (ENDED, {"east": 4})
    store.close()


def test_it_shows_the_hosts_heard_of_last_and_no_retired_ones(store: Store) -> None:
    register(store, "east", "north", "west")
    store.touch_host("east")
    store.set_status("west", HostStatus.RETIRED)
    assert [host.name for host in read(store).hosts] == ["east", "north"]
    assert [host.name for host in read(store, max_hosts=1).hosts] == ["east"]


def test_it_reads_no_table_that_grows_from_end_to_end(tmp_path: Path, migrated_file: Path) -> None:
    url = f"sqlite:///{shutil.copyfile(migrated_file, tmp_path / 'lhp.sqlite')}"
    seen: list[tuple[str, Any]] = []

    def note(_c: object, _u: object, statement: str, parameters: Any, *_: object) -> None:
        seen.append((statement, parameters))

    store = Store.open(url)
    measure(store)
    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        read(store)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
        store.close()
    with connect(url) as connection:
        plans = [
            step.detail
            for statement, parameters in seen
            if statement.startswith("SELECT")
            for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    scans = {plan for plan in plans if plan.startswith("SCAN")}
    assert scans == {"SCAN hosts"}  # of which there are few
    assert any("ix_curves_grids" in plan for plan in plans)


def test_it_tells_how_old_the_newest_race_of_a_host_from_a_point_is(store: Store) -> None:
    register(store, "east", "west")
    east, key, point = store.get_host("east"), create_curve().workload.key, (8,)
    assert store.find_race_age(east, key, point) is None
    for number, age_s in enumerate((7200, 60)):
        sweep, _ = store.create_sweep(create_spec(start=number + 1, mode="race"), host="east")
        measured_at = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age_s)
        curve = dataclasses.replace(create_curve(), measured_at=measured_at)
        store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
    # The clocks of this machine and of the database agree here.
    assert store.find_race_age(east, key, point) == pytest.approx(60, abs=30)
    assert store.find_race_age(east, key, (9,)) is None
    assert store.find_race_age(store.get_host("west"), key, point) is None
    store.register_host("east", create_platform(threads=2), protocol=PROTOCOL, dtypes=["float32"])
    assert store.find_race_age(store.get_host("east"), key, point) is None
