"""Points of curves are stored once more, and views show them, in PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from pydantic import BaseModel

from profiler_service.analysis.curve import PointStatus
from profiler_service.kinds import LINEAR
from profiler_service.plan.modes import MODES, Mode
from profiler_service.plan.spec import SweepState
from profiler_service.plan.turns import Demand
from profiler_service.processes import dashboard_points
from profiler_service.processes.dashboard_points import DashboardPoints
from profiler_service.storage.records import EPHEMERAL_SILENCE_S
from profiler_service.storage.store import Host, HostStatus, Store
from profiler_service.storage.tables import curve_arrays, hosts, point_arrays
from profiler_service.wire import CurveInfo, FactInfo, HostInfo, ProgressInfo, SweepInfo
from tests.databases import only_postgresql, only_sqlite
from tests.storage.examples import (
    PROTOCOL,
    create_curve,
    create_platform,
    create_spec,
    finish_new_sweep,
)
from tests.storage.test_schema import connect

NUM_POINTS = 3
"""Measured points of the example curve."""


def read(url: str, query: str) -> list[dict[str, Any]]:
    with connect(url) as connection:
        return [dict(row._mapping) for row in connection.execute(sa.text(query))]


def shown_curves(url: str) -> set[str]:
    """Ids of the curves whose points SQL can read."""
    with connect(url) as connection:
        return set(connection.scalars(sa.select(point_arrays.c.curve_id)))


def create_points(store: Store, *, max_points: int = 100) -> DashboardPoints:
    return DashboardPoints(store, "east", max_points=max_points)


@only_postgresql
def test_the_view_shows_the_measured_points_as_the_service_does(
    store: Store, host: Host, database_url: str
) -> None:
    curve = create_curve()
    curve = replace(curve, low_s=np.where([False, True, False, False], np.nan, curve.low_s))
    curve_id = finish_new_sweep(store, curve, start=1)
    assert create_points(store).consider() == 1
    # From 8 in steps of 2; the last of the four points wasn't measured.
    columns = "dims, dim_1, dim_2, slice, status, is_lhp, num_samples, latency_s, low_s, high_s"
    rows = read(
        database_url,
        f"SELECT {columns} FROM dashboards.curve_points WHERE curve = '{curve_id}' ORDER BY dim_1",
    )
    assert [tuple(row.values())[:7] for row in rows] == [
        ("8", 8, None, "*", "lhp", True, 10),
        ("10", 10, None, "*", "dominated", False, 11),
        ("12", 12, None, "*", "undecided", False, 12),
    ]
    assert [row["latency_s"] for row in rows] == pytest.approx([2.1e-5, 2.2e-5, 2.3e-5])
    assert [row["low_s"] for row in rows] == [pytest.approx(2e-5), None, pytest.approx(2.2e-5)]
    assert [row["high_s"] for row in rows] == pytest.approx([2.2e-5, 2.3e-5, 2.4e-5])


@only_postgresql
def test_a_point_of_two_axes_has_two_dims_and_a_slice(
    store: Store, host: Host, database_url: str
) -> None:
    finish_new_sweep(store, create_curve(workload=LINEAR.describe()), start=1)
    create_points(store).consider()
    rows = read(
        database_url,
        "SELECT dims, dim_1, dim_2, dim_3, slice, workload, platform, host, mode"
        " FROM dashboards.curve_points ORDER BY dim_1, dim_2",
    )
    # 8 and 9, 3 and 8; (9, 8) wasn't measured.
    of = (LINEAR.describe().key, create_platform().key, "east", "grid")
    assert [tuple(row.values()) for row in rows] == [
        ("8,3", 8, 3, None, "*,3", *of),
        ("8,8", 8, 8, None, "*,8", *of),
        ("9,3", 9, 3, None, "*,3", *of),
    ]


@only_postgresql
@pytest.mark.parametrize("status", [each for each in PointStatus if each])
def test_a_status_has_its_name(
    status: PointStatus, store: Store, host: Host, database_url: str
) -> None:
    given = np.full(4, status, dtype=np.int8)
    finish_new_sweep(store, replace(create_curve(), status=given), start=1)
    create_points(store).consider()
    [row, *_] = read(database_url, "SELECT status FROM dashboards.curve_points ORDER BY dim_1")
    assert row["status"] == status.name.lower()


@only_postgresql
def test_the_race_of_a_point_shows_its_latency(store: Store, host: Host, database_url: str) -> None:
    sweep, _ = store.create_sweep(create_spec(mode="race", start=8), host="east")
    curve_id = store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    finish_new_sweep(store, create_curve(), start=1)  # a grid
    while create_points(store).consider():
        pass
    [race] = read(
        database_url, "SELECT curve, dims, latency_s, low_s, high_s FROM dashboards.races"
    )
    assert tuple(race.values()) == (
        curve_id,
        "8",
        *(pytest.approx(x) for x in (2.1e-5, 2e-5, 2.2e-5)),
    )


@only_postgresql
@pytest.mark.parametrize("mode", MODES)
def test_redundancy_is_shown_where_it_has_a_meaning(
    mode: Mode, store: Store, host: Host, database_url: str
) -> None:
    sweep, _ = store.create_sweep(create_spec(mode=mode), host="east")
    store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    create_points(store).consider()
    [row] = read(database_url, "SELECT redundancy, stale, has_points FROM dashboards.curves")
    # One of three points is an LHP.
    expected = pytest.approx(2 / 3) if MODES[mode].decides_every_point else None
    is_shown = MODES[mode].answers_for != "kernels"
    assert tuple(row.values()) == (expected, False, is_shown)


@only_postgresql
def test_a_curve_of_another_platform_is_stale(store: Store, host: Host, database_url: str) -> None:
    finish_new_sweep(store, create_curve(platform=create_platform(threads=2)), start=1)
    [row] = read(database_url, "SELECT stale FROM dashboards.curves")
    assert row["stale"]


@only_postgresql
def test_hosts_and_sweeps_are_shown_as_the_service_does(
    store: Store, host: Host, database_url: str
) -> None:
    spec = create_spec()
    store.create_sweep(spec, host="east")
    with connect(database_url) as connection:
        for name, change in (
            ("silent", {"is_ephemeral": True}),
            ("changed", {"offered_platform_key": create_platform().key}),
            ("leaving", {"status": HostStatus.DRAINING}),
        ):
            store.register_host(name, create_platform(), protocol=PROTOCOL, dtypes=[])
            connection.execute(sa.update(hosts).where(hosts.c.name == name).values(change))
        long_ago = sa.text(f"now() - interval '{EPHEMERAL_SILENCE_S + 60} s'")
        connection.execute(
            sa.update(hosts).where(hosts.c.name == "silent").values(last_seen_at=long_ago)
        )
    shown = read(database_url, "SELECT name, status, num_open FROM dashboards.hosts")
    assert {row["name"]: row["status"] for row in shown} == {
        each.name: each.status for each in store.list_hosts()
    }
    assert {row["name"]: row["num_open"] for row in shown if row["num_open"]} == {"east": 1}
    [sweep] = read(database_url, "SELECT workload, state, took_s FROM dashboards.sweeps")
    assert tuple(sweep.values()) == (spec.workload.key, "queued", None)


@only_postgresql
def test_new_curves_come_first_and_older_ones_follow(
    store: Store, host: Host, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard_points, "GENERATIONS_PER_STEP", 1)
    old = [finish_new_sweep(store, create_curve(), start=start) for start in (1, 20, 40)]
    points = create_points(store, max_points=NUM_POINTS)
    assert points.consider() == 1
    assert shown_curves(database_url) == {old[2]}
    new = finish_new_sweep(store, create_curve(), start=60)
    assert points.consider() == 1
    assert shown_curves(database_url) == {old[2], new}
    steps = 0
    while shown_curves(database_url) != {*old, new}:
        points.consider()
        steps += 1
        assert steps < 10
    # A worker that starts later finds nothing left.
    later = create_points(store)
    assert [later.consider() for _ in range(10)] == [0] * 10


@only_postgresql
def test_a_step_takes_about_as_many_points_as_one_curve_may_have(
    store: Store, host: Host, database_url: str
) -> None:
    for start in (1, 20, 40):
        finish_new_sweep(store, create_curve(), start=start)
    points = create_points(store, max_points=2 * NUM_POINTS)
    assert [points.consider() for _ in range(3)] == [2, 1, 0]
    assert len(shown_curves(database_url)) == 3


@only_postgresql
def test_larger_curves_are_left_out(store: Store, host: Host, database_url: str) -> None:
    finish_new_sweep(store, create_curve(), start=1)
    assert create_points(store, max_points=NUM_POINTS - 1).consider() == 0
    assert create_points(store, max_points=0).consider() == 0
    assert shown_curves(database_url) == set()
    assert create_points(store, max_points=NUM_POINTS).consider() == 1


@only_postgresql
def test_nothing_is_stored_while_a_question_waits(
    store: Store, host: Host, database_url: str
) -> None:
    finish_new_sweep(store, create_curve(), start=1)
    points = create_points(store)
    demand = Demand(expected_s=1.0, is_awaited=True)
    asked, _ = store.create_sweep(create_spec(mode="race", start=50), host="east", demand=demand)
    assert points.consider() == 0
    store.finish_sweep(asked.id, None, state=SweepState.DONE)
    # A sweep that nobody waits for keeps nothing from being stored.
    store.create_sweep(create_spec(start=70), host="east")
    assert points.consider() == 1
    assert len(shown_curves(database_url)) == 1


@only_postgresql
def test_a_damaged_curve_is_named_and_passed_over(
    store: Store, host: Host, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, whole = (finish_new_sweep(store, create_curve(), start=start) for start in (1, 20))
    with connect(database_url) as connection:
        connection.execute(
            sa.update(curve_arrays)
            .where(curve_arrays.c.curve_id == damaged)
            .values(arrays=b"nothing that Arrow reads")
        )
    points = create_points(store)
    assert [points.consider(), points.consider()] == [2, 0]
    assert shown_curves(database_url) == {whole}
    assert damaged in caplog.text


@only_sqlite
def test_sqlite_stores_no_points_a_second_time(store: Store, host: Host, database_url: str) -> None:
    finish_new_sweep(store, create_curve(), start=1)
    assert create_points(store).consider() == 0
    assert shown_curves(database_url) == set()


@only_postgresql
@pytest.mark.parametrize(
    ("view", "resource", "more"),
    [
        ("curves", CurveInfo, {"kind", "device_model", "has_points"}),
        ("facts", FactInfo, {"kind", "low", "high"}),
        ("hosts", HostInfo, {"device_model", "num_open", "status"}),
        (
            "sweeps",
            SweepInfo,
            {"kind", *("waited_s", "took_s"), *ProgressInfo.model_fields},
        ),
    ],
)
def test_columns_have_the_names_of_the_api(
    view: str, resource: type[BaseModel], more: set[str], database_url: str
) -> None:
    with connect(database_url) as connection:
        columns = sa.inspect(connection).get_columns(view, schema="dashboards")
    names = {column["name"] for column in columns}
    assert names - set(resource.model_fields) == more


@only_postgresql
def test_an_idle_worker_looks_seldom_and_goes_on_while_there_is_something(
    store: Store, host: Host
) -> None:
    now_s = 0.0
    points = DashboardPoints(store, "east", max_points=3, clock=lambda: now_s)
    for start in (1, 2):  # three measured points each: one curve a step
        finish_new_sweep(store, create_curve(), start=start)
    assert [points.consider(is_idle=True) for _ in range(3)] == [1, 1, 0]
    finish_new_sweep(store, create_curve(), start=3)
    now_s = 299.0
    assert points.consider(is_idle=True) == 0
    assert points.consider(is_idle=False) == 1
    finish_new_sweep(store, create_curve(), start=4)
    now_s = 600.0
    assert points.consider(is_idle=True) == 1
