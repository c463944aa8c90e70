"""Turns errors of other libraries that a command may raise into our errors, with hints.

A missing package, a file or directory that can't be used, a damaged database: none of them is a
defect of this program, so none of them shall end in a traceback. Knows no command but by its name.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Mapping
from typing import Any

from profiler_service.cli.terminal import load_settings
from profiler_service.distribution import Extra, explain_missing
from profiler_service.errors import LhpError, StoreError

NEEDED_EXTRAS: Mapping[str, tuple[Extra, ...]] = {
    "serve": ("server",),
    "worker": ("server", "measure"),
    "join": ("server", "measure"),
    "db": ("server",),
    "advise": ("measure",),
    "plot": ("plot",),
    "doctor": ("measure",),
}
"""The extra that each command needs. A command that isn't listed needs only the base."""

HINTS: Mapping[int, str] = {
    errno.ENOSPC: "make space there",
    errno.EDQUOT: "make space there: your quota is used up",
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: "choose a place that you may use, or ask for the right to use this one",
    errno.EPERM: "choose a place that you may use, or ask for the right to use this one",
    errno.ENOENT: "see that it exists",
    errno.ENOTDIR: "see that every part of the path but the last is a directory",
    errno.EMFILE: "allow more open files: `ulimit -n`",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENOMEM: "the machine is short of memory: try again when other programs have ended",
    errno.EAGAIN: "processes or memory ran out: see `ulimit -u`, or try again later",
}
"""What to do about the operating system's most frequent refusals."""


class MachineError(LhpError):
    """The operating system refused a file, a directory or a process that the command needs."""

    is_transient = True


def explain(error: Exception, *, command: str) -> LhpError | None:
    """The error as one of ours, raised by `lhp COMMAND`; None for a defect of this program."""
    if isinstance(error, LhpError):
        return error
    if isinstance(error, ModuleNotFoundError):
        extras = NEEDED_EXTRAS.get(command, ())
        return explain_missing(error, needed_by=f"lhp {command}", extras=extras)
    if _is_of_database(error):
        return _explain_database(error)
    # A pipe whose reader has ended is no error; the program's end takes care of it.
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        return _explain_refusal(error)
    return None


def _explain_refusal(error: OSError) -> MachineError:
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    paths = [
        os.fsdecode(p) for p in (error.filename, error.filename2) if isinstance(p, str | bytes)
    ]
    what = f"{' and '.join(map(repr, paths))} can't be used: {reason}" if paths else reason
    hint = HINTS.get(error.errno or 0, "see that it exists, and that you may use it")
    return MachineError(what, hint=hint)


def _is_of_database(error: Exception) -> bool:
    # If SQLAlchemy raised the error, it is imported already. Most commands don't need it.
    exc: Any = sys.modules.get("sqlalchemy.exc")
    return isinstance(error, sqlite3.Error) or (
        exc is not None and isinstance(error, exc.SQLAlchemyError)
    )


def _explain_database(error: Exception) -> StoreError:
    from profiler_service.storage.database import explain_failure, parse_url

    return explain_failure(error, parse_url(load_settings().database_url))
