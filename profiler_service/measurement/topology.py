"""Which processors share a core, and which cores are the fast ones of a hybrid machine.

Linux. Every path is below `root`, the root of the file system.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from profiler_service.measurement.system_files import ROOT, read_cpu_list, read_text

FAST_SHARE: Final = 0.8
"""A core is fast with at least this share of the fastest one's capacity, or of its clock.

Equal cores of one chip may differ by some percent in their highest clock. Small cores reach
about three quarters of the clock of large ones, and less of their capacity.
"""


@dataclass(frozen=True, kw_only=True)
class Core:
    """One core, with those of its processors (hardware threads) that were asked about."""

    cpus: tuple[int, ...]
    """Ascending."""
    is_fast: bool
    """False for the small cores of a machine that has large ones, too."""


def read_cores(cpus: Collection[int], root: Path = ROOT) -> tuple[Core, ...]:
    """The cores of the processors `cpus`, by their first processor.

    A processor whose core isn't shown counts as a separate core. If `cpus` has only slow cores,
    none is faster, so all count as fast.
    """
    asked = frozenset(cpus)
    fast = asked & find_fast_cpus(root) or asked
    cores = {tuple(sorted(asked & _siblings(cpu, root))) for cpu in asked}
    return tuple(Core(cpus=core, is_fast=core[0] in fast) for core in sorted(cores))


def describe_cores(cpus: Collection[int], root: Path = ROOT) -> dict[str, str]:
    """Flags of a platform that say how the processors `cpus` share cores.

    `threads_per_core`: hardware threads of the cores that they are on, each number once (`1 2` if
    some are on small cores). `smt_siblings`: how many of them share a core with another of them.
    Both are left out if the system doesn't show them. `cores`, on hybrid machines only: `fast`,
    `slow` or `fast slow`.
    """
    flags = {}
    cores = [_shown_siblings(cpu, root) for cpu in cpus]
    if all(cores):
        flags["threads_per_core"] = " ".join(map(str, sorted({len(core) for core in cores})))
        flags["smt_siblings"] = str(sum(len(core.intersection(cpus)) > 1 for core in cores))
    fast = find_fast_cpus(root)
    if fast:
        kinds = {"fast" if cpu in fast else "slow" for cpu in cpus}
        flags["cores"] = " ".join(sorted(kinds))
    return flags


def find_fast_cpus(root: Path = ROOT) -> frozenset[int]:
    """The processors of the fast cores on a hybrid machine; empty if all are equally fast.

    Uses the first of these that shows a difference: the kernel's lists of core types (Intel), the
    capacities of the processors (ARM), their highest clocks.
    """
    large = read_cpu_list(root / "sys/devices/cpu_core/cpus")
    if large and read_cpu_list(root / "sys/devices/cpu_atom/cpus"):
        return large
    online = read_cpu_list(root / "sys/devices/system/cpu/online")
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        texts = {cpu: read_text(_cpu_directory(cpu, root) / name).strip() for cpu in online}
        if all(texts.values()):
            speeds = {cpu: int(text) for cpu, text in texts.items()}
            enough = FAST_SHARE * max(speeds.values(), default=0)
            fast = frozenset(cpu for cpu, speed in speeds.items() if speed >= enough)
            if fast != online:
                return fast
    return frozenset()


def _siblings(cpu: int, root: Path) -> frozenset[int]:
    return _shown_siblings(cpu, root) or frozenset((cpu,))


def _shown_siblings(cpu: int, root: Path) -> frozenset[int]:
    return read_cpu_list(_cpu_directory(cpu, root) / "topology" / "thread_siblings_list")


def _cpu_directory(cpu: int, root: Path) -> Path:
    return root / "sys/devices/system/cpu" / f"cpu{cpu}"
