"""Roles that read the views for dashboards, and nothing else; refused on SQLite."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from profiler_service import jobs
from profiler_service.access.audit import AuditFilter
from profiler_service.access.caller import Caller
from profiler_service.errors import ConflictError, InvalidRequestError
from profiler_service.processes.dashboard_points import DashboardPoints
from profiler_service.processes.serve import upgrade_database
from profiler_service.settings import Settings
from profiler_service.storage.backup import back_up, restore
from profiler_service.storage.readers import STATEMENT_TIMEOUT_S, VIEWS_SCHEMA
from profiler_service.storage.store import Host, Store
from profiler_service.storage.tables import metadata
from tests.databases import only_postgresql, only_sqlite
from tests.storage.examples import create_curve, finish_new_sweep
from tests.storage.test_joining import create_key, machine, url_of
from tests.storage.test_schema import connect

NAME = "grafana"
Ask = Callable[[str], list[tuple[object, ...]]]


@pytest.fixture
def reader(store: Store) -> Iterator[str]:
    assert store.add_reader(NAME, "first", by=Caller())
    yield NAME
    with contextlib.suppress(ConflictError):  # the test may have done so
        store.remove_reader(NAME, by=Caller())


@pytest.fixture
def ask(reader: str, database_url: str) -> Iterator[Ask]:
    """Runs a query as the reader. Changes stay if there is no error."""
    url = sa.make_url(database_url).set(username=reader, password="first")
    text = url.render_as_string(hide_password=False)
    with psycopg.connect(text, autocommit=True) as connection:
        yield lambda query: connection.execute(query.encode()).fetchall()


def views(url: str) -> list[str]:
    with connect(url) as connection:
        return sa.inspect(connection).get_view_names(VIEWS_SCHEMA)


@only_postgresql
def test_a_reader_reads_every_view_and_no_table(
    store: Store, host: Host, ask: Ask, database_url: str
) -> None:
    finish_new_sweep(store, create_curve(), start=1)
    DashboardPoints(store, "east", max_points=10).consider()
    assert {"curves", "curve_points", "facts", "hosts", "sweeps"} <= set(views(database_url))
    for view in views(database_url):
        ask(f"SELECT * FROM {view}")  # without naming the schema
    assert len(ask("SELECT * FROM curve_points")) == 3
    jobs.upgrade(Settings(database_url=database_url))
    for table in [*metadata.tables, "alembic_version"]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(f"SELECT 1 FROM public.{table}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask("SELECT 1 FROM dbos.workflow_status")


@only_postgresql
def test_a_reader_changes_nothing_even_if_it_says_that_it_writes(ask: Ask) -> None:
    ask("SELECT set_config('default_transaction_read_only', 'off', false)")
    for statement in (
        "CREATE TABLE public.mine (id integer)",
        "CREATE TABLE dashboards.mine (id integer)",
        "INSERT INTO dashboards.facts (id) VALUES ('mine')",
        "UPDATE dashboards.facts SET dims = '1'",
        "DELETE FROM public.hosts",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(statement)


@only_postgresql
def test_no_view_shows_what_is_secret_or_about_people(database_url: str) -> None:
    kept_back = {
        *("digest", "role", "machine", "worker", "client", "request_id", "device_lock", "arrays"),
        *("used_by", "address", "who", "findings"),
    }
    with connect(database_url) as connection:
        for view in views(database_url):
            columns = sa.inspect(connection).get_columns(view, schema=VIEWS_SCHEMA)
            assert not kept_back & {column["name"] for column in columns}, view


@only_postgresql
def test_a_reader_s_statements_are_bounded_and_read_only(ask: Ask) -> None:
    [(limit, is_read_only)] = ask(
        "SELECT current_setting('statement_timeout'), current_setting('transaction_read_only')"
    )
    assert (limit, is_read_only) == (f"{STATEMENT_TIMEOUT_S}s", "on")


@only_postgresql
def test_adding_a_reader_again_changes_its_password(
    store: Store, reader: str, database_url: str
) -> None:
    stored = sa.text("SELECT rolpassword FROM pg_authid WHERE rolname = :name")

    def verifier() -> str:
        with connect(database_url) as connection:
            return str(connection.scalar(stored, {"name": reader}))

    first = verifier()
    assert first.startswith("SCRAM-SHA-256$")
    assert not store.add_reader(reader, "second", by=Caller())
    assert verifier().startswith("SCRAM-SHA-256$") and verifier() != first
    entries = store.list_audit(AuditFilter(action="reader.add")).items
    assert [entry.subject for entry in entries] == [reader, reader]
    assert "second" not in str(entries)


@only_postgresql
def test_a_reader_that_is_removed_reads_nothing_any_more(
    store: Store, reader: str, ask: Ask, database_url: str
) -> None:
    assert ask("SELECT * FROM hosts") == []
    store.remove_reader(reader, by=Caller())
    with pytest.raises(psycopg.Error):
        ask("SELECT * FROM hosts")
    with pytest.raises(ConflictError, match="no reader"):
        store.remove_reader(reader, by=Caller())


@only_postgresql
def test_other_roles_are_left_alone(store: Store, host: Host, database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute(sa.text("CREATE ROLE somebody LOGIN"))
    try:
        for change in (
            lambda: store.add_reader("somebody", "mine", by=Caller()),
            lambda: store.remove_reader("somebody", by=Caller()),
        ):
            with pytest.raises(ConflictError, match="'somebody' is no reader"):
                change()
    finally:
        with connect(database_url) as connection:
            connection.execute(sa.text("DROP ROLE somebody"))
    for name in (
        "postgres; DROP TABLE hosts",
        "Grafana",
        "",
        "1st",
        "pg_read",
        "lhp_host_1",
        "x" * 64,
    ):
        with pytest.raises(InvalidRequestError, match="no name for a reader"):
            store.add_reader(name, "mine", by=Caller())


@only_postgresql
def test_a_host_s_role_may_store_points(store: Store, database_url: str) -> None:
    joined = store.join(create_key(store), machine("one", "m1"))
    finish_new_sweep(store, create_curve(), start=1, host="one")
    with closing(Store.open(url_of(database_url, joined))) as own:
        assert DashboardPoints(own, "one", max_points=10).consider() == 1


@only_postgresql
def test_an_upgrade_and_a_restore_give_readers_their_rights_again(
    store: Store,
    host: Host,
    ask: Ask,
    database_url: str,
    tmp_path: Path,
    postgres_programs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(postgres_programs), prepend=":")
    finish_new_sweep(store, create_curve(), start=1)
    DashboardPoints(store, "east", max_points=10).consider()
    back_up(database_url, tmp_path / "backup")
    restore(database_url, tmp_path / "backup", replace=True)
    upgrade_database(Settings(database_url=database_url))
    assert len(ask("SELECT * FROM curve_points")) == 3
    with connect(database_url) as connection:
        # As if an upgrade had made this view.
        connection.execute(sa.text("CREATE VIEW dashboards.coming AS SELECT 1 AS one"))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask("SELECT * FROM coming")
    upgrade_database(Settings(database_url=database_url))
    assert ask("SELECT * FROM coming") == [(1,)]


@only_sqlite
def test_sqlite_has_no_readers(store: Store) -> None:
    for change in (
        lambda: store.add_reader(NAME, "mine", by=Caller()),
        lambda: store.remove_reader(NAME, by=Caller()),
    ):
        with pytest.raises(ConflictError, match="no roles") as refused:
            change()
        assert "PostgreSQL" in refused.value.hint
