from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
import torch

from profiler_service.errors import ConflictError
from trainer_client.files import FileError
from trainer_client.run.checkpoint import (
    CheckpointError,
    CheckpointVersionError,
    NoCheckpointError,
    hold_directory,
    read_checkpoint,
    write_checkpoint,
)

STATE = {"step": "growth", "weights": torch.arange(6.0), "notes": {"ratio": 0.2, "rounds": [1]}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint of STATE."""
    path = tmp_path / "checkpoint.lhp"
    write_checkpoint(path, STATE)
    return path


def test_what_is_written_is_read(path: Path) -> None:
    read = read_checkpoint(path)
    assert read.pop("weights").equal(torch.arange(6.0))
    assert read == {"step": "growth", "notes": {"ratio": 0.2, "rounds": [1]}}
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_one_process_at_a_time_holds_a_directory(tmp_path: Path) -> None:
    held = tmp_path / "run"
    script = (
        "import sys; from pathlib import Path;"
        "from trainer_client.run.checkpoint import hold_directory\n"
        "with hold_directory(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(held)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConflictError, match="training into"), hold_directory(held):
            pass
        other.kill()
    with hold_directory(held):  # a killed process holds nothing
        pass


def test_a_directory_into_which_nothing_was_written_is_gone(tmp_path: Path) -> None:
    with hold_directory(tmp_path / "runs" / "first"):
        assert (tmp_path / "runs" / "first").is_dir()
    assert list(tmp_path.iterdir()) == []

    def refuse() -> None:
        with hold_directory(tmp_path / "runs" / "first"):
            raise ConflictError("refused")

    with pytest.raises(ConflictError, match="refused"):
        refuse()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_was_there_stays_as_it_was(tmp_path: Path) -> None:
    with hold_directory(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    with hold_directory(tmp_path):
        (tmp_path / "model").write_bytes(b"a model")
    with hold_directory(tmp_path):
        pass
    assert (tmp_path / "model").read_bytes() == b"a model"


def test_what_a_killed_run_was_writing_is_removed(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    left = [tmp_path / ".a.0f0f.writing", tmp_path / "models" / ".b.0f0f.writing"]
    others = [tmp_path / "my.writing", tmp_path / "models" / ".hidden"]
    for each in (*left, *others):
        each.write_bytes(b"half of")
    with hold_directory(tmp_path):
        assert [each.exists() for each in left] == [False, False]
    assert all(each.exists() for each in others)


def test_a_cut_checkpoint_is_refused_wherever_it_is_cut(path: Path) -> None:
    whole = path.read_bytes()
    for length in (0, 5, 20, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError) as raised:
            read_checkpoint(path)
        assert str(path) in str(raised.value) and raised.value.hint


def test_a_changed_byte_is_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cut or damaged"):
        read_checkpoint(path)


def test_another_file_is_no_checkpoint(path: Path) -> None:
    torch.save(STATE, path)
    with pytest.raises(CheckpointError, match="isn't a checkpoint"):
        read_checkpoint(path)


def test_another_version_says_so(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"lhp-checkpoint-3", b"lhp-checkpoint-1", 1))
    with pytest.raises(CheckpointVersionError, match="version 1; this software reads 3"):
        read_checkpoint(path)


def test_no_checkpoint_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "checkpoint.lhp", tmp_path / "file" / "checkpoint.lhp"):
        with pytest.raises(NoCheckpointError) as raised:
            read_checkpoint(path)
        assert "--resume" in raised.value.hint


def test_a_checkpoint_that_cant_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError) as raised:
        read_checkpoint(tmp_path)
    assert str(raised.value) == f"{tmp_path} can't be read: Is a directory"
    assert raised.value.hint
