"""Bounds the memory of the user's code, so that a model that doesn't fit is an error.

Without a bound, the kernel promises memory that it doesn't have, and kills a process of its choice
when the memory is used: perhaps the service. Linux. Knows no model.
"""

from __future__ import annotations

import contextlib
import re
import resource
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


@contextlib.contextmanager
def bounded_memory(free_bytes: int | None = None) -> Iterator[None]:
    """In this context, what the process allocates beyond `free_bytes` is refused.

    Default: the memory that is free now. Files that are mapped to be written privately count as
    allocated: torch.load does so with mmap=True.
    """
    limit = resource.RLIMIT_DATA
    soft, hard = resource.getrlimit(limit)
    free = find_free_bytes() if free_bytes is None else free_bytes
    used = _find_sizes(ROOT / "proc/self/status").get("VmData")
    if free is None or used is None:
        yield
        return
    most = min([used + free, *(each for each in (soft, hard) if each != resource.RLIM_INFINITY)])
    resource.setrlimit(limit, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(limit, (soft, hard))


def find_free_bytes(root: Path = ROOT) -> int | None:
    """The memory that this process can still use, bytes; None if the system doesn't say.

    The kernel's own estimate (proc_meminfo(5), MemAvailable), and what the visible control group
    leaves (cgroups(7), version 2), if that is less.
    """
    sizes = _find_sizes(root / "proc/meminfo")
    if "MemAvailable" not in sizes:
        return None
    free = sizes["MemAvailable"] + sizes.get("SwapFree", 0)
    group = root / "sys/fs/cgroup"
    most, used = _read(group / "memory.max").strip(), _read(group / "memory.current").strip()
    if most.isdigit() and used.isdigit():
        cache = re.search(r"^inactive_file (\d+)$", _read(group / "memory.stat"), re.MULTILINE)
        free = min(free, int(most) - int(used) + (int(cache[1]) if cache else 0))
    return max(free, 0)


def is_memory_error(error: BaseException) -> bool:
    """Whether it says that memory couldn't be had, on a CPU or on a GPU."""
    text = str(error)
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, (MemoryError, RuntimeError))
        and (
            isinstance(error, MemoryError)
            or any(each in text for each in ("allocate memory", "not enough memory", "bad_alloc"))
        )
    )


def _find_sizes(path: Path) -> dict[str, int]:
    """The sizes in a file of lines `name: 12 kB`, bytes."""
    found = re.findall(r"^(\w+):\s+(\d+) kB$", _read(path), re.MULTILINE)
    return {name: int(kib) * 1024 for name, kib in found}


def _read(path: Path) -> str:
    """The text of the file; empty if it can't be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
