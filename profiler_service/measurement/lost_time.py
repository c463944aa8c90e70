"""A clock of the time in which the measuring threads had no processor. Never imports torch."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from profiler_service.measurement.system_files import ROOT

_LONGEST_TEXT_BYTES: Final = 96


def open_lost_clock(threads: int, root: Path = ROOT) -> Callable[[], int]:
    """A clock in nanoseconds. It runs while a thread that measures is without a processor.

    With one measuring thread, the caller, it is wall time minus the thread's processor time. That
    includes what other processes, a quota and (where the kernel accounts for it) the hypervisor
    took. With several threads it is the sum of the times that they waited for a processor: a
    thread without work has no processor either, but doesn't wait for one (Source: Linux,
    Documentation/scheduler/sched-stats.rst). The threads are those that exist now. If the kernel
    doesn't show their waits, it is as with one thread.
    """
    waits = [] if threads == 1 else _open_waits(root)
    if not waits:
        return _read_own_lost_ns
    return lambda: sum(map(_read_wait_ns, waits))


def _read_own_lost_ns() -> int:
    return time.perf_counter_ns() - time.thread_time_ns()


def _open_waits(root: Path) -> list[int]:
    """File descriptors that show the waits of all threads but Python's other ones; stay open."""
    others = {each.native_id for each in threading.enumerate()} - {threading.get_native_id()}
    opened = []
    with contextlib.suppress(OSError):
        for task in sorted((root / "proc/self/task").iterdir()):
            if int(task.name) not in others:
                opened.append(os.open(task / "schedstat", os.O_RDONLY | os.O_CLOEXEC))
    return opened


def _read_wait_ns(opened: int) -> int:
    """How long the thread has waited so far; 0 if it has ended."""
    with contextlib.suppress(OSError):
        # Time on a processor, time waiting for one, number of turns.
        fields = os.pread(opened, _LONGEST_TEXT_BYTES, 0).split()
        return int(fields[1]) if len(fields) > 1 else 0
    return 0
