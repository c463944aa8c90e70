"""Finds how much of the measured device others use, and waits for them.

Only use counts: a training job that waits for an answer keeps its memory on the GPU, but doesn't
use it. On a CPU, the kernel's counters show afterwards what others used. A GPU only shows what all
processes used together within about the last second, so it is looked at while nothing is measured.
Imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from profiler_service.analysis.evidence import DISTURBED_SHARE
from profiler_service.analysis.samples import OthersUse
from profiler_service.measurement.system_files import ROOT, read_text

TICKS_HZ: Final = os.sysconf("SC_CLK_TCK")
"""Ticks a second of the kernel's counters: 100, nearly always."""
READING_S: Final = 1.0
"""A GPU's reading covers at most the last second, so it doesn't include older own work."""
POLL_S: Final = 0.2
"""Time between two readings of a GPU that others use."""
LOOK_EVERY_S: Final = 30.0
"""A sweep that lasts longer looks again after this time."""


@dataclass(frozen=True, kw_only=True)
class CpuTimes:
    """Counters of some processors and of the measuring process."""

    total_s: float
    """All time of the processors, idle time included."""
    used_s: float
    """Time that they worked for any process, and time that the hypervisor took."""
    own_s: float
    """Time that the measuring process and its descendants worked."""


def read_cpu_times(cpus: Collection[int], root: Path = ROOT) -> tuple[int, ...]:
    """The sums over `cpus` of the columns of /proc/stat, in clock ticks."""
    names = {f"cpu{cpu}" for cpu in cpus}
    rows = [line.split() for line in read_text(root / "proc/stat").splitlines()]
    times = [[int(field) for field in row[1:]] for row in rows if row and row[0] in names]
    return tuple(map(sum, zip(*times, strict=True)))


def process_cpu_s(pid: int) -> float | None:
    """Time that the process has worked, to the nanosecond; None if it is gone.

    Source: clock_getcpuclockid(3); the number of the clock is the kernel's MAKE_PROCESS_CPUCLOCK.
    """
    with contextlib.suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)
    return None


def read_cpu_use(
    cpus: Collection[int],
    pid: int,
    root: Path = ROOT,
    *,
    process_cpu_s: Callable[[int], float | None] = process_cpu_s,
) -> CpuTimes | None:
    """The counters of `cpus` and of the measuring process `pid`; None if either isn't shown."""
    # user nice system idle iowait irq softirq steal; guest time, which follows, is part of user.
    times = read_cpu_times(cpus, root)[:8]
    own_s = process_cpu_s(pid)
    if len(times) < 8 or own_s is None:
        return None
    return CpuTimes(
        total_s=sum(times) / TICKS_HZ,
        used_s=(sum(times) - times[3] - times[4]) / TICKS_HZ,
        own_s=own_s + _read_descendants_ticks(pid, root) / TICKS_HZ,
    )


def find_others_use(before: CpuTimes | None, after: CpuTimes | None) -> OthersUse:
    """What others used of the processors between two readings; nothing is known if one is None."""
    if before is None or after is None:
        return OthersUse()
    return OthersUse(
        others_s=(after.used_s - before.used_s) - (after.own_s - before.own_s),
        watched_s=after.total_s - before.total_s,
    )


def wait_for_others(
    read_use: Callable[[], float | None],
    *,
    longest_s: float,
    own_use_ended_s: float,
    pause: Callable[[float], bool],
    clock_s: Callable[[], float],
) -> float | None:
    """The share of the GPU's time that others use, after waiting for it to become small.

    `read_use` returns the use by all processes within about the last second. If it is small, others
    use little. If it is large, it may still include own work, which ended at `own_use_ended_s`. So
    it waits until the reading doesn't include that any more, and for at most `longest_s`. `pause`
    waits for some seconds, and returns whether to go on waiting. None if the device doesn't show
    its use.
    """
    until_s = max(clock_s() + longest_s, own_use_ended_s + READING_S)
    while True:
        share = read_use()
        left_s = until_s - clock_s()
        if share is None or share <= DISTURBED_SHARE or left_s <= 0:
            return share
        if not pause(min(POLL_S, left_s)):
            return share


def _read_descendants_ticks(pid: int, root: Path) -> int:
    """Time that the descendants of the process worked, those included that have ended."""
    ticks = sum(_read_stat_ticks(pid, root)[2:])
    for children in (root / f"proc/{pid}/task").glob("*/children"):
        for child in map(int, read_text(children).split()):
            ticks += sum(_read_stat_ticks(child, root)[:2]) + _read_descendants_ticks(child, root)
    return ticks


def _read_stat_ticks(pid: int, root: Path) -> list[int]:
    """utime, stime, cutime and cstime (of children that have ended); none if it is gone."""
    # The name, in brackets, may contain blanks. The state follows it, which is field 3.
    text = read_text(root / f"proc/{pid}/stat").rpartition(")")[2]
    return [int(field) for field in text.split()[11:15]]
