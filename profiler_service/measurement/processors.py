"""Chooses the processors that measure, and those for everything else.

Knows nothing of what runs on them. Linux: processors are numbered as in its affinity masks.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from profiler_service.errors import MeasurementFailedError
from profiler_service.measurement.cgroups import find_cpu_quota
from profiler_service.measurement.system_files import ROOT
from profiler_service.measurement.topology import Core, read_cores

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


def find_measured_cpus(threads: int, root: Path = ROOT) -> tuple[int, ...]:
    """The processors to measure on with `threads` threads on this machine, ascending.

    See `choose_measured_cpus`, which raises MeasurementFailedError.
    """
    cores = read_cores(available_cpus(), root)
    return choose_measured_cpus(cores, threads, quota=find_cpu_quota(root))


def choose_measured_cpus(
    cores: Sequence[Core], threads: int, *, quota: float | None = None
) -> tuple[int, ...]:
    """The processors to measure on, ascending: `threads` of them.

    0 threads stands for one on each fast core except that of the first processor, within the quota.
    That core is left free, because interrupts and the rest of the system usually run there.

    A given number of threads is placed on the last fast cores, then on the first one, then on
    slow cores. Two share a core only if there are no more cores.

    Raises MeasurementFailedError if more threads are asked for than there are processors.
    """
    num_cpus = sum(len(core.cpus) for core in cores)
    usable = num_cpus if quota is None else min(num_cpus, max(1, math.floor(quota)))
    if threads > usable:
        there = "1 processor is" if usable == 1 else f"{usable} processors are"
        raise MeasurementFailedError(
            f"{threads} threads were asked for, but only {there} available here",
            hint=f"set LHP_THREADS to {usable} or less, or to 0 for a suitable number",
        )
    first = min(core.cpus[0] for core in cores)
    ranked = sorted(cores, key=lambda c: (not c.is_fast, first in c.cpus, -c.cpus[0]))
    num_suitable = sum(core.is_fast and first not in core.cpus for core in cores)
    count = threads or max(1, min(num_suitable, usable - 1))
    order = [
        core.cpus[-1 - turn]
        for turn in range(max(len(core.cpus) for core in cores))
        for core in ranked
        if turn < len(core.cpus)
    ]
    return tuple(sorted(order[:count]))


def choose_other_cpus(cores: Sequence[Core], measured_cpus: Collection[int]) -> tuple[int, ...]:
    """The processors for everything that doesn't measure, ascending.

    Those of cores on which nothing is measured. If there are none, those that don't measure. If all
    measure, all of them.
    """
    every = sorted(cpu for core in cores for cpu in core.cpus)
    unused = [core for core in cores if not set(core.cpus) & set(measured_cpus)]
    free = sorted(cpu for core in unused for cpu in core.cpus)
    return tuple(free or [cpu for cpu in every if cpu not in measured_cpus] or every)


def pin_away(measured_cpus: Collection[int], root: Path = ROOT) -> tuple[int, ...]:
    """The processors this process runs on from now on: those that don't measure.

    Moves every thread of the process. Threads and processes that are started later inherit this. An
    environment variable tells them the processors from before. If no processor would be left,
    nothing changes.
    """
    available = available_cpus()
    rest = choose_other_cpus(read_cores(available, root), measured_cpus)
    if rest == available:
        return available
    os.environ[_BEFORE_PINNING] = ",".join(map(str, available))
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # the thread may have ended meanwhile
            os.sched_setaffinity(int(thread.name), rest)
    return rest
