from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from profiler_service.measurement.timer import CpuStopwatch, Reading, take_sample


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
