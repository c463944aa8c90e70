from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from profiler_service.measurement.cgroups import (
    Throttling,
    find_cpu_groups,
    find_cpu_quota,
    read_throttling,
)
from tests.measurement.machines import write_files

V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
V1_SET = "37 31 0:34 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset"


def machine(root: Path, *, own: str, mounts: str, files: Mapping[str, str]) -> Path:
    """A machine with these control groups and `files` below /sys/fs/cgroup."""
    below = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    return write_files(root, {"proc/self/cgroup": own, "proc/self/mountinfo": mounts, **below})


def test_the_quota_of_the_process_s_own_group_counts(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        own="0::/system.slice/run-u1.service",
        mounts=V2,
        files={"system.slice/run-u1.service/cpu.max": "150000 100000"},
    )
    assert find_cpu_quota(root) == 1.5


def test_the_smallest_quota_of_all_parents_counts(tmp_path: Path) -> None:
    # CPUQuota=200% for the service, 50% for the slice around it, none further up.
    root = machine(
        tmp_path,
        own="0::/batch.slice/batch-night.slice/lhp.service",
        mounts=V2,
        files={
            "batch.slice/cpu.max": "max 100000",
            "batch.slice/batch-night.slice/cpu.max": "50000 100000",
            "batch.slice/batch-night.slice/lhp.service/cpu.max": "200000 100000",
            # A neighbour's quota is none of ours.
            "batch.slice/other.service/cpu.max": "10000 100000",
        },
    )
    assert find_cpu_quota(root) == 0.5


def test_a_container_s_quota_is_that_of_the_root_it_sees(tmp_path: Path) -> None:
    root = machine(tmp_path, own="0::/", mounts=V2, files={"cpu.max": "400000 100000"})
    assert find_cpu_quota(root) == 4.0


def test_no_limit_is_no_quota(tmp_path: Path) -> None:
    root = machine(tmp_path, own="0::/", mounts=V2, files={"cpu.max": "max 100000"})
    assert find_cpu_quota(root) is None


def test_quotas_of_version_1_count_at_every_level(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        own="5:cpuset:/elsewhere\n4:cpu,cpuacct:/batch/lhp\n1:name=systemd:/x:y\n0::/",
        mounts=f"{V1_SET}\n{V1}",
        files={
            f"cpu,cpuacct/{group}cpu.cfs_{name}_us": text
            for group, quota in (("", "-1"), ("batch/", "100000"), ("batch/lhp/", "400000"))
            for name, text in (("quota", quota), ("period", "50000"))
        },
    )
    group = root / "sys/fs/cgroup/cpu,cpuacct/batch"
    assert find_cpu_quota(root) == 2.0
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert find_cpu_quota(root) == 8.0


def test_a_container_that_sees_only_its_own_part_of_version_1_reads_that(tmp_path: Path) -> None:
    # Without a name space for control groups: the process's path is the host's, and the mount
    # shows the part of the tree below the container's group.
    mounts = V1.replace(" / /sys", " /docker/0c1 /sys")
    root = machine(
        tmp_path,
        own="4:cpu,cpuacct:/docker/0c1/inner",
        mounts=mounts,
        files={
            "cpu,cpuacct/cpu.cfs_quota_us": "300000",
            "cpu,cpuacct/cpu.cfs_period_us": "100000",
            "cpu,cpuacct/inner/cpu.cfs_quota_us": "-1",
        },
    )
    top = root / "sys/fs/cgroup/cpu,cpuacct"
    assert find_cpu_groups(root) == (top / "inner", top)
    assert find_cpu_quota(root) == 3.0


@pytest.mark.parametrize("own", ["0::/../../other.slice", "0::/gone (deleted)"])
def test_a_group_that_is_not_visible_leaves_the_outermost(tmp_path: Path, own: str) -> None:
    root = machine(tmp_path, own=own, mounts=V2, files={"cpu.max": "100000 100000"})
    (root / "sys/fs/cgroup/other.slice").mkdir()
    assert find_cpu_groups(root) == (root / "sys/fs/cgroup",)
    assert find_cpu_quota(root) == 1.0


def test_names_with_blanks_and_backslashes_are_found(tmp_path: Path) -> None:
    # mountinfo writes both as octal numbers; /proc/self/cgroup doesn't.
    name = r"my\x2dgroup a"
    root = write_files(
        tmp_path,
        {
            "proc/self/cgroup": f"0::/{name}/inner",
            "proc/self/mountinfo": V2.replace(" / /sys", r" /my\134x2dgroup\040a /sys"),
            "sys/fs/cgroup/inner/cpu.max": "50000 100000",
        },
    )
    assert find_cpu_quota(root) == 0.5


def test_no_quota_without_control_groups(tmp_path: Path) -> None:
    assert find_cpu_quota(tmp_path) is None
    assert read_throttling(tmp_path) == {}


def test_throttling_is_counted_for_the_group_and_its_parents(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        own="0::/a/b",
        mounts=V2,
        files={
            # The root of the tree has no quota, so it counts no periods.
            "cpu.stat": "usage_usec 9",
            "a/cpu.stat": "usage_usec 9\nnr_periods 50\nnr_throttled 12\nthrottled_usec 800000",
            "a/b/cpu.stat": "usage_usec 9\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0",
        },
    )
    assert read_throttling(root) == {
        root / "sys/fs/cgroup/a/b": Throttling(periods=0, throttled=0, seconds=0.0),
        root / "sys/fs/cgroup/a": Throttling(periods=50, throttled=12, seconds=0.8),
    }


def test_throttled_time_of_version_1_is_in_nanoseconds(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        own="4:cpu,cpuacct:/",
        mounts=V1,
        files={"cpu,cpuacct/cpu.stat": "nr_periods 4\nnr_throttled 2\nthrottled_time 500000000"},
    )
    top = root / "sys/fs/cgroup/cpu,cpuacct"
    assert read_throttling(root) == {top: Throttling(periods=4, throttled=2, seconds=0.5)}


def test_throttling_between_two_readings() -> None:
    before = Throttling(periods=10, throttled=2, seconds=0.25)
    after = Throttling(periods=30, throttled=5, seconds=1.0)
    assert after.since(before) == Throttling(periods=20, throttled=3, seconds=0.75)
