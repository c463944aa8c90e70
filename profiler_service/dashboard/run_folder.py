"""Finds training runs in a folder and reads their files, whatever else lies there.

Each run is a directory directly in the folder. Links are followed as long as they stay in it. A
file is read up to a bound, and only if it is a regular one. What can't be read is said of its run,
and hides nothing else.

Knows no page.
"""

from __future__ import annotations

import datetime as dt
import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from profiler_service.dashboard.run_documents import (
    EpochRow,
    RunFileError,
    RunReport,
    StepLatency,
    StepRow,
    parse_log,
    parse_report,
)
from profiler_service.errors import UnknownAddressError
from profiler_service.printable import printable

STEPS, EPOCHS, REPORT = "steps.jsonl", "epochs.jsonl", "report.json"
"""The names that the trainer gives its files."""
MOST_BYTES: Final[Mapping[str, int]] = {STEPS: 256 * 1024, EPOCHS: 4 * 1024**2, REPORT: 512 * 1024}
"""Of each file. The paper's largest runs need a tenth of it."""
MOST_ENTRIES = 10_000
"""So many entries of the folder are looked at."""

ReadT = TypeVar("ReadT")


@dataclass(frozen=True, kw_only=True)
class RunName:
    """A run of the folder that hasn't been read yet."""

    name: str
    """Of its directory."""
    changed_at: dt.datetime
    """When a file of it was written last."""


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What the files of a run say, as far as they can be read."""

    name: str
    steps: Sequence[StepRow]
    """Those that have ended."""
    epochs: Sequence[EpochRow]
    report: RunReport | None
    problems: Sequence[str]
    """What can't be read, and why."""

    @property
    def is_reported(self) -> bool:
        """Whether the report is about all steps that have ended."""
        return self.report is not None and self.report.rows == list(self.steps)

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended, as its report says. Its logs don't say it."""
        return self.is_reported and self.report is not None and self.report.is_finished

    @property
    def latencies(self) -> Mapping[str, StepLatency]:
        """By step; only those of a step that ended as the report says."""
        if self.report is None:
            return {}
        reported = {row.step: row for row in self.report.rows}
        return {
            row.step: self.report.latencies[row.step]
            for row in self.steps
            if row.step in self.report.latencies and reported.get(row.step) == row
        }

    @property
    def metric(self) -> str:
        """The name of the task's metric; empty if nothing names one."""
        return next((row.metric for row in (*self.steps, *self.epochs) if row.metric), "")


@dataclass(frozen=True, kw_only=True)
class RunList:
    """The runs of a folder, the one that was written last first."""

    names: Sequence[RunName]
    problem: str = ""
    """Why there may be others; empty if these are all."""


@dataclass(frozen=True)
class RunFolder:
    """A folder of runs. Its methods read files: call them from a thread."""

    path: Path

    def list_names(self) -> RunList:
        """The runs, and directories whose name or link can't be used."""
        found: list[RunName] = []
        problem = ""
        try:
            with os.scandir(self.path) as entries:
                for number, entry in enumerate(entries):
                    if number == MOST_ENTRIES:
                        problem = f"only {MOST_ENTRIES:,} entries of the folder are looked at"
                        break
                    changed_at = _find_change(Path(entry.path))
                    if changed_at is not None and not entry.name.startswith("."):
                        found.append(RunName(name=entry.name, changed_at=changed_at))
        except OSError as error:
            problem = f"the folder that LHP_RUNS names can't be read: {_reason(error)}"
        found.sort(key=lambda run: (run.changed_at, run.name), reverse=True)
        return RunList(names=found, problem=problem)

    def read(self, name: str, *, with_epochs: bool = True) -> TrainingRun:
        """The run of that name. Raises UnknownAddressError if the folder has no such run."""
        is_name = name not in ("", "..") and not name.startswith(".") and "/" not in name
        if not is_name or "\0" in name or _find_change(self.path / name) is None:
            raise UnknownAddressError(
                f"there is no run {printable(name)[:100]}", hint="choose one from the list"
            )
        reading = _Reading(directory=self.path / name, root=self.path)
        steps = reading.read(STEPS, lambda content: parse_log(StepRow, content, STEPS))
        report = reading.read(REPORT, lambda content: parse_report(content, REPORT))
        epochs: Sequence[EpochRow] | None = None
        if with_epochs:
            epochs = reading.read(EPOCHS, lambda content: parse_log(EpochRow, content, EPOCHS))
        if steps is None:
            steps = report.rows if report is not None else []
        return TrainingRun(
            name=name,
            steps=steps,
            epochs=epochs or [],
            report=report,
            problems=reading.problems,
        )


@dataclass
class _Reading:
    """Reads the files of one run, and notes what can't be read."""

    directory: Path
    root: Path
    problems: list[str] = field(default_factory=list)

    def read(self, name: str, parse: Callable[[bytes], ReadT]) -> ReadT | None:
        """What `parse` makes of the file; None if there is none, or it can't be read."""
        try:
            content = _read_inside(self.root, self.directory / name, MOST_BYTES[name])
            return None if content is None else parse(content)
        except RunFileError as error:
            self.problems.append(printable(str(error)))
            return None


def _find_change(directory: Path) -> dt.datetime | None:
    """When a file of the run was written last; None if the directory isn't a run."""
    times = []
    for name in MOST_BYTES:
        try:
            times.append((directory / name).lstat().st_mtime)
        except (OSError, ValueError):
            continue
    # A file may be dated to any time, even one that no calendar has.
    latest = min(max(times, default=-1.0), 4e9)
    return dt.datetime.fromtimestamp(latest, dt.UTC) if latest >= 0 else None


def _read_inside(root: Path, path: Path, most_bytes: int) -> bytes | None:
    """The content of the file; None if there is none. Raises RunFileError.

    The path is resolved first, and then opened part by part without following links: what somebody
    exchanges for a link in between is refused, too.
    """
    name = path.name
    try:
        real_root = root.resolve(strict=True)
        real = path.resolve(strict=True)
        if not real.is_relative_to(real_root):
            raise RunFileError(f"{name} isn't read: a link leads out of the folder")
        descriptor = _open_below(real_root, real)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RunFileError(f"{name} isn't read: it is no regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                content = file.read(most_bytes + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        if path.is_symlink():
            raise RunFileError(f"{name} isn't read: its link leads nowhere") from None
        return None
    except (OSError, RuntimeError) as error:
        raise RunFileError(f"{name} can't be read: {_reason(error)}") from None
    if len(content) > most_bytes:
        raise RunFileError(f"{name} isn't read: it has more than {most_bytes // 1024:,} KiB")
    return content


def _open_below(root: Path, path: Path) -> int:
    """A descriptor of the file, opened without following a link below `root`. Raises OSError."""
    *parents, name = path.relative_to(root).parts
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for each in parents:
            inner = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = inner
        # Without O_NONBLOCK, opening a pipe would wait for who writes into it.
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    finally:
        os.close(directory)


def _reason(error: OSError | RuntimeError) -> str:
    number = error.errno if isinstance(error, OSError) else errno.ELOOP
    return os.strerror(number) if number else str(error)
