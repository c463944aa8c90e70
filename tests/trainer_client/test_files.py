"""Files are whole or not there, and whatever goes wrong with one names it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer_client.files import (
    DiskFullError,
    FileError,
    explain,
    explaining,
    make_directory,
    remove_empty,
    write_whole,
)


def failing(error: BaseException) -> Callable[[int], None]:
    """An `os.fsync` of a disk that finds out only when it must."""

    def fsync(descriptor: int) -> None:
        raise error

    return fsync


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    write_whole(path, b"before")
    write_whole(path, b"af", memoryview(b"ter"))
    assert path.read_bytes() == b"after"
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


def test_a_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    write_whole(tmp_path / "model", b"content")
    (tmp_path / "other").write_bytes(b"content")
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_full_disk_is_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").write_bytes(b"before")
    monkeypatch.setattr(os, "fsync", failing(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(DiskFullError, match="no room") as raised:
        write_whole(tmp_path / "model", b"after")
    assert str(tmp_path / "model") in str(raised.value)
    assert "--resume" in raised.value.hint
    assert (tmp_path / "model").read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


def test_an_interruption_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "model", b"after")
    assert list(tmp_path.iterdir()) == []


def test_a_file_larger_than_the_limit_leaves_no_half_file(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"before")
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from trainer_client.files import FileError, write_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try: write_whole(Path(sys.argv[1]), bytes(4000), bytes(4000))\n"
        "except FileError as error: print(error, error.hint, sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "model")],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    message, hint = done.stdout.splitlines()
    assert message == f"{tmp_path / 'model'} can't be written: File too large"
    assert "ulimit -f" in hint
    assert (tmp_path / "model").read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


def test_every_fault_of_a_file_names_it_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "directory").mkdir()
    long = "n" * 300
    for path, reason in (
        (tmp_path / "directory", "Is a directory"),
        (tmp_path / "file" / "model", "Not a directory"),
        (tmp_path / "nonesuch" / "model", "No such file or directory"),
        (tmp_path / long / "model", "File name too long"),
    ):
        with pytest.raises(FileError) as raised:
            write_whole(path, b"content")
        assert str(raised.value) == f"{path} can't be written: {reason}"
        assert raised.value.hint and "Errno" not in raised.value.hint
    for path, reason in (
        (tmp_path / "file", "File exists"),
        (tmp_path / "file" / "below", "Not a directory"),
        (tmp_path / "a" / long, "File name too long"),
    ):
        with pytest.raises(FileError) as raised:
            make_directory(path)
        assert str(raised.value) == f"{path} can't be written: {reason}"
    assert {each.name for each in tmp_path.iterdir()} == {"file", "directory"}


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_no_fault_is_told_by_its_number(number: int) -> None:
    told = explain(OSError(number, os.strerror(number)), Path("run/model"), doing="written")
    assert "run/model" in str(told) and "Errno" not in str(told)
    assert told.hint


def test_an_error_that_knows_its_path_keeps_it() -> None:
    told = explain(OSError(errno.EACCES, "Permission denied", "run/.lock"))
    assert str(told) == "run/.lock can't be read or written: Permission denied"
    with (
        pytest.raises(FileError, match="run can't be read: odd"),
        explaining(Path("run"), doing="read"),
    ):
        raise OSError("odd")


def test_directories_that_were_made_can_be_unmade(tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a" / "b")
    assert made == [tmp_path / "a", tmp_path / "a" / "b"]
    assert make_directory(tmp_path / "a" / "b") == []
    (tmp_path / "a" / "other").mkdir()
    remove_empty(made)
    assert [each.name for each in (tmp_path / "a").iterdir()] == ["other"]
