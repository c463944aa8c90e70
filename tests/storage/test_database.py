"""URLs, how connections are set up, and databases that can't be reached."""

from __future__ import annotations

import socket
import traceback
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from profiler_service.errors import StoreUnavailableError
from profiler_service.storage import schema
from profiler_service.storage.database import create_database_engine, parse_url, write_access
from profiler_service.storage.store import Store
from tests.storage.examples import PROTOCOL, create_platform

PASSWORD = "s3cret-pa55"


def closed_port() -> int:
    """A TCP port of this machine on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "url",
    [
        "",
        PASSWORD,
        f"//{PASSWORD}",
        f"postgresql://user:{PASSWORD}@host:port/lhp",
        f"mysql://user:{PASSWORD}@127.0.0.1/lhp",
        f"postgresql+psycopg2://user:{PASSWORD}@127.0.0.1/lhp",
        f"nonsense://user:{PASSWORD}@127.0.0.1/lhp",
        f"sqlite://user:{PASSWORD}@lhp.sqlite",
        "sqlite://lhp.sqlite",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:////tmp/curves?/lhp.sqlite",  # would be the file /tmp/curves
        "sqlite:///file:lhp?mode=memory&uri=true",
    ],
)
def test_url_that_cannot_be_meant_is_refused_without_repeating_its_password(url: str) -> None:
    for use in (Store.open, schema.upgrade, schema.current_revision):
        with pytest.raises(StoreUnavailableError) as caught:
            use(url)
        assert "sqlite:///" in caught.value.hint
        assert PASSWORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:{password}@127.0.0.1:{port}/lhp",
        "postgres://user:{password}@127.0.0.1:{port}/lhp",
        "postgresql+psycopg://127.0.0.1:{port}/lhp?user=user&password={password}",
        "postgresql:///lhp?host=/nowhere&password={password}",
        "postgresql://user:{password}@127.0.0.1:{port}/lhp?no_such_option=1",
    ],
)
def test_unreachable_postgresql_is_named_without_its_password(url: str) -> None:
    url = url.format(password=PASSWORD, port=closed_port())
    for use in (Store.open, schema.upgrade, schema.current_revision):
        with pytest.raises(StoreUnavailableError, match="PostgreSQL database 'lhp'") as caught:
            use(url)
        assert "check host, port" in caught.value.hint
        assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lhp.sqlite"
    path.write_text("no database " * 100)
    for use in (Store.open, schema.upgrade, schema.current_revision):
        with pytest.raises(StoreUnavailableError, match="not a database"):
            use(f"sqlite:///{path}")
    assert path.read_text() == "no database " * 100


def test_every_sqlite_connection_is_set_up(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'lhp.sqlite'}"
    schema.upgrade(url)
    engine = create_database_engine(parse_url(url))
    expected = {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 1, "busy_timeout": 15_000}
    with engine.connect() as one, engine.connect() as two:
        for connection in (one, two):
            assert expected == {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in expected
            }
    engine.dispose()


def test_writer_locks_out_writers_from_its_start_and_readers_never(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'lhp.sqlite'}"
    schema.upgrade(url)
    engine = create_database_engine(parse_url(url))
    with write_access(engine).begin(), engine.connect() as reader:
        assert reader.exec_driver_sql("SELECT value FROM generation").scalar() == 0
        reader.exec_driver_sql("PRAGMA busy_timeout = 0")
        with pytest.raises(sa.exc.OperationalError, match="locked"):
            reader.exec_driver_sql("UPDATE generation SET value = 1")
    engine.dispose()


def test_connection_cut_by_the_server_is_replaced(migrated_postgres_url: str) -> None:
    server = sa.create_engine(
        parse_url(migrated_postgres_url).set(database="postgres"), isolation_level="AUTOCOMMIT"
    )
    name = parse_url(migrated_postgres_url).database
    with closing(Store.open(migrated_postgres_url)) as store:
        store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
        with server.connect() as connection:
            cut = connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid, 10000)"
                    " FROM pg_stat_activity WHERE datname = :name"
                ),
                {"name": name},
            )
            assert cut.all() == [(True,)]
            store.ping()
            assert store.get_host("east").name == "east"
            # And when it stays away:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
            with pytest.raises(StoreUnavailableError, match=str(name)):
                store.ping()
    server.dispose()


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE hosts RENAME TO hosts_before", "ALTER TABLE hosts RENAME COLUMN dtypes TO types"],
    ids=["no table", "no column"],
)
def test_tables_that_were_changed_under_a_store_make_the_database_unavailable(
    store: Store, database_url: str, change: str
) -> None:
    """By another version's upgrade, say: that is no defect of this one."""
    engine = create_database_engine(parse_url(database_url))
    with engine.begin() as connection:
        connection.exec_driver_sql(change)
    engine.dispose()
    with pytest.raises(StoreUnavailableError) as caught:
        store.list_hosts()
    assert caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE batches RENAME TO batches_before",
        "ALTER TABLE curve_arrays RENAME TO curve_arrays_before",
        "ALTER TABLE sweeps RENAME COLUMN progress TO state_of_work",
    ],
)
def test_a_store_that_lacks_any_table_or_column_cant_be_used(
    store: Store, database_url: str, change: str
) -> None:
    store.check_usable()
    engine = create_database_engine(parse_url(database_url))
    with engine.begin() as connection:
        connection.exec_driver_sql(change)
    engine.dispose()
    with pytest.raises(StoreUnavailableError) as caught:
        store.check_usable()
    assert caught.value.hint
