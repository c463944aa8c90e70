"""A SQLite database whose file is lost, or that can't grow, while it is in use."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from profiler_service.errors import StoreLostError, StoreNotWritableError
from profiler_service.storage import schema, sqlite_files
from profiler_service.storage.store import Store
from tests.storage.examples import (
    PROGRESS,
    PROTOCOL,
    create_platform,
    create_samples,
    create_spec,
)

NOBODY = 65534
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A SQLite database with the current schema, in a directory of its own."""
    path = tmp_path / "kept" / "lhp.sqlite"
    schema.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def opened(path: Path) -> Iterator[Store]:
    """A store on that database, with a host, `east`."""
    with closing(Store.open(f"sqlite:///{path}", timeout_s=1)) as store:
        store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
        store.check_usable()
        yield store


def replace(path: Path) -> None:
    other = path.with_name("other.sqlite")
    schema.upgrade(f"sqlite:///{other}")
    other.rename(path)


def with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@pytest.mark.parametrize(
    ("lose", "how"),
    [
        pytest.param(Path.unlink, "deleted or moved", id="deleted"),
        pytest.param(lambda path: path.rename(path.with_name("away")), "deleted", id="moved"),
        pytest.param(lambda path: shutil.rmtree(path.parent), "deleted", id="directory deleted"),
        pytest.param(replace, "another file", id="replaced"),
        pytest.param(lambda path: os.truncate(path, 0), "emptied", id="emptied"),
        pytest.param(lambda path: with_suffix(path, "-wal").unlink(), "-wal", id="log deleted"),
        pytest.param(lambda path: with_suffix(path, "-shm").unlink(), "-shm", id="index deleted"),
    ],
)
def test_a_lost_file_is_noticed_at_once_and_nothing_is_written_any_more(
    opened: Store, path: Path, lose: Callable[[Path], object], how: str
) -> None:
    lose(path)
    left = sorted(path.parent.glob("*")) if path.parent.exists() else []
    for use in (
        opened.check_usable,
        opened.ping,
        lambda: opened.touch_host("east"),
        lambda: opened.create_sweep(create_spec(), host="east"),
    ):
        with pytest.raises(StoreLostError, match=how) as caught:
            use()
        assert "put the file back" in caught.value.hint
    # No new, empty file takes its place, which would hide the loss from whoever starts next.
    assert (sorted(path.parent.glob("*")) if path.parent.exists() else []) == left


def test_a_file_that_is_put_back_is_used_again(opened: Store, path: Path) -> None:
    away = path.with_name("away")
    path.rename(away)
    with pytest.raises(StoreLostError):
        opened.touch_host("east")
    away.rename(path)
    opened.touch_host("east")
    opened.check_usable()


def test_what_was_lost_during_a_transaction_was_not_kept(opened: Store, path: Path) -> None:
    """Nobody may be told that it is: after the commit, the files are looked at again."""
    with pytest.raises(StoreLostError), opened._write():
        path.unlink()


def test_many_connections_come_and_go_without_a_file_being_taken_for_lost(path: Path) -> None:
    """The log and its index are made anew when the last connection has been closed."""
    url = f"sqlite:///{path}"
    for _ in range(2):
        with closing(Store.open(url)) as store:
            store._engine.pool.dispose()  # every connection, but not the one that keeps the files
            store.check_usable()
            store._engine.pool.dispose()
            store.ping()
        assert not with_suffix(path, "-wal").exists()


# Read-only, and full


def test_a_full_database_can_be_read_and_says_that_nothing_can_be_kept(opened: Store) -> None:
    sweep, _ = opened.create_sweep(create_spec(), host="east")
    with opened._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    opened._engine.pool.dispose()

    @sa.event.listens_for(opened._engine, "connect")
    def limit(connection: object, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]

    with pytest.raises(StoreNotWritableError, match="full") as caught:
        opened.commit_batch(sweep.id, 0, create_samples(20_000), PROGRESS)
    assert "make room" in caught.value.hint
    assert opened.get_sweep(sweep.id) == sweep
    # The next check knows what happened, although a smaller write might succeed.
    with pytest.raises(StoreNotWritableError, match="full"):
        opened.check_usable()
    opened.touch_host("east")
    opened.check_usable()


IN_CHILD = """
import os
import sys
from profiler_service.errors import StoreNotWritableError
from profiler_service.storage.store import Store

store = Store.open(f"sqlite:///{sys.argv[1]}")
print("opened", flush=True)
sys.stdin.readline()
if len(sys.argv) > 2:
    os.setegid(int(sys.argv[2]))
    os.seteuid(int(sys.argv[2]))
try:
    store.check_usable()
except StoreNotWritableError as error:
    print(error)
else:
    print("usable")
print(store.list_hosts()[0].name)
store.close()
"""


def run_child(
    path: Path, before_check: Callable[[subprocess.Popen[str]], object], *, user: int | None = None
) -> list[str]:
    """What a process says that opened the database before, and checks it after `before_check`.

    It does so as `user`: root may write everything.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", IN_CHILD, str(path), *([] if user is None else [str(user)])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "opened\n"
    before_check(process)
    output, _ = process.communicate("\n", timeout=60)
    assert process.returncode == 0
    return output.splitlines()


def test_a_disk_that_has_no_room_is_noticed_before_anything_is_written(
    opened: Store, path: Path
) -> None:
    """As with a quota: this process' files may not grow beyond the database's size."""

    def limit(process: subprocess.Popen[str]) -> None:
        size_bytes = path.stat().st_size + sqlite_files.SPARE_BYTES // 2
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size_bytes, size_bytes))

    refused, host = run_child(path, limit)
    assert "disk is full" in refused
    assert host == "east"
    assert run_child(path, lambda _: None) == ["usable", "east"]


@pytest.fixture
def others_path(opened: Store, path: Path) -> Iterator[Path]:
    """A copy of the database that an ordinary user owns, in a place that all can reach."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user, and root may write everything")
    opened.close()
    # Not pytest's directory, which is closed to other users.
    with tempfile.TemporaryDirectory(prefix="lhp-theirs-") as directory:
        copy = Path(directory) / "lhp.sqlite"
        shutil.copy(path, copy)
        for each in (copy, copy.parent):
            os.chown(each, NOBODY, NOBODY)
        yield copy


@pytest.mark.parametrize(
    ("mode", "what"), [(0o555, "directory"), (0o444, "file")], ids=["directory", "file"]
)
def test_a_database_made_read_only_is_noticed(others_path: Path, mode: int, what: str) -> None:
    target = others_path.parent if what == "directory" else others_path
    refused, host = run_child(others_path, lambda _: target.chmod(mode), user=NOBODY)
    assert "nothing can be kept" in refused
    assert host == "east"


def test_a_database_of_an_ordinary_user_can_be_used(others_path: Path) -> None:
    assert run_child(others_path, lambda _: None, user=NOBODY) == ["usable", "east"]


def test_a_check_leaves_nothing_behind_and_changes_nothing(opened: Store, path: Path) -> None:
    def state() -> list[tuple[str, int]]:
        return [(each.name, each.stat().st_size) for each in sorted(path.parent.iterdir())]

    before = state()
    for _ in range(3):
        opened.check_usable()
    assert state() == before
