from __future__ import annotations

from pathlib import Path

import pytest

from profiler_service.measurement.topology import (
    Core,
    describe_cores,
    find_fast_cpus,
    read_cores,
)
from tests.measurement.machines import core_files, write_files

# Two large cores of two threads each, and four small ones, as on Intel's hybrid processors.
HYBRID = ("0,1", "2,3", "4", "5", "6", "7")


def test_processors_of_one_core_are_found_together(tmp_path: Path) -> None:
    root = write_files(tmp_path, core_files(["0,2", "1,3"]))
    assert read_cores((0, 1, 2, 3), root) == (
        Core(cpus=(0, 2), is_fast=True),
        Core(cpus=(1, 3), is_fast=True),
    )
    # Only those that may be used.
    assert read_cores((1, 2, 3), root) == (
        Core(cpus=(1, 3), is_fast=True),
        Core(cpus=(2,), is_fast=True),
    )


def test_processors_whose_cores_are_not_shown_have_one_each(tmp_path: Path) -> None:
    assert read_cores((3, 5), tmp_path) == (
        Core(cpus=(3,), is_fast=True),
        Core(cpus=(5,), is_fast=True),
    )


@pytest.mark.parametrize(
    ("files", "fast"),
    [
        (
            # Names of core types decide, whatever else is shown: on some hybrid processors small
            # cores reach more than four fifths of the clock.
            core_files(HYBRID, dict.fromkeys(range(8), 1000))
            | {"sys/devices/cpu_core/cpus": "0-3", "sys/devices/cpu_atom/cpus": "4-7"},
            {0, 1, 2, 3},
        ),
        (core_files(HYBRID, {cpu: 1024 if cpu < 4 else 600 for cpu in range(8)}), {0, 1, 2, 3}),
        (  # Arm: one core above the other large ones, and four small ones first
            core_files(list("01234567"), dict(enumerate([300] * 4 + [900] * 3 + [1024]))),
            {4, 5, 6, 7},
        ),
        (
            core_files(
                HYBRID,
                {cpu: 5_200_000 if cpu < 4 else 3_900_000 for cpu in range(8)},
                file="cpufreq/cpuinfo_max_freq",
            ),
            {0, 1, 2, 3},
        ),
        (  # capacities that are all the same tell nothing, so clocks decide
            core_files(HYBRID, dict.fromkeys(range(8), 1024))
            | core_files(
                HYBRID,
                {cpu: 5_100_000 if cpu < 4 else 3_300_000 for cpu in range(8)},
                file="cpufreq/cpuinfo_max_freq",
            ),
            {0, 1, 2, 3},
        ),
    ],
    ids=["types", "capacity", "three sorts", "clock", "capacity alike"],
)
def test_fast_cores_of_a_hybrid_machine(
    tmp_path: Path, files: dict[str, object], fast: set[int]
) -> None:
    assert find_fast_cpus(write_files(tmp_path, files)) == fast


@pytest.mark.parametrize(
    "files",
    [
        {},
        core_files(["0", "1"]),
        core_files(["0", "1"], {0: 1024, 1: 1024}),
        # One core is known to reach a slightly higher clock: no other sort of core.
        core_files(["0", "1"], {0: 5_200_000, 1: 5_000_000}, file="cpufreq/cpuinfo_max_freq"),
        core_files(["0", "1"], {0: 1024}),  # not shown of both
        core_files(["0", "1"]) | {"sys/devices/cpu_core/cpus": "0-1"},  # no small ones
    ],
)
def test_equal_cores_make_no_hybrid_machine(tmp_path: Path, files: dict[str, object]) -> None:
    assert find_fast_cpus(write_files(tmp_path, files)) == frozenset()


def test_where_only_slow_cores_may_be_used_none_is_slower(tmp_path: Path) -> None:
    files = core_files(HYBRID, {cpu: 1024 if cpu < 4 else 600 for cpu in range(8)})
    root = write_files(tmp_path, files)
    assert [core.is_fast for core in read_cores((0, 4), root)] == [True, False]
    assert [core.is_fast for core in read_cores((4, 5), root)] == [True, True]


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
    # Two cores of two threads, four of one, and one of four.
    root = write_files(tmp_path, core_files(["0,2", "1,3", "4", "5", "6", "7", "8,9,10,11"]))
    assert describe_cores(measured, root) == {
        "threads_per_core": threads_per_core,
        "smt_siblings": smt_siblings,
    }
    assert describe_cores((*measured, 64), root) == {}  # not shown for all of them


@pytest.mark.parametrize(
    ("measured", "cores"), [((0, 2), "fast"), ((4, 5), "slow"), ((2, 4), "fast slow")]
)
def test_a_hybrid_machine_s_platform_tells_which_cores_measure(
    tmp_path: Path, measured: tuple[int, ...], cores: str
) -> None:
    files = core_files(HYBRID, {cpu: 1024 if cpu < 4 else 600 for cpu in range(8)})
    assert describe_cores(measured, write_files(tmp_path, files))["cores"] == cores
