"""Made-up machines for tests: directories with as much of /proc and /sys as is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def write_files(root: Path, files: Mapping[str, object]) -> Path:
    """The machine `root`, with these files, by their paths without the first slash."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def core_files(
    cores: Sequence[str], speeds: Mapping[int, int] | None = None, *, file: str = "cpu_capacity"
) -> dict[str, object]:
    """What /sys shows of processors on these cores: `["0,4", "1,5"]` are two of two each.

    `speeds`, by processor, are written as `file`.
    """
    files: dict[str, object] = {}
    for core in cores:
        for sibling in core.split(","):
            files[f"sys/devices/system/cpu/cpu{sibling}/topology/thread_siblings_list"] = core
    for cpu, speed in (speeds or {}).items():
        files[f"sys/devices/system/cpu/cpu{cpu}/{file}"] = speed
    count = sum(len(core.split(",")) for core in cores)
    return files | {"sys/devices/system/cpu/online": f"0-{count - 1}"}
