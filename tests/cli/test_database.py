"""`lhp db`: sizes, pruning, backups, and curves that leave and enter."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope
from profiler_service.storage.store import Store
from tests.cli.conftest import Lhp
from tests.storage.examples import PROTOCOL, create_platform
from tests.storage.test_retention import finish, visits


@pytest.fixture(autouse=True)
def settings(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LHP_DATABASE_URL", database_url)


@pytest.fixture
def sweep_id(store: Store) -> str:
    """A sweep that has ended, with two samples of one point, and a curve."""
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
    return finish(store, visits(0, 0))


def test_stats_shows_each_table_and_what_a_prune_would_free(lhp: Lhp, sweep_id: str) -> None:
    done = lhp("db", "stats", "--raw-older-than", "0s")
    assert done.code == 0
    heading, *lines, last = done.out.splitlines()
    assert heading.split() == ["TABLE", "ROWS", "SIZE"]
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert rows["batches"][0] == rows["curves"][0] == "1"
    assert last.startswith("`lhp db prune --raw-older-than 0s` would free")
    assert last.endswith("(sweeps to prune: 1)")
    shown = json.loads(lhp("db", "stats", "--json").out)
    assert {table["name"] for table in shown["tables"]} >= {"batches", "facts"}
    assert shown["prunable"]["num_sweeps"] == 0  # it hasn't been there for 30 days


def test_prune_says_what_it_did_and_refuses_what_is_no_age(lhp: Lhp, sweep_id: str) -> None:
    assert "sweeps pruned: 0;" in lhp("db", "prune", "--raw-older-than", "30d").err
    assert "sweeps pruned: 1;" in lhp("db", "prune", "--raw-older-than", "0s").err
    refused = lhp("db", "prune", "--raw-older-than", "a month")
    assert refused.code == 2 and "no duration" in refused.err
    assert lhp("db", "prune").code == 2  # nothing is pruned by default


def test_a_database_without_a_schema_is_told_what_to_do(
    lhp: Lhp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LHP_DATABASE_URL", "sqlite:///missing.sqlite")
    done = lhp("db", "stats")
    assert done.code == 1 and "lhp db upgrade" in done.err


def test_a_backup_is_made_and_put_back(
    lhp: Lhp, store: Store, sweep_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not os.environ["LHP_DATABASE_URL"].startswith("sqlite"):
        pytest.skip("tests/storage/test_backup.py does this with PostgreSQL's programs")
    token, _ = store.create_token("ci", [Scope.READ], lifetime_s=None, by=Caller())
    assert "the backup is monday" in lhp("db", "backup", "monday").err
    refused = lhp("db", "restore", "monday")
    assert refused.code == 1 and "--replace" in refused.err
    monkeypatch.setenv("LHP_DATABASE_URL", f"sqlite:///{tmp_path / 'new.sqlite'}")
    said = lhp("db", "restore", "monday").err
    assert "restored" in said and f"token {token.id} (ci) is valid" in said
    with closing(Store.open(f"sqlite:///{tmp_path / 'new.sqlite'}")) as restored:
        assert restored.get_sweep(sweep_id).id == sweep_id
    missing = lhp("db", "restore", "tuesday")
    assert missing.code == 1 and "tuesday" in missing.err


def test_curves_leave_as_parquet_and_enter_another_database_once(
    lhp: Lhp, sweep_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "curves exported: 1" in lhp("db", "export", "curves.parquet").err
    assert lhp("db", "export", "curves.parquet").code == 1  # it is there already
    assert "curves exported: 0" in lhp("db", "export", "none.parquet", "--kind", "linear").err
    monkeypatch.setenv("LHP_DATABASE_URL", f"sqlite:///{tmp_path / 'new.sqlite'}")
    assert lhp("db", "upgrade").code == 0
    assert "imported: 1; here already: 0" in lhp("db", "import", "curves.parquet").err
    assert "imported: 0; here already: 1" in lhp("db", "import", "curves.parquet").err
    Path("curves.parquet").write_bytes(b"PAR1 of something else")
    refused = lhp("db", "import", "curves.parquet")
    assert refused.code == 1 and "hint: the file is damaged" in refused.err


def test_a_reader_gets_the_password_that_is_set_or_a_new_one(
    lhp: Lhp, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.environ["LHP_DATABASE_URL"].startswith("sqlite"):
        refused = lhp("db", "add-reader", "grafana")
        assert refused.code == 1 and "use PostgreSQL" in refused.err
        return
    made = lhp("db", "add-reader", "grafana")
    assert "role grafana is new" in made.err and len(made.out.strip()) >= 32
    monkeypatch.setenv("LHP_READER_PASSWORD", "hunter2")
    changed = lhp("db", "add-reader", "grafana")
    assert (changed.code, changed.out) == (0, "")
    assert "there, with a new password" in changed.err and "hunter2" not in changed.err
    assert "role grafana is dropped" in lhp("db", "rm-reader", "grafana").err
    assert lhp("db", "rm-reader", "grafana").code == 1
