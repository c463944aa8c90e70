"""Checkpoints: one file each, written completely or not at all, and checked when it is read.

    lhp-checkpoint-1
    <SHA-256 of what follows, in hexadecimal>
    <what `torch.save` wrote>

Knows nothing of what a run's state consists of. Reading one runs no code from it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from profiler_service.errors import ConflictError, LhpError, NotFoundError

_MAGIC = b"lhp-checkpoint-"
VERSION = 1
LOCK = ".lock"


class CheckpointError(LhpError):
    """A file that can't be used as a checkpoint: cut, damaged, or something else."""


class CheckpointVersionError(CheckpointError):
    """A checkpoint of another version of this software."""


class CheckpointConfigError(CheckpointError):
    """A checkpoint of a run that was configured in another way."""


class NoCheckpointError(NotFoundError):
    """There is no checkpoint to continue from."""


class DiskFullError(LhpError):
    """The disk is full, so a run can't write a file. Its earlier files are complete."""


@contextlib.contextmanager
def hold_directory(directory: Path) -> Iterator[None]:
    """In this context, no other process can use the directory: two runs would mix their files.

    Creates the directory if there is none. Raises ConflictError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"another process is training into {directory}",
                hint="wait until it has ended, or choose another --out",
            ) from error
        yield


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Returns once the state is on disk; until then an older checkpoint stays.

    `state` consists of tensors, numbers, text, lists and dicts. Raises DiskFullError.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    digest = hashlib.sha256(content).hexdigest()
    head = b"%s%d\n%s\n" % (_MAGIC, VERSION, digest.encode())
    write_whole(path, head, content)


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Returns once a file with these parts is completely on disk. Raises DiskFullError."""
    temporary = path.with_name(f"{path.name}.writing")
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        temporary.unlink(missing_ok=True)
        raise DiskFullError(
            f"there is no room on the disk for {path}",
            hint="make room, then go on with --resume: what was written before is whole",
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in the file, its tensors on the CPU.

    Raises NoCheckpointError, CheckpointVersionError, CheckpointError.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NoCheckpointError(
            f"there is no checkpoint {path}",
            hint="name the directory of a run; without --resume one begins there",
        ) from error
    begin_anew = "remove it to begin anew, or bring back the whole file"
    head, _, rest = content.partition(b"\n")
    if not head.startswith(_MAGIC):
        raise CheckpointError(f"{path} isn't a checkpoint", hint=begin_anew)
    version = head.removeprefix(_MAGIC).decode(errors="replace")
    if version != str(VERSION):
        raise CheckpointVersionError(
            f"{path} is a checkpoint of version {version[:20]}; this software reads {VERSION}",
            hint="go on with the version that wrote it, or begin anew",
        )
    digest, _, body = rest.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise CheckpointError(f"{path} is cut or damaged", hint=begin_anew)
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    return state
