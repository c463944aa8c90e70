"""Backups: made while the database is in use, put back whole, and refused where they don't fit."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from profiler_service.access.caller import Caller
from profiler_service.access.join_keys import JoinTerms
from profiler_service.access.scopes import Scope
from profiler_service.errors import ConflictError, LhpError, SchemaTooNewError
from profiler_service.processes.serve import upgrade_database
from profiler_service.settings import Settings
from profiler_service.storage import roles, schema
from profiler_service.storage.backup import BackupError, back_up, restore
from profiler_service.storage.store import Host, Store, WorkerIdentity
from profiler_service.storage.tables import tokens
from tests.conftest import new_database
from tests.storage.examples import create_curve
from tests.storage.test_retention import finish, visits
from tests.storage.test_schema import connect, downgrade


@pytest.fixture(autouse=True)
def programs(postgres_programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL's programs of the server's version come first."""
    monkeypatch.setenv("PATH", str(postgres_programs), prepend=os.pathsep)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backups" / "monday"


@pytest.fixture
def target_url(database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A second database of the same kind, without a schema."""
    if database_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'new' / 'target.sqlite'}"
        return
    with new_database(request.getfixturevalue("postgres_url")) as url:
        yield url


@pytest.fixture
def full(store: Store, host: Host, file: Path, database_url: str) -> str:
    """The id of a sweep with two batches and a curve, of which `file` is a backup."""
    file.parent.mkdir()
    sweep_id = finish(store, visits(0, 1), visits(1))
    back_up(database_url, file)
    return sweep_id


def check_contents(url: str, sweep_id: str) -> None:
    with closing(Store.open(url)) as store:
        assert [sweep.id for sweep in store.list_sweeps().items] == [sweep_id]
        assert [list(each.point) for each in store.load_batches(sweep_id)] == [[0, 1], [1]]
        curve_id = store.get_sweep(sweep_id).curve_id
        assert curve_id is not None
        assert list(store.load_curve(curve_id).status) == list(create_curve().status)
        store.check_usable()


def test_a_backup_restores_into_an_empty_database(full: str, file: Path, target_url: str) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    restore(target_url, file, replace=False)
    check_contents(target_url, full)
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_what_is_there_is_replaced_only_if_that_is_asked_for(
    full: str, file: Path, store: Store, database_url: str
) -> None:
    later = finish(store, visits(2), start=30)
    generation = store.generation()
    with pytest.raises(ConflictError, match="isn't empty") as caught:
        restore(database_url, file, replace=False)
    assert "--replace" in caught.value.hint
    assert store.get_sweep(later).id == later
    restore(database_url, file, replace=True)
    check_contents(database_url, full)
    # What a service keeps in memory is of an earlier generation.
    assert store.generation() == generation + 1


def test_nothing_is_restored_under_a_worker(
    full: str, file: Path, store: Store, database_url: str
) -> None:
    identity = WorkerIdentity(id="w", description="one", device_lock="cpu")
    with closing(Store.open(database_url, worker=identity)) as worker:
        worker.take_lease("east")
        with pytest.raises(ConflictError, match="in use: east measures"):
            restore(database_url, file, replace=True)
        worker.release_lease("east")
    restore(database_url, file, replace=True)


def test_a_backup_of_an_older_schema_is_upgraded(
    full: str, file: Path, store: Store, database_url: str, tmp_path: Path
) -> None:
    store.close()
    downgrade(database_url, "0013")
    back_up(database_url, tmp_path / "old")
    schema.upgrade(database_url)
    restore(database_url, tmp_path / "old", replace=True)
    check_contents(database_url, full)


def test_a_backup_is_never_written_over_a_file(full: str, file: Path, database_url: str) -> None:
    before = file.read_bytes()
    with pytest.raises(BackupError, match="there already"):
        back_up(database_url, file)
    assert file.read_bytes() == before
    with pytest.raises(FileNotFoundError):
        back_up(database_url, file.parent / "missing" / "file")


def test_damaged_foreign_and_empty_files_change_nothing(
    full: str, file: Path, database_url: str, tmp_path: Path
) -> None:
    whole = file.read_bytes()
    spoilt = tmp_path / "spoilt"
    # In the middle of a table; cut off; text; nothing.
    middle = len(whole) // 2
    for content in (
        whole[: middle - 4096] + bytes([255] * 8192) + whole[middle + 4096 :],
        whole[:middle],
        b"not a backup\n" * 50,
        b"",
    ):
        spoilt.write_bytes(content)
        with pytest.raises(LhpError) as caught:
            restore(database_url, spoilt, replace=True)
        assert caught.value.hint
        check_contents(database_url, full)
    with pytest.raises(FileNotFoundError):
        restore(database_url, tmp_path / "missing", replace=True)


def test_a_backup_of_the_other_database_is_named(
    full: str, file: Path, database_url: str, tmp_path: Path
) -> None:
    is_sqlite = database_url.startswith("sqlite")
    other = tmp_path / "other"
    other.write_bytes(b"PGDMP" + bytes(20) if is_sqlite else b"SQLite format 3\0" + bytes(20))
    with pytest.raises(BackupError, match="and the database is") as caught:
        restore(database_url, other, replace=True)
    assert "lhp db export" in caught.value.hint


def test_a_backup_of_a_newer_schema_is_refused(migrated_file: Path, tmp_path: Path) -> None:
    newer = shutil.copyfile(migrated_file, tmp_path / "newer.sqlite")
    with connect(f"sqlite:///{newer}") as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(sa.text("UPDATE compatibility SET oldest = '9999'"))
    back_up(f"sqlite:///{newer}", tmp_path / "backup")
    url = f"sqlite:///{tmp_path / 'new.sqlite'}"
    with pytest.raises(SchemaTooNewError, match="9999"):
        restore(url, tmp_path / "backup", replace=False)
    assert schema.current_revision(url) is None


def test_missing_programs_of_postgresql_are_named(
    migrated_postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match="pg_dump isn't installed") as caught:
        back_up(migrated_postgres_url, tmp_path / "backup")
    assert "client programs" in caught.value.hint
    assert not (tmp_path / "backup").exists()


def test_upgrade_and_restore_give_the_hosts_roles_their_rights_again(
    postgres_database_url: str, tmp_path: Path
) -> None:
    settings = Settings(database_url=postgres_database_url)
    upgrade_database(settings)
    rights = (
        "SELECT has_table_privilege(:role, 'batches', 'INSERT'),"
        " has_table_privilege(:role, 'dbos.workflow_status', 'UPDATE'),"
        " has_column_privilege(:role, 'hosts', 'last_seen_at', 'UPDATE')"
    )
    with connect(postgres_database_url) as connection:
        installation = connection.scalar(sa.text("SELECT value FROM installation"))
        role, _ = roles.create_role(connection, str(installation))
    group = f"lhp_workers_{installation}"
    try:
        with connect(postgres_database_url) as connection:
            assert connection.execute(sa.text(rights), {"role": role}).one() == (True,) * 3
        back_up(postgres_database_url, tmp_path / "backup")
        restore(postgres_database_url, tmp_path / "backup", replace=True)
        with connect(postgres_database_url) as connection:
            # As if an upgrade had made these tables.
            for name in ("public", "dbos"):
                connection.execute(
                    sa.text(f"REVOKE ALL ON ALL TABLES IN SCHEMA {name} FROM {group}")
                )
        upgrade_database(settings)
        with connect(postgres_database_url) as connection:
            assert connection.execute(sa.text(rights), {"role": role}).one() == (True,) * 3
    finally:
        with connect(postgres_database_url) as connection:
            connection.execute(sa.text(f"DROP OWNED BY {group}"))
            connection.execute(sa.text(f"DROP ROLE {role}"))
            connection.execute(sa.text(f"DROP ROLE {group}"))


SPOILT_PROGRAM = r"""#!/bin/sh
for each in "$@"; do
    case "$each" in --file=*) script="${each#--file=}" ;; esac
done
printf 'SELECT 1;\n\\! touch "%s"\n' "$MADE" > "$script"
"""


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_forged_backup_of_postgresql_runs_no_shell(
    full: str, file: Path, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What `pg_restore` writes of a forged backup may have commands of psql.
    program = tmp_path / "programs" / "pg_restore"
    program.parent.mkdir()
    program.write_text(SPOILT_PROGRAM)
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setenv("MADE", str(tmp_path / "made"))
    with pytest.raises(BackupError, match="aren't SQL"):
        restore(database_url, file, replace=True)
    assert not (tmp_path / "made").exists()
    check_contents(database_url, full)


def test_a_restore_lists_whom_it_lets_in(
    full: str, store: Store, database_url: str, tmp_path: Path
) -> None:
    made = {}
    for name, lifetime_s in (("stays", None), ("revoked later", None), ("ends", 1.0)):
        made[name], _ = store.create_token(name, [Scope.READ], lifetime_s=lifetime_s, by=Caller())
    gone, _ = store.create_token("revoked before", [Scope.READ], lifetime_s=None, by=Caller())
    store.revoke_token(gone.id, by=Caller())
    keys: list[tuple[str, str | None]] = []
    if database_url.startswith("postgresql"):
        terms = JoinTerms(
            name="gpu-a", labels={}, is_approved=True, is_ephemeral=False, is_reusable=False
        )
        keys.append((store.create_join_key(terms, lifetime_s=600)[0].id, "gpu-a"))
        revoked = store.create_join_key(terms, lifetime_s=600)[0]
        store.revoke_join_key(revoked.id, by=Caller())
    with connect(database_url) as connection:
        ended = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
        connection.execute(
            sa.update(tokens).where(tokens.c.id == made["ends"].id).values(expires_at=ended)
        )
    back_up(database_url, tmp_path / "with tokens")
    store.revoke_token(made["revoked later"].id, by=Caller())
    let_in = restore(database_url, tmp_path / "with tokens", replace=True)
    assert [name for _, name in let_in.tokens] == ["stays", "revoked later"]
    assert let_in.join_keys == keys


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_secrets_in_the_url_are_in_no_argument(
    store: Store, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sa.make_url(database_url).update_query_dict({"sslpassword": "hunter2"})
    text = url.render_as_string(hide_password=False)
    back_up(text, tmp_path / "real")
    # A stand-in for pg_dump notes what it is told.
    stand_in = tmp_path / "pg_dump"
    stand_in.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\ncp "$PGSERVICEFILE" {tmp_path}/service\n'
        'for each; do case "$each" in --file=*) : > "${each#--file=}" ;; esac; done\n'
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    back_up(text, tmp_path / "noted")
    assert "hunter2" not in (tmp_path / "arguments").read_text()
    assert "sslpassword=hunter2" in (tmp_path / "service").read_text().splitlines()
