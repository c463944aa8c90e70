"""Packages that bring workload kinds, as pip would have installed them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from profiler_service import kinds

GROUPED = """
from dataclasses import replace
from profiler_service.errors import InvalidWorkloadError
from profiler_service.kinds import MATMUL
from profiler_service.workload import Parameter

def check(params):
    if params["batch"] % params["groups"]:
        raise InvalidWorkloadError("groups must divide batch", hint="choose a multiple of groups")

GROUPED = replace(
    MATMUL,
    name="grouped",
    parameters=(*MATMUL.parameters, Parameter(name="groups", default=4, description="")),
    check=check,
)
"""
"""A product whose batch must be a multiple of `groups`."""


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
