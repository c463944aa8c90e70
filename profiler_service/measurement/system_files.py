"""Reads small files below /proc and /sys, which may be missing, hidden or gone at any moment."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")
"""The root of the file system, unless a test has one of its own."""


def read_text(path: Path) -> str:
    """The file's text; empty if it can't be read."""
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


def read_cpu_list(path: Path) -> frozenset[int]:
    """The numbers in a Linux list such as `0-3,8`; none if the file can't be read."""
    parts = (part.partition("-") for part in read_text(path).strip().split(",") if part)
    return frozenset(
        cpu for first, _, last in parts for cpu in range(int(first), int(last or first) + 1)
    )
