"""The dashboards' queries, run against a real PostgreSQL as the role that Grafana has."""

from __future__ import annotations

import copy
import datetime as dt
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from profiler_service.access.caller import Caller
from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.samples import Platform
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.processes.dashboard_points import DashboardPoints
from profiler_service.storage.store import Store
from tests.conftest import new_database
from tests.deploy.dashboards import (
    DASHBOARDS,
    GRAFANA,
    Json,
    interpolate,
    named_columns,
    panels,
    sql_panels,
)
from tests.storage.test_schema import connect
from tests.synthetic import PLATFORM, PROTOCOL, SyntheticDevice, stairs

READER = "dashboards_reader"
OTHER_PLATFORM = replace(PLATFORM, device_model="another's")
HOSTS = {"east": PLATFORM, "west's": OTHER_PLATFORM}
QUICKLY_MS = 2000
"""A query among a thousand curves takes some tens of milliseconds; the machine may be busy."""


def measure(spec: SweepSpec, platform: Platform, *, seed: int) -> LatencyCurve:
    """The curve of a synthetic device."""
    device = SyntheticDevice(stairs(spec.grid, 4, 0.05), noise=0.01, seed=seed)
    planner = create_planner(spec)
    device.run(planner)
    return planner.build_curve(platform, PROTOCOL, dt.datetime.now(dt.UTC))


def specs() -> Iterator[SweepSpec]:
    """A grid of one axis and one of two, and a point that is raced three times."""

    def create(mode: Mode, *axes: GridAxis, seed: int = 0) -> SweepSpec:
        workload = (MATMUL if len(axes) == 1 else LINEAR).describe()
        return SweepSpec(workload=workload, mode=mode, grid=Grid(axes=axes), seed=seed)

    yield create("grid", GridAxis(first=100, count=24))
    yield create("grid", GridAxis(first=61, count=6), GridAxis(first=30, count=5))
    for seed in range(3):
        yield create("race", GridAxis(first=61, count=4), GridAxis(first=30, count=4), seed=seed)


def fill(store: Store) -> None:
    """Two hosts with curves, a sweep that failed, and one that is queued."""
    for host, platform in HOSTS.items():
        store.register_host(host, platform, protocol=PROTOCOL, dtypes=["float32"])
        for number, spec in enumerate(specs()):
            sweep, _ = store.create_sweep(spec, host=host)
            store.start_sweep(sweep.id)
            curve = measure(spec, platform, seed=number)
            store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
        points = DashboardPoints(store, host, max_points=1000)
        while points.consider():
            pass
        for count in (2, 3):
            grid = Grid(axes=(GridAxis(first=7, count=count),))
            spec = SweepSpec(workload=MATMUL.describe(), mode="grid", grid=grid)
            sweep, _ = store.create_sweep(spec, host=host)
            store.start_sweep(sweep.id)
            if count == 2:
                store.fail_sweep(sweep.id, "out of memory")


@dataclass(frozen=True, kw_only=True)
class Database:
    """A filled database, and how to ask it as Grafana does."""

    url: str
    asking: psycopg.Connection[Any]

    def ask(self, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The names of the columns, and the rows."""
        cursor = self.asking.execute(query.encode())
        assert cursor.description is not None
        return [column.name for column in cursor.description], cursor.fetchall()

    def find_values(self, dashboard: Json, **chosen: str) -> dict[str, list[str]]:
        """Variable → the values that it has: the chosen one, or as opened, the first, or all."""
        values: dict[str, list[str]] = {}
        for variable in dashboard["templating"]["list"]:
            if variable["datasource"]["uid"] != "curves":
                continue
            names, rows = self.ask(interpolate(variable["query"], values))
            assert rows, f"{variable['name']} has no value"
            assert names == ["__value", "__text"] or len(names) == 1
            found = [str(row[0]) for row in rows]
            if (name := variable["name"]) in chosen:
                assert chosen[name] in found
                found = [chosen[name]]
            values[name] = found if variable["multi"] else found[:1]
        return values


@pytest.fixture(scope="module")
def database(postgres_url: str, migrated_postgres: str) -> Iterator[Database]:
    with new_database(postgres_url, f"TEMPLATE {migrated_postgres}") as url:
        with closing(Store.open(url)) as store:
            fill(store)
            store.add_reader(READER, "hunter2", by=Caller())
        own = sa.make_url(url).set(username=READER, password="hunter2")
        with psycopg.connect(own.render_as_string(hide_password=False), autocommit=True) as asking:
            yield Database(url=url, asking=asking)
        with closing(Store.open(url)) as store:
            store.remove_reader(READER, by=Caller())


@pytest.mark.parametrize(
    ("name", "panel"),
    [pytest.param(*each, id=f"{each[0]} {each[1]['title']}") for each in sql_panels()],
)
def test_a_panel_s_query_returns_rows_with_the_columns_that_it_names(
    database: Database, name: str, panel: Json
) -> None:
    values = database.find_values(DASHBOARDS[name])
    [target] = panel["targets"]
    columns, rows = database.ask(interpolate(target["rawSql"], values))
    assert rows
    assert named_columns(panel) <= set(columns)
    assert len(set(columns)) == len(columns)


def test_a_chart_of_the_curve_shows_what_the_service_says(database: Database) -> None:
    """Its points, intervals and LHPs."""
    [panel] = [p for n, p in sql_panels() if (n, p["id"]) == ("curve", 2)]
    values = database.find_values(DASHBOARDS["curve"], workload=MATMUL.describe().key)
    columns, rows = database.ask(interpolate(panel["targets"][0]["rawSql"], values))
    with closing(Store.open(database.url)) as store:
        curve = store.load_curve(values["curve"][0])
    shown = dict(zip(columns, zip(*rows, strict=True), strict=True))
    assert shown["dim_1"] == tuple(range(100, 124))
    for column, array in (
        ("latency_s", curve.latency_s),
        ("low_s", curve.low_s),
        ("high_s", curve.high_s),
    ):
        assert shown[column] == pytest.approx(list(array), rel=1e-6)
    # Multiples of 4 are 5 % faster than the others: those are the LHPs that stand out.
    lhps = [dim for dim, each in zip(shown["dim_1"], shown["lhp_s"], strict=True) if each]
    assert len(lhps) == curve.num_lhps > 0


def test_queries_are_quick_among_a_thousand_curves(database: Database) -> None:
    with connect(database.url) as connection:
        for table, names in (
            ("sweeps", ["id"]),
            ("curves", ["id", "sweep_id"]),
            ("point_arrays", ["curve_id"]),
        ):
            found = sa.inspect(connection).get_columns(table)
            columns = [
                f"md5(t.{name} || n)" if name in names else f"t.{name}"
                for name in (column["name"] for column in found)
            ]
            which = "t.state = 'done'" if table == "sweeps" else "true"
            connection.exec_driver_sql(
                f"INSERT INTO {table} SELECT {', '.join(columns)}"
                f" FROM {table} AS t, generate_series(1, 100) AS n WHERE {which}"
            )
        # Two hosts have five curves each: now there are 10 × 101.
        assert connection.scalar(sa.text("SELECT count(*) FROM point_arrays")) == 1010
    database.asking.execute(f"SET statement_timeout = {QUICKLY_MS}")
    for name, panel in sql_panels():
        values = database.find_values(DASHBOARDS[name])
        database.ask(interpolate(panel["targets"][0]["rawSql"], values))


def test_a_variable_without_a_value_is_no_error(migrated_postgres_url: str) -> None:
    """As in a new installation: Grafana then fills in an empty list, or an empty text."""
    with psycopg.connect(migrated_postgres_url, autocommit=True) as asking:
        asking.execute("SET search_path = dashboards")
        for name, panel in sql_panels():
            values = {
                variable["name"]: [] if variable["multi"] else [""]
                for variable in DASHBOARDS[name]["templating"]["list"]
            }
            asking.execute(interpolate(panel["targets"][0]["rawSql"], values).encode())


def test_dashboards_ask_the_data_sources_that_are_provisioned() -> None:
    provisioned = {
        source["uid"]: source["type"]
        for path in (GRAFANA / "provisioning" / "datasources").iterdir()
        for source in yaml.safe_load(path.read_text())["datasources"]
    }
    asked = [each["datasource"] for _, panel in panels() for each in (panel, *panel["targets"])]
    for dashboard in DASHBOARDS.values():
        asked += [variable["datasource"] for variable in dashboard["templating"]["list"]]
    assert {(each["uid"], each["type"]) for each in asked} == set(provisioned.items())


def test_the_password_of_the_data_source_is_in_no_file() -> None:
    text = (GRAFANA / "provisioning" / "datasources" / "postgres.yml").read_text()
    [source] = yaml.safe_load(text)["datasources"]
    compose = yaml.safe_load((GRAFANA.parents[1] / "docker-compose.yml").read_text())["services"]
    assert source["secureJsonData"] == {"password": "$READER_PASSWORD"}
    assert compose["grafana"]["environment"]["READER_PASSWORD"].startswith("${READER_PASSWORD:?")
    reader = compose["reader"]
    assert reader["command"] == ["lhp", "db", "add-reader", source["user"]]
    # It has the service's own settings, too: the database's address among them.
    assert reader["environment"].items() >= compose["api-1"]["environment"].items()
    assert reader["environment"]["LHP_READER_PASSWORD"].startswith("${READER_PASSWORD:?")


def test_dashboards_need_no_plugin_and_can_be_told_apart() -> None:
    with_grafana = {"barchart", "stat", "table", "timeseries", "xychart"}
    assert {panel["type"] for _, panel in panels()} <= with_grafana
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)
    for name, dashboard in DASHBOARDS.items():
        cells: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24, name
            own = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not own & cells, f"{name}: {panel['title']} lies on another panel"
            cells |= own
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids)
        assert dashboard["title"].startswith("lhp: ") and dashboard["tags"] == ["lhp"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_times_have_a_unit(name: str) -> None:
    """Columns that end with `_s` are seconds, and shown as such: Grafana writes 21 µs."""
    for panel in DASHBOARDS[name]["panels"]:
        units = {
            override["matcher"]["options"]: each["value"]
            for override in panel["fieldConfig"]["overrides"]
            for each in override["properties"]
            if each["id"] == "unit"
        }
        default = panel["fieldConfig"]["defaults"]["unit"]
        shown = {each for each in named_columns_of_sql(panel) if each.endswith("_s")}
        assert {units.get(each, default) for each in shown} <= {"s"}, panel["title"]


def named_columns_of_sql(panel: Json) -> set[str]:
    """The columns of a panel's query, as far as its text says."""
    text = panel["targets"][0].get("rawSql", "").rsplit("SELECT ", 1)[-1].split(" FROM ")[0]
    return {each.split(" AS ")[-1].split(".")[-1].strip() for each in text.split(", ")}


def find_unknown(given: object, known: object, path: str = "") -> Iterator[str]:
    """What of `given` is missing in `known`, or another there."""
    if isinstance(given, dict) and isinstance(known, dict):
        for name, value in given.items():
            if name in known:
                yield from find_unknown(value, known[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif isinstance(given, list) and isinstance(known, list) and len(given) == len(known):
        for number, (one, other) in enumerate(zip(given, known, strict=True)):
            yield from find_unknown(one, other, f"{path}[{number}]")
    elif given != known:
        yield path


def unknown_to_grafana(dashboard: Json) -> list[str]:
    """What Grafana's own model of a dashboard, its panels and queries leaves out."""
    register_default_plugins()
    model = Dashboard.from_json(copy.deepcopy(dashboard))
    return [*find_unknown(dashboard, json.loads(JSONEncoder().encode(model)))]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafana_knows_every_field(name: str) -> None:
    assert unknown_to_grafana(DASHBOARDS[name]) == []


def test_sql_queries_have_what_grafana_s_editor_of_code_writes() -> None:
    """Its model above doesn't say what a query for PostgreSQL has."""
    fields = {"refId", "datasource", "editorMode", "rawQuery", "format", "rawSql"}
    for _, panel in sql_panels():
        [target] = panel["targets"]
        assert set(target) == fields
        assert (target["editorMode"], target["rawQuery"]) == ("code", True)
        assert target["format"] == ("time_series" if panel["type"] == "timeseries" else "table")


@pytest.mark.parametrize(
    ("place", "misspelt"),
    [
        ([], "panel"),
        (["panels", 1], "gridPosition"),
        (["panels", 1, "options", "series", 0], "z"),
        (["panels", 1, "fieldConfig", "defaults", "custom"], "pointSizes"),
    ],
)
def test_a_field_that_grafana_doesn_t_know_is_found(place: list[str | int], misspelt: str) -> None:
    spoilt: Any = copy.deepcopy(DASHBOARDS["curve"])
    inner = spoilt
    for step in place:
        inner = inner[step]
    inner[misspelt] = "so"
    [found] = unknown_to_grafana(spoilt)
    assert found.endswith(f".{misspelt}")
