"""Chooses the processors that measure, and those for everything else.

Knows nothing of what runs on them. Linux: processors are numbered as in its affinity masks.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from profiler_service.errors import MeasurementFailedError

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
CPU_ROOT: Final = Path("/sys/devices/system/cpu")


_BEFORE_PINNING: Final = "LHP_CPUS_BEFORE_PINNING"


def available_cpus() -> tuple[int, ...]:
    """Numbers of the processors that measuring may choose from, ascending.

    Those that this process may run on. If `pin_away` was called in it, or in a process that started
    it, those from before that call.
    """
    before = os.environ.get(_BEFORE_PINNING)
    if before:
        return tuple(int(cpu) for cpu in before.split(","))
    return tuple(sorted(os.sched_getaffinity(0)))


def find_cpu_quota(root: Path = CGROUP_ROOT) -> float | None:
    """Number of processors whose time the container may use, or None without a limit.

    A container that may use two processors' time still sees all processors of a large machine. With
    a thread on each of them, it would be throttled in every sample.
    """
    v2, v1 = root / "cpu.max", root / "cpu"
    if v2.is_file():
        quota, period = v2.read_text().split()
    elif (v1 / "cpu.cfs_quota_us").is_file():
        quota = (v1 / "cpu.cfs_quota_us").read_text().strip()
        period = (v1 / "cpu.cfs_period_us").read_text().strip()
    else:
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def choose_measured_cpus(
    available: Collection[int], threads: int, *, quota: float | None = None
) -> tuple[int, ...]:
    """The processors to measure on, ascending: `threads` of them, counted from the last.

    0 threads stands for all but the first processor, within the quota. The first one is left free,
    because interrupts and the rest of the system usually run there.

    Raises MeasurementFailedError if more threads are asked for than there are processors.
    """
    cpus = sorted(available)
    usable = len(cpus) if quota is None else min(len(cpus), max(1, math.floor(quota)))
    if threads > usable:
        there = "1 processor is" if usable == 1 else f"{usable} processors are"
        raise MeasurementFailedError(
            f"{threads} threads were asked for, but only {there} available here",
            hint=f"set LHP_THREADS to {usable} or less, or to 0 for all processors but one",
        )
    count = threads or max(1, usable - 1)
    return tuple(cpus[-count:])


def describe_cores(cpus: Collection[int], root: Path = CPU_ROOT) -> dict[str, str]:
    """Flags of a platform that say how the processors `cpus` share cores.

    `threads_per_core`: hardware threads of the cores that they are on, each number once (`1 2` if
    some are on small cores). `smt_siblings`: how many of them share a core with another of them.
    Empty if the system doesn't show it.
    """
    cores = []
    for cpu in cpus:
        path = root / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        if not path.is_file():
            return {}
        cores.append(_parse_cpu_list(path.read_text()))
    sizes = sorted({len(core) for core in cores})
    return {
        "threads_per_core": " ".join(map(str, sizes)),
        "smt_siblings": str(sum(len(core.intersection(cpus)) > 1 for core in cores)),
    }


def _parse_cpu_list(text: str) -> frozenset[int]:
    """The numbers in a Linux list such as `0-3,8`."""
    ranges = (part.partition("-") for part in text.strip().split(","))
    return frozenset(
        cpu for first, _, last in ranges for cpu in range(int(first), int(last or first) + 1)
    )


def pin_away(measured_cpus: Collection[int]) -> tuple[int, ...]:
    """The processors that don't measure: this process runs on them from now on.

    Moves every thread of the process. Threads and processes that are started later inherit this. An
    environment variable tells them the processors from before. If no processor would be left,
    nothing changes.
    """
    available = available_cpus()
    rest = tuple(cpu for cpu in available if cpu not in measured_cpus)
    if not rest:
        return available
    os.environ[_BEFORE_PINNING] = ",".join(map(str, available))
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # the thread may have ended meanwhile
            os.sched_setaffinity(int(thread.name), rest)
    return rest
