from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from profiler_service.measurement.timer import (
    MAX_REPEATS,
    QUEUEING_S,
    CpuStopwatch,
    EventStopwatch,
    Reading,
    take_lasting_sample,
    take_sample,
)


def readings(*disturbed: bool, elapsed_s: float = 1.0) -> tuple[Callable[[], Reading], list[int]]:
    """A stopwatch that shows 1, 2, 3, … times `elapsed_s`; and how often it was read."""
    reads: list[int] = []
    flags = iter(disturbed)

    def read() -> Reading:
        reads.append(1)
        n = len(reads)
        return Reading(started_s=100.0 + n, elapsed_s=n * elapsed_s, disturbed=next(flags))

    return read, reads


def test_undisturbed_sample_is_kept_and_divided_by_its_calls() -> None:
    read, reads = readings(False)
    sample = take_sample(read, calls=4)
    assert sample.latency_s == 0.25  # one second for four calls
    assert (sample.num_discarded, sample.unstable, sample.started_s) == (0, False, 101.0)
    assert len(reads) == 1


def test_disturbed_samples_are_retaken_until_one_is_not() -> None:
    read, reads = readings(True, True, False)
    sample = take_sample(read, calls=1)
    # The third reading, of three seconds, is the first undisturbed one.
    assert (sample.latency_s, sample.started_s) == (3.0, 103.0)
    assert (sample.num_discarded, sample.unstable) == (2, False)
    assert len(reads) == 3


def test_discards_are_bounded_and_the_last_reading_is_marked_unstable() -> None:
    read, reads = readings(*[True] * 100)
    sample = take_sample(read, calls=1)
    # The first reading and three retakes; not the smallest (the first) but the last is kept.
    assert len(reads) == 4
    assert (sample.latency_s, sample.num_discarded, sample.unstable) == (4.0, 3, True)


def test_clock_that_stands_still_yields_no_sample() -> None:
    read, _ = readings(False, elapsed_s=0.0)
    with pytest.raises(ArithmeticError, match="did not advance over 2 calls"):
        take_sample(read, calls=2)


def ticking(*values: int) -> Callable[[], int]:
    iterator: Iterator[int] = iter(values)
    return lambda: next(iterator)


def test_stopwatch_times_all_calls_together() -> None:
    made: list[int] = []
    stopwatch = CpuStopwatch(clock_ns=ticking(2_000, 5_000), preemptions=ticking(7, 7))
    reading = stopwatch.read(lambda: made.append(1), 10)
    assert len(made) == 10
    assert reading.started_s == pytest.approx(2e-6)
    assert reading.elapsed_s == pytest.approx(3e-6)  # 5,000 − 2,000 ns, not yet divided by 10
    assert not reading.disturbed


def test_stopwatch_notices_preemption_between_its_clock_readings() -> None:
    stopwatch = CpuStopwatch(clock_ns=ticking(0, 1), preemptions=ticking(7, 8))
    assert stopwatch.read(lambda: None, 1).disturbed


def test_stopwatch_reads_the_clock_inside_of_the_preemption_counts() -> None:
    # Otherwise a pre-emption between the two would lengthen the time and go unnoticed.
    order: list[str] = []

    def clock_ns() -> int:
        order.append("clock")
        return len(order)

    def preemptions() -> int:
        order.append("preemptions")
        return 0

    CpuStopwatch(clock_ns=clock_ns, preemptions=preemptions).read(lambda: order.append("call"), 2)
    assert order == ["preemptions", "clock", "call", "call", "clock", "preemptions"]


class Queue:
    """A device's queue: `log` tells what was put into it, and when it was waited for."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.delays_s: list[float] = []

    def delay(self, seconds: float) -> None:
        self.log.append("delay")
        self.delays_s.append(seconds)

    def event(self, name: str) -> Mark:
        return Mark(name, self.log)

    def stopwatch(self, *, disturbed: bool = False) -> EventStopwatch:
        return EventStopwatch(
            start=self.event("start"),
            end=self.event("end"),
            delay=self.delay,
            is_disturbed=lambda: disturbed,
            clock_s=lambda: 7.0,
        )


class Mark:
    def __init__(self, name: str, log: list[str]) -> None:
        self._name = name
        self._log = log

    def record(self) -> None:
        self._log.append(self._name)

    def synchronize(self) -> None:
        self._log.append(f"wait for {self._name}")

    def elapsed_time(self, end: Mark) -> float:
        assert (self._name, end._name, self._log[-1]) == ("start", "end", "wait for end")
        return 0.25  # milliseconds


def test_queued_work_is_timed_behind_a_delay() -> None:
    # Without the delay, the device would reach `start` before the work is queued, and the time
    # from there on would be the host's.
    queue = Queue()
    reading = queue.stopwatch().read(lambda: queue.log.append("work"), 3)
    assert queue.log == ["delay", "start", "work", "work", "work", "end", "wait for end"]
    assert (reading.started_s, reading.elapsed_s, reading.disturbed) == (7.0, 0.25e-3, False)
    assert queue.stopwatch(disturbed=True).read(lambda: None, 1).disturbed


def test_delay_grows_with_what_is_queued_behind_it() -> None:
    queue = Queue()
    for repeats in (1, 8):
        queue.stopwatch().read(lambda: None, repeats)
    # The work and two marks: 3 and 10 things to queue.
    assert queue.delays_s == pytest.approx([3 * QUEUEING_S, 10 * QUEUEING_S])


def lasting(
    once_s: float, *, disturbed: bool = False
) -> tuple[Callable[[int], Reading], list[int]]:
    """A stopwatch for work of `once_s`, but for the first reading a tenth less; its repeats."""
    reads: list[int] = []

    def read(repeats: int) -> Reading:
        reads.append(repeats)
        factor = 0.9 if len(reads) == 1 else 1.0
        return Reading(
            started_s=float(len(reads)), elapsed_s=factor * once_s * repeats, disturbed=disturbed
        )

    return read, reads


@pytest.mark.parametrize(
    ("once_s", "repeats"),
    [
        (10e-6, 6),  # 50 µs / 9 µs = 5.6
        (100e-6, 1),  # long enough
        (54e-6, 2),  # looks like 48.6 µs
        (0.1e-6, MAX_REPEATS),  # bounded: 556 would be needed
        (0.78125e-6 / 0.9, MAX_REPEATS),  # a 64th of 50 µs, whatever the rounding
    ],
)
def test_short_work_is_repeated_until_the_sample_lasts(once_s: float, repeats: int) -> None:
    read, reads = lasting(once_s)
    sample = take_lasting_sample(read, calls=4, min_sample_s=50e-6)
    # The first reading only tells how often to repeat; the sample is the second.
    assert reads == [1, repeats]
    assert sample.started_s == 2.0
    assert sample.latency_s == pytest.approx(once_s / 4)  # of one call, not of one replay


def test_work_that_the_clock_does_not_see_at_first_is_repeated_most() -> None:
    read, reads = lasting(0.0)
    with pytest.raises(ArithmeticError, match="did not advance over 128 calls"):
        take_lasting_sample(read, calls=2, min_sample_s=50e-6)
    assert reads == [1, MAX_REPEATS]


def test_lasting_samples_are_retaken_like_others() -> None:
    read, reads = lasting(25e-6, disturbed=True)
    sample = take_lasting_sample(read, calls=1, min_sample_s=50e-6)
    # 50 µs / 22.5 µs: three times; the first reading of these and three retakes.
    assert reads == [1, 3, 3, 3, 3]
    assert (sample.num_discarded, sample.unstable) == (3, True)
