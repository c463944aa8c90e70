"""Checkpoints: one file each, written completely or not at all, and checked when it is read.

    lhp-checkpoint-3
    <SHA-256 of what follows, in hexadecimal>
    <what `torch.save` wrote>

Knows nothing of what a run's state consists of. Reading one runs no code from it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from profiler_service.errors import ConflictError, LhpError, NotFoundError
from trainer_client.files import (
    FileError,
    explaining,
    make_directory,
    remove_empty,
    remove_unfinished,
    write_whole,
)
from trainer_client.run.logs import MODELS

_MAGIC = b"lhp-checkpoint-"
VERSION = 3
LOCK = ".lock"


class CheckpointError(LhpError):
    """A file that can't be used as a checkpoint: cut, damaged, or something else."""


class CheckpointVersionError(CheckpointError):
    """A checkpoint of another version of this software."""


class CheckpointConfigError(CheckpointError):
    """A checkpoint of a run that was configured in another way."""


class NoCheckpointError(NotFoundError):
    """There is no checkpoint to continue from."""


@contextlib.contextmanager
def hold_directory(directory: Path) -> Iterator[None]:
    """In this context, no other process can use the directory: two runs would mix their files.

    Creates the directory if there is none, and removes it again if nothing was written into it.
    Raises ConflictError, FileError.
    """
    made = make_directory(directory)
    lock = directory / LOCK
    try:
        with explaining(lock):
            file = lock.open("a")
        with file:
            _lock(lock, file.fileno(), directory)
            for each in (directory, directory / MODELS):
                remove_unfinished(each)
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    if [each.name for each in directory.iterdir()] == [LOCK]:
                        lock.unlink()
    finally:
        remove_empty(made)


def _lock(lock: Path, descriptor: int, directory: Path) -> None:
    """Takes the lock, or raises ConflictError; FileError if the file can't be locked."""
    with explaining(lock):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous holder may have removed the file since it was opened here.
            if lock.exists() and os.path.samestat(os.fstat(descriptor), lock.stat()):
                return
        except BlockingIOError:
            pass
    raise ConflictError(
        f"another process is training into {directory}",
        hint="wait until it has ended, or choose another --out",
    )


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Returns once the state is on disk; until then an older checkpoint stays.

    `state` is of tensors, numbers, text, lists and dicts. Raises FileError.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    digest = hashlib.sha256(content).hexdigest()
    head = b"%s%d\n%s\n" % (_MAGIC, VERSION, digest.encode())
    write_whole(path, head, content)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in the file, its tensors on the CPU.

    Raises NoCheckpointError, CheckpointVersionError, CheckpointError, FileError.
    """
    try:
        with explaining(path, doing="read"):
            content = path.read_bytes()
    except FileError as error:
        if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise
        raise NoCheckpointError(
            f"there is no checkpoint {path}",
            hint="name the directory of a run; without --resume one begins there",
        ) from error
    start_again = "remove it to start a new run, or restore the whole file"
    head, _, rest = content.partition(b"\n")
    if not head.startswith(_MAGIC):
        raise CheckpointError(f"{path} isn't a checkpoint", hint=start_again)
    version = head.removeprefix(_MAGIC).decode(errors="replace")
    if version != str(VERSION):
        raise CheckpointVersionError(
            f"{path} is a checkpoint of version {version[:20]}; this software reads {VERSION}",
            hint="go on with the version that wrote it, or start a new run",
        )
    digest, _, body = rest.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise CheckpointError(f"{path} is cut or damaged", hint=start_again)
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    return state
