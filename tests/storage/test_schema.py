"""The schema's revisions: made, checked, refused."""

from __future__ import annotations

import importlib.resources
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy.engine import Connection

from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.errors import SchemaTooNewError, SchemaTooOldError, StoreUnavailableError
from profiler_service.kinds import MATMUL
from profiler_service.plan.spec import SweepState
from profiler_service.storage import schema
from profiler_service.storage.database import create_database_engine, parse_url, write_access
from profiler_service.storage.store import Store
from profiler_service.storage.tables import metadata
from tests.storage.examples import PROTOCOL, create_curve, create_platform, create_spec

HEAD = "0024"


@contextmanager
def connect(url: str) -> Iterator[Connection]:
    """A connection in a transaction that is committed at the end."""
    engine = create_database_engine(parse_url(url))
    try:
        with write_access(engine).begin() as connection:
            yield connection
    finally:
        engine.dispose()


def downgrade(url: str, revision: str) -> None:
    config = Config()
    config.set_main_option(
        "script_location", str(importlib.resources.files("profiler_service.migrations"))
    )
    with connect(url) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def list_tables(url: str) -> set[str]:
    with connect(url) as connection:
        return set(sa.inspect(connection).get_table_names())


def test_migrations_make_the_tables_that_the_code_uses(database_url: str) -> None:
    with connect(database_url) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_unfinished_sweeps_are_unique_only_while_unfinished(database_url: str) -> None:
    # compare_metadata doesn't look at the condition of an index
    with connect(database_url) as connection:
        (index,) = (
            index
            for index in sa.inspect(connection).get_indexes("sweeps")
            if index["name"] == "uq_sweeps_unfinished"
        )
        condition = str(index["dialect_options"][f"{connection.dialect.name}_where"])
    assert index["unique"]
    assert "queued" in condition and "running" in condition and "cancel_requested" in condition


def test_upgrade_makes_the_schema_and_may_be_repeated(empty_database_url: str) -> None:
    assert schema.current_revision(empty_database_url) is None
    schema.upgrade(empty_database_url)
    assert schema.current_revision(empty_database_url) == HEAD
    schema.upgrade(empty_database_url)
    assert schema.current_revision(empty_database_url) == HEAD
    assert list_tables(empty_database_url) == {*metadata.tables, "alembic_version"}


def test_downgraded_schema_is_too_old_and_can_be_upgraded(database_url: str) -> None:
    downgrade(database_url, "base")
    assert list_tables(database_url) == {"alembic_version"}
    with pytest.raises(SchemaTooOldError, match="no schema") as caught:
        Store.open(database_url)
    assert "lhp db upgrade" in caught.value.hint
    schema.upgrade(database_url)
    Store.open(database_url).close()


def test_hosts_from_before_there_were_backends_have_the_dense_one(database_url: str) -> None:
    store = Store.open(database_url)
    backends = {"dense": ["float32"], "csr": []}
    store.register_host(
        "east", create_platform(), protocol=PROTOCOL, dtypes=["float32"], backends=backends
    )
    assert store.get_host("east").backends == {"dense": ("float32",), "csr": ()}
    store.close()
    downgrade(database_url, "0001")
    schema.upgrade(database_url)
    store = Store.open(database_url)
    assert store.get_host("east").backends == {"dense": ("float32",)}
    store.close()


def test_empty_database_is_too_old(empty_database_url: str) -> None:
    with pytest.raises(SchemaTooOldError) as caught:
        Store.open(empty_database_url)
    assert "lhp db upgrade" in caught.value.hint


def test_newer_schema_that_takes_away_what_this_version_uses_is_refused(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(sa.text("UPDATE compatibility SET oldest = '9998'"))
    for use in (Store.open, schema.upgrade):
        with pytest.raises(SchemaTooNewError, match="9999") as caught:
            use(database_url)
        assert "newer version" in caught.value.hint
    assert schema.current_revision(database_url) == "9999"


def test_upgrade_is_silent_and_indifferent_to_the_working_directory(
    empty_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    schema.upgrade(empty_database_url)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert list(elsewhere.iterdir()) == []


def test_failed_upgrade_leaves_nothing(empty_database_url: str) -> None:
    # The last table that the first migration makes is in the way.
    with connect(empty_database_url) as connection:
        connection.execute(sa.text("CREATE TABLE generation (id INTEGER)"))
    with pytest.raises(StoreUnavailableError, match="generation"):
        schema.upgrade(empty_database_url)
    assert list_tables(empty_database_url) == {"generation"}


def test_sqlite_directories_are_made_by_upgrade_alone(tmp_path: Path) -> None:
    path = tmp_path / "100 % new" / "deep" / "lhp.sqlite"
    url = f"sqlite:///{path}"
    with pytest.raises(SchemaTooOldError, match="doesn't exist yet"):
        Store.open(url)
    assert schema.current_revision(url) is None
    assert not path.parent.exists()
    schema.upgrade(url)
    Store.open(url).close()


def test_sqlite_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailableError, match="file") as caught:
        schema.upgrade(f"sqlite:///{tmp_path / 'file' / 'lhp.sqlite'}")
    assert "LHP_DATABASE_URL" in caught.value.hint


def test_races_from_before_are_found_by_their_first_point(database_url: str) -> None:
    store = Store.open(database_url)
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
    kept = {}
    for mode in ("race", "grid"):
        sweep, _ = store.create_sweep(create_spec(mode=mode, start=8), host="east")
        kept[mode] = store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    store.close()
    downgrade(database_url, "0004")
    schema.upgrade(database_url)
    store = Store.open(database_url)
    key = MATMUL.describe().key, create_platform().key, PROTOCOL.key
    # The example curve starts at 8.
    assert [h.id for h in store.find_answering(*key, (8,), limit=9)] == [kept["race"]]
    assert [h.id for h in store.find_answering(*key, None, limit=9)] == [kept["grid"]]
    assert store.find_answering(*key, (9,), limit=9) == []
    assert [h.mode for h in store.find_new_curves(after_generation=-1, limit=9)] == ["race", "grid"]
    store.close()


def test_facts_from_before_workers_were_kept_are_by_nobody(database_url: str) -> None:
    store = Store.open(database_url)
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
    pair = ConfirmedPair(
        dims=(8,),
        rival=(10,),
        verdict="faster",
        ratio=0.97,
        low=0.96,
        high=0.98,
        num_pairs=100,
        noise=0.002,
    )
    sweep, _ = store.create_sweep(create_spec(mode="race", start=8), host="east")
    store.finish_sweep(sweep.id, replace(create_curve(), confirmed=(pair,)), state=SweepState.DONE)
    store.close()
    downgrade(database_url, "0010")
    schema.upgrade(database_url)
    store = Store.open(database_url)
    key = MATMUL.describe().key, create_platform().key, PROTOCOL.key
    [fact] = store.find_facts(*key, (8,), limit=9)
    assert (fact.worker, fact.pair) == ("", replace(pair, noise=None))
    store.close()
    # From before there were facts, there are none.
    downgrade(database_url, "0008")
    schema.upgrade(database_url)
    store = Store.open(database_url)
    assert store.find_facts(*key, (8,), limit=9) == []
    store.close()
