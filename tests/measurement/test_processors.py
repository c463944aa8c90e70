from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from profiler_service.errors import MeasurementFailedError
from profiler_service.measurement.processors import (
    available_cpus,
    choose_measured_cpus,
    choose_other_cpus,
    find_measured_cpus,
)
from profiler_service.measurement.topology import Core
from tests.measurement.machines import core_files, write_files


def cores(*groups: tuple[int, ...], slow: tuple[int, ...] = ()) -> list[Core]:
    """Cores of these processors; those with a processor of `slow` are slow."""
    return [Core(cpus=cpus, is_fast=not set(cpus) & set(slow)) for cpus in groups]


def single(*cpus: int) -> list[Core]:
    """A core for each of the processors."""
    return cores(*((cpu,) for cpu in cpus))


SMT = cores((0, 4), (1, 5), (2, 6), (3, 7))
# Two large cores of two threads each, and four small ones.
HYBRID = cores((0, 1), (2, 3), (4,), (5,), (6,), (7,), slow=(4, 5, 6, 7))


@pytest.mark.parametrize(
    ("available", "threads", "quota", "measured"),
    [
        (single(0), 0, None, (0,)),  # a single processor does everything
        (single(0, 1), 0, None, (1,)),  # all but the first
        (single(2, 3, 6, 7), 0, None, (3, 6, 7)),  # whatever their numbers are
        (single(0, 1, 2, 3), 2, None, (2, 3)),  # counted from the last
        (single(0, 1, 2, 3), 4, None, (0, 1, 2, 3)),  # all, if asked for
        (single(*range(64)), 0, 4.0, (61, 62, 63)),  # time for four: three measure
        (single(*range(64)), 0, 2.5, (63,)),  # time for two and a half: one measures
        (single(*range(64)), 0, 0.5, (63,)),  # at least one
        (single(0, 1), 0, 100.0, (1,)),  # a quota beyond the machine is none
    ],
)
def test_measured_cpus(
    available: list[Core], threads: int, quota: float | None, measured: tuple[int, ...]
) -> None:
    assert choose_measured_cpus(available, threads, quota=quota) == measured


@pytest.mark.parametrize(
    ("available", "threads", "measured"),
    [
        (SMT, 0, (5, 6, 7)),  # one on each core but the first
        (SMT, 2, (6, 7)),
        (SMT, 4, (4, 5, 6, 7)),  # the first core, too, before any core is used twice
        (SMT, 5, (3, 4, 5, 6, 7)),  # only the fifth shares a core
        (cores((0, 1)), 0, (1,)),  # one core of two threads
        (cores((0, 1), (2, 3)), 0, (3,)),
        (cores((1,), (2, 6)), 0, (6,)),  # where some threads of a core may not be used
    ],
)
def test_no_two_measured_processors_share_a_core_where_others_are_free(
    available: list[Core], threads: int, measured: tuple[int, ...]
) -> None:
    assert choose_measured_cpus(available, threads) == measured


@pytest.mark.parametrize(
    ("available", "threads", "quota", "measured"),
    [
        (HYBRID, 0, None, (3,)),  # the large core that the first processor isn't on
        (HYBRID, 2, None, (1, 3)),  # both large cores, before any small one
        (HYBRID, 3, None, (1, 3, 7)),  # then a small core, before a second thread
        (HYBRID, 7, None, (1, 2, 3, 4, 5, 6, 7)),
        # Small cores come first, as on many Arm processors.
        (cores((0,), (1,), (2,), (3,), slow=(0, 1)), 0, None, (2, 3)),
        (cores((0,), (1,), (2,), (3,), slow=(0, 1)), 0, 2.0, (3,)),
        # The only fast core is the first.
        (cores((0,), (1,), slow=(1,)), 0, None, (0,)),
    ],
)
def test_fast_cores_measure_on_a_hybrid_machine(
    available: list[Core], threads: int, quota: float | None, measured: tuple[int, ...]
) -> None:
    assert choose_measured_cpus(available, threads, quota=quota) == measured


@pytest.mark.parametrize(("threads", "quota"), [(3, None), (2, 1.5)])
def test_more_threads_than_processors_are_refused(threads: int, quota: float | None) -> None:
    with pytest.raises(MeasurementFailedError, match=f"{threads} threads") as caught:
        choose_measured_cpus(single(0, 1), threads, quota=quota)
    assert "LHP_THREADS" in caught.value.hint


@pytest.mark.parametrize(
    ("available", "measured", "others"),
    [
        (single(0, 1, 2), (2,), (0, 1)),
        (SMT, (5, 6, 7), (0, 4)),  # 1, 2 and 3 share cores with measured ones
        (HYBRID, (3,), (0, 1, 4, 5, 6, 7)),
        (cores((0, 1)), (1,), (0,)),  # there is no other core
        (single(0, 1), (0, 1), (0, 1)),  # there is no other processor
    ],
)
def test_the_service_keeps_off_the_cores_that_are_measured(
    available: list[Core], measured: tuple[int, ...], others: tuple[int, ...]
) -> None:
    assert choose_other_cpus(available, measured) == others


def test_quota_and_cores_of_the_machine_decide_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LHP_CPUS_BEFORE_PINNING", "0,1,2,3,4,5,6,7")
    mount = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    root = write_files(
        tmp_path,
        core_files(["0,4", "1,5", "2,6", "3,7"])
        | {
            "proc/self/cgroup": "0::/lhp.slice/lhp.service",
            "proc/self/mountinfo": mount,
            "sys/fs/cgroup/lhp.slice/lhp.service/cpu.max": "max 100000",
            "sys/fs/cgroup/lhp.slice/cpu.max": "300000 100000",
        },
    )
    assert find_measured_cpus(0, root) == (6, 7)  # time for three: two measure
    (root / "sys/fs/cgroup/lhp.slice/cpu.max").write_text("max 100000")
    assert find_measured_cpus(0, root) == (5, 6, 7)


PIN_AWAY = """
import os, subprocess, sys, threading
from profiler_service.measurement.processors import available_cpus, pin_away

ended = threading.Event()
thread = threading.Thread(target=ended.wait)
thread.start()
cpus = available_cpus()
rest = pin_away(cpus[-1:])
assert rest == cpus[:-1], rest
assert os.sched_getaffinity(0) == set(rest)
assert os.sched_getaffinity(thread.native_id) == set(rest)  # threads already running, too
ended.set()
# A process started later knows what there was, so that it can measure on the others.
code = "from profiler_service.measurement.processors import available_cpus;print(available_cpus())"
printed = subprocess.check_output([sys.executable, "-c", code], text=True)
assert printed.strip() == str(cpus), printed
# Nothing changes where nothing would be left.
assert pin_away(cpus) == cpus
assert os.sched_getaffinity(0) == set(rest)
"""


@pytest.mark.skipif(len(available_cpus()) < 2, reason="needs two processors")
def test_pinning_away_leaves_the_measured_processors() -> None:
    subprocess.run([sys.executable, "-c", PIN_AWAY], check=True, timeout=60)


def test_available_cpus_are_those_of_the_affinity_mask() -> None:
    assert available_cpus() == tuple(sorted(os.sched_getaffinity(0)))
