"""The control groups that limit this process's processor time: their quotas, and how often they
stopped it.

Linux, both versions of control groups. A quota may be set at any level: for the group of the
process itself, for a systemd slice above it, or for a container around both. Every path is below
`root`, the root of the file system.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from profiler_service.measurement.system_files import ROOT, read_text


@dataclass(frozen=True, kw_only=True)
class Throttling:
    """The counters of a control group since it was made, or between two readings."""

    periods: int
    """Periods, mostly of 100 ms, in which something ran in the group."""
    throttled: int
    """Periods in which the quota was used up, so that the group had to wait."""
    seconds: float
    """Total time that its processors waited."""

    def since(self, earlier: Throttling) -> Throttling:
        """What was counted after the reading `earlier`."""
        return Throttling(
            periods=self.periods - earlier.periods,
            throttled=self.throttled - earlier.throttled,
            seconds=self.seconds - earlier.seconds,
        )


def find_cpu_groups(root: Path = ROOT) -> tuple[Path, ...]:
    """Directories of the control groups that count this process's processor time.

    Its own group comes first, then the parents, up to the outermost that is visible here. If the
    process's own group isn't visible (a container sees only a part of the tree), the visible ones.
    Source: cgroups(7), proc_pid_mountinfo(5).
    """
    own: dict[str, str] = {}
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            own["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            own["cgroup"] = path
    groups: dict[Path, None] = {}
    for line in read_text(root / "proc/self/mountinfo").splitlines():
        mount, _, source = line.partition(" - ")
        system, _, options = source.partition(" ")
        if system not in own or (system == "cgroup" and "cpu" not in re.split("[ ,]", options)):
            continue
        shown, place = (_unescape(field) for field in mount.split()[3:5])
        top = root / place.lstrip("/")
        group = top / _relative(own[system], shown)
        visible = (each for each in (group, *group.parents) if each.is_relative_to(top))
        groups |= dict.fromkeys(each for each in visible if each.is_dir())
    return tuple(groups)


def find_cpu_quota(root: Path = ROOT) -> float | None:
    """Number of processors whose time this process may use, or None without a limit.

    It is the smallest quota of the process's control groups. A process that may use two processors'
    time still sees all processors of a large machine. With a thread on each of them, it would be
    stopped in every sample.
    """
    quotas = (_read_quota(group) for group in find_cpu_groups(root))
    return min((quota for quota in quotas if quota is not None), default=None)


def read_throttling(root: Path = ROOT) -> dict[Path, Throttling]:
    """What each control group of this process with a quota has counted so far."""
    counted = {}
    for group in find_cpu_groups(root):
        lines = (line.split() for line in read_text(group / "cpu.stat").splitlines())
        counts = {line[0]: int(line[1]) for line in lines if len(line) == 2}
        if "nr_periods" in counts:
            counted[group] = Throttling(
                periods=counts["nr_periods"],
                throttled=counts["nr_throttled"],
                # Microseconds in version 2, nanoseconds in version 1.
                seconds=counts.get("throttled_usec", 0) / 1e6
                + counts.get("throttled_time", 0) / 1e9,
            )
    return counted


def _read_quota(group: Path) -> float | None:
    quota, _, period = read_text(group / "cpu.max").strip().partition(" ")
    if not quota:
        quota = read_text(group / "cpu.cfs_quota_us").strip()
        period = read_text(group / "cpu.cfs_period_us").strip()
    return None if quota in ("", "max", "-1") else int(quota) / int(period)


def _relative(path: str, shown: str) -> str:
    """`path` relative to the part of the tree that a mount shows; empty if it is outside."""
    inner = PurePosixPath(path)
    if ".." in inner.parts or not inner.is_relative_to(shown):
        return ""
    return str(inner.relative_to(shown))


def _unescape(field: str) -> str:
    """A field of mountinfo, in which blanks and backslashes are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
