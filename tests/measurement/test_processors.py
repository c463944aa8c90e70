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
    describe_cores,
    find_cpu_quota,
)


@pytest.mark.parametrize(
    ("available", "threads", "quota", "measured"),
    [
        ((0,), 0, None, (0,)),  # a single processor does everything
        ((0, 1), 0, None, (1,)),  # all but the first
        ((2, 3, 6, 7), 0, None, (3, 6, 7)),  # whatever their numbers are
        ((0, 1, 2, 3), 2, None, (2, 3)),  # counted from the last
        ((0, 1, 2, 3), 4, None, (0, 1, 2, 3)),  # all, if asked for
        (range(64), 0, 4.0, (61, 62, 63)),  # time for four: three measure
        (range(64), 0, 2.5, (63,)),  # time for two and a half: one measures
        (range(64), 0, 0.5, (63,)),  # at least one
        ((0, 1), 0, 100.0, (1,)),  # a quota beyond the machine is none
    ],
)
def test_measured_cpus(
    available: tuple[int, ...], threads: int, quota: float | None, measured: tuple[int, ...]
) -> None:
    assert choose_measured_cpus(available, threads, quota=quota) == measured


@pytest.mark.parametrize(("threads", "quota"), [(3, None), (2, 1.5)])
def test_more_threads_than_processors_are_refused(threads: int, quota: float | None) -> None:
    with pytest.raises(MeasurementFailedError, match=f"{threads} threads") as caught:
        choose_measured_cpus((0, 1), threads, quota=quota)
    assert "LHP_THREADS" in caught.value.hint


def test_quota_of_cgroup_version_2(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert find_cpu_quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert find_cpu_quota(tmp_path) is None


def test_quota_of_cgroup_version_1(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("400000\n")
    assert find_cpu_quota(tmp_path) == 4.0
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert find_cpu_quota(tmp_path) is None


def test_no_quota_without_cgroups(tmp_path: Path) -> None:
    assert find_cpu_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("measured", "threads_per_core", "smt_siblings"),
    [
        ((4, 5), "1", "0"),  # whole cores
        ((0, 1), "2", "0"),  # half of two cores
        ((0, 1, 2), "2", "2"),  # 0 and 2 share one; 3, beside 1, is not measured
        ((0, 1, 2, 3), "2", "4"),
        ((1, 4, 5), "1 2", "0"),  # cores of two kinds
        ((8, 9, 10), "4", "3"),
    ],
)
def test_how_measured_processors_share_cores(
    tmp_path: Path, measured: tuple[int, ...], threads_per_core: str, smt_siblings: str
) -> None:
    # Two cores of two threads, two of one, and one of four.
    for siblings in ("0,2", "1,3", "4", "5", "8-11"):
        for cpu in ("8", "9", "10", "11") if siblings == "8-11" else siblings.split(","):
            topology = tmp_path / f"cpu{cpu}" / "topology"
            topology.mkdir(parents=True)
            (topology / "thread_siblings_list").write_text(siblings + "\n")
    assert describe_cores(measured, tmp_path) == {
        "threads_per_core": threads_per_core,
        "smt_siblings": smt_siblings,
    }
    assert describe_cores((*measured, 64), tmp_path) == {}  # not shown for all of them


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
