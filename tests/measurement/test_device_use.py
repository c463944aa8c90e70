from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from profiler_service.analysis.samples import OthersUse
from profiler_service.measurement.device_use import (
    TICKS_HZ,
    CpuTimes,
    find_others_use,
    process_cpu_s,
    read_cpu_times,
    read_cpu_use,
    wait_for_others,
)
from tests.measurement.machines import write_files

STAT = """\
cpu  9 9 9 9 9 9 9 9 0 0
cpu0 1000 0 0 0 0 0 0 1000 0 0
cpu1 10 1 2 3 4 5 6 7 10 0
cpu11 20 1 2 3 4 5 6 8 20 0
intr 123"""


def process(ticks: Sequence[int], name: str = "python") -> str:
    """A line of /proc/PID/stat with these utime, stime, cutime and cstime."""
    return f"7 ({name}) R 1 7 7 0 -1 4194304 100 0 0 0 {' '.join(map(str, ticks))} 20 0 3 0 99"


def test_only_the_measured_processors_are_counted(tmp_path: Path) -> None:
    root = write_files(tmp_path, {"proc/stat": STAT})
    assert read_cpu_times((1, 11), root) == (30, 2, 4, 6, 8, 10, 12, 15, 30, 0)


def read_use(root: Path, cpus: Sequence[int] = (1,), own_s: float | None = 2.5) -> CpuTimes | None:
    """What is read of `cpus` and of process 7, which itself has worked for `own_s`."""
    return read_cpu_use(cpus, 7, root, process_cpu_s=lambda pid: own_s if pid == 7 else None)


def test_idle_time_is_no_use_and_stolen_time_is(tmp_path: Path) -> None:
    root = write_files(tmp_path, {"proc/stat": STAT, "proc/7/stat": process([3, 1, 0, 0])})
    # 10 + 1 + 2 + 3 + 4 + 5 + 6 + 7 ticks in all, of which 3 idle and 4 waiting for disks.
    assert read_use(root) == CpuTimes(total_s=38 / TICKS_HZ, used_s=31 / TICKS_HZ, own_s=2.5)


def test_own_use_includes_descendants_and_those_that_have_ended(tmp_path: Path) -> None:
    # A compiler that is running, started by another process of ours; and one that has ended.
    root = write_files(
        tmp_path,
        {
            "proc/stat": STAT,
            "proc/7/stat": process([3, 1, 10, 5], name="python) R 9 (x"),
            "proc/7/task/7/children": "8 ",
            "proc/7/task/9/children": "",
            "proc/8/stat": process([100, 0, 20, 0]),
            "proc/8/task/8/children": "12",
            "proc/12/stat": process([1000, 0, 0, 0]),
        },
    )
    use = read_use(root)
    assert use is not None
    assert use.own_s == pytest.approx(2.5 + (10 + 5 + 100 + 20 + 1000) / TICKS_HZ)


def test_use_is_unknown_of_a_process_that_is_gone_and_of_processors_not_shown(
    tmp_path: Path,
) -> None:
    root = write_files(tmp_path, {"proc/stat": STAT})
    assert read_use(root, own_s=None) is None
    assert read_use(root, cpus=(5,)) is None


def test_the_time_that_a_process_has_worked_is_read_from_its_clock() -> None:
    before = process_cpu_s(os.getpid())
    assert before is not None and before <= time.process_time() + 1e-6
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert process_cpu_s(ended.pid) is None


def times(total_s: float, used_s: float, own_s: float) -> CpuTimes:
    return CpuTimes(total_s=total_s, used_s=used_s, own_s=own_s)


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        (times(0, 0, 0), times(1, 0.75, 0.75), 0.0),  # all use is our own
        (times(0, 0, 0), times(1, 0.75, 0.5), 0.25),
        (times(5, 3, 1), times(6, 4, 1.25), 0.75),  # the time between the readings
        (times(0, 0, 0), times(1, 0.74, 0.75), 0.0),  # the counters differ by a tick
        (times(0, 0, 0), times(0, 0, 0), None),  # no tick has passed
        (None, times(1, 0.75, 0.75), None),
        (times(0, 0, 0), None, None),
    ],
)
def test_the_share_of_others_is_what_is_not_our_own(
    before: CpuTimes | None, after: CpuTimes | None, share: float | None
) -> None:
    assert find_others_use(before, after).share == share


def test_coarse_counters_of_short_batches_cancel_out() -> None:
    # We use half of each 20 ms. The kernel counts a tick of 10 ms or none or two.
    use = OthersUse()
    for used_s in (0.02, 0.0, 0.01, 0.0, 0.02):
        use += find_others_use(times(0, 0, 0), times(0.02, used_s, 0.01))
    assert use.watched_s == pytest.approx(0.1)
    assert use.share == pytest.approx(0.0)


class FakeGpu:
    """A GPU whose use others change over time, and a clock that only pauses move on."""

    def __init__(self, use_at: Callable[[float], float | None]) -> None:
        self.now_s = 100.0
        self._use_at = use_at

    def read(self) -> float | None:
        return self._use_at(self.now_s - 100.0)

    def pause(self, seconds: float) -> bool:
        assert seconds > 0
        self.now_s += seconds
        return True

    def wait(self, *, longest_s: float, idle_s: float = 60.0) -> tuple[float | None, float]:
        """What is found after waiting, and how long that took; own use ended `idle_s` ago."""
        share = wait_for_others(
            self.read,
            longest_s=longest_s,
            own_use_ended_s=100.0 - idle_s,
            pause=self.pause,
            clock_s=lambda: self.now_s,
        )
        return share, self.now_s - 100.0


def test_a_free_gpu_is_used_at_once() -> None:
    # Among them: a training job that waits for this answer, and uses nothing meanwhile.
    assert FakeGpu(lambda _: 0.0).wait(longest_s=10) == (0.0, 0.0)
    assert FakeGpu(lambda _: 0.1).wait(longest_s=10) == (0.1, 0.0)


def test_a_busy_gpu_is_waited_for_until_the_time_is_up() -> None:
    share, waited_s = FakeGpu(lambda _: 0.97).wait(longest_s=10)
    assert share == 0.97
    assert waited_s == pytest.approx(10)


def test_waiting_ends_when_others_end() -> None:
    share, waited_s = FakeGpu(lambda s: 0.97 if s < 3 else 0.0).wait(longest_s=10)
    assert share == 0.0
    assert waited_s == pytest.approx(3, abs=0.21)


def test_the_job_that_asks_is_waited_for_only_until_its_last_work_is_out_of_the_reading() -> None:
    # It trained until it asked. The reading covers a second, in which its share falls.
    share, waited_s = FakeGpu(lambda s: max(0.0, 1 - s)).wait(longest_s=10)
    assert share is not None and share <= 0.1
    assert waited_s == pytest.approx(1, abs=0.21)


def test_own_work_of_the_last_second_is_not_taken_for_others_use() -> None:
    def own_use(seconds: float) -> float:
        return max(0.0, 0.8 - seconds)

    # Even if no time is given for waiting.
    share, waited_s = FakeGpu(own_use).wait(longest_s=0, idle_s=0.0)
    assert share is not None and share <= 0.1
    assert waited_s <= 1.0
    # If our work ended long ago, the same reading is somebody else's.
    assert FakeGpu(own_use).wait(longest_s=0) == (0.8, 0.0)


def test_a_gpu_that_does_not_tell_is_used_at_once() -> None:
    assert FakeGpu(lambda _: None).wait(longest_s=10) == (None, 0.0)


def test_waiting_can_be_broken_off() -> None:
    gpu = FakeGpu(lambda _: 0.97)
    asked: list[float] = []

    def pause(seconds: float) -> bool:
        asked.append(seconds)
        return False

    share = wait_for_others(
        gpu.read, longest_s=10, own_use_ended_s=0, pause=pause, clock_s=lambda: gpu.now_s
    )
    assert (share, len(asked)) == (0.97, 1)
