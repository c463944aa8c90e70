"""Writes files completely or not at all; errors name the file and say what to do.

Everything that the trainer writes goes through `write_whole`: checkpoints, logs, models, reports
and cached answers. Doesn't know the contents of a file; needs no torch.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from profiler_service.errors import LhpError

WRITING = ".writing"
"""The end of the name of a file that is being written. A killed process may leave such a file."""

Doing = Literal["read", "written"]


class FileError(LhpError):
    """A file or directory can't be read or written. The message names it."""


class DiskFullError(FileError):
    """The disk is full, so a run can't write a file. Its earlier files are complete."""


_HINTS: Mapping[int, str] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room on the disk"),
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`), or use another disk",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "name a place that is yours to use, or change its permissions",
    ),
    errno.EISDIR: "a directory has that name: move it away, or name another place",
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST),
        "a file is where a directory should be: move it away, or name another place",
    ),
    errno.ENOENT: "is the path right? was its directory moved or removed?",
    errno.ENAMETOOLONG: "give it a shorter name",
}
_ELSE = "look at the disk, and at the path"
_AGAIN = "; then run the command again, a training that has begun with --resume"


def explain(error: OSError, path: Path | None = None, *, doing: Doing | None = None) -> FileError:
    """The error with its path and with what to do. Without `path`, that of the error itself."""
    named = path or error.filename or "the output"
    reason = os.strerror(error.errno) if error.errno else str(error)
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = _HINTS.get(error.errno or 0, _ELSE)
    if is_full:
        return DiskFullError(f"there is no room on the disk for {named}", hint=hint + _AGAIN)
    return FileError(
        f"{named} can't be {doing or 'read or written'}: {reason}",
        hint=hint if doing == "read" else hint + _AGAIN,
    )


@contextlib.contextmanager
def explaining(path: Path, *, doing: Doing = "written") -> Iterator[None]:
    """In this context, an OSError becomes a FileError about `path`."""
    try:
        yield
    except OSError as error:
        raise explain(error, path, doing=doing) from error


def make_directory(path: Path) -> list[Path]:
    """The directories that were created for `path`, outermost first.

    Raises FileError.
    """
    made: list[Path] = []
    with explaining(path):
        missing = [each for each in (path, *path.parents) if not each.exists()]
        try:
            for each in reversed(missing):
                each.mkdir(exist_ok=True)
                made.append(each)
            path.mkdir(exist_ok=True)  # raises if a file has that name
        except OSError:
            remove_empty(made)
            raise
    return made


def remove_empty(directories: Sequence[Path]) -> None:
    """Removes the empty ones of the directories, the last one first."""
    for each in reversed(directories):
        with contextlib.suppress(OSError):
            each.rmdir()


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Returns once a file of these parts is on disk; until then, an older one stays as it was.

    Several processes may write the same file at once: the last one wins. Raises FileError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{WRITING}")
    with explaining(path):
        try:
            with temporary.open("xb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def remove_unfinished(directory: Path) -> None:
    """Removes unfinished files that killed processes left in the directory."""
    for each in directory.glob(f".*{WRITING}"):
        with contextlib.suppress(OSError):
            each.unlink()
