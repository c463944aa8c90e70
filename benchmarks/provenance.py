"""The origin of a result: the first lines of every report except the referee's own."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent


def processor() -> str:
    """The processor's name."""
    with Path("/proc/cpuinfo").open() as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def commit() -> str:
    """The commit that was measured, and whether the working tree differs from it."""
    revision = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--", "*.py", "constraints.txt")
    return revision + (" with uncommitted changes" if changed else "")


def heading(title: str, module: str, *packages: str) -> list[str]:
    """Markdown lines: title, command, date, commit, machine, versions of `packages`.

    Paths given on the command line are not repeated.
    """
    given = ["DIR" if "/" in argument else argument for argument in sys.argv[1:]]
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        f"# {title}",
        "",
        f"    {' '.join(['python', '-m', module, *given])}",
        "",
        f"- date: {dt.datetime.now(dt.UTC):%Y-%m-%d}, commit {commit()}",
        f"- machine: {processor()}, {os.cpu_count()} processors, {memory_bytes / 2**30:.0f} GiB,"
        f" {platform.system()} {platform.release()}; load average"
        f" {os.getloadavg()[0]:.1f} before",
        f"- versions: Python {platform.python_version()}" + (f", {versions}" if versions else ""),
        "",
    ]


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
