"""Packages that bring workload kinds, as pip would have installed them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from profiler_service import kinds


def install_kind(directory: Path, name: str, source: str, *, attribute: str) -> None:
    """Puts a package with one module `NAME_kind` and the entry point `name` into `directory`."""
    (directory / f"{name}_kind.py").write_text(source)
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{kinds.ENTRY_POINT_GROUP}]\n{name} = {name}_kind:{attribute}\n"
    )


@contextlib.contextmanager
def loaded_anew() -> Iterator[None]:
    """While entered, kinds are looked for anew, once; and once more after that."""
    kinds._load.cache_clear()
    yield
    kinds._load.cache_clear()
