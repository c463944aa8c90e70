from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest

from profiler_service.measurement.timer import (
    LEAST_LOST_S,
    CpuStopwatch,
    Reading,
    allowed_lost_s,
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
    stopwatch = CpuStopwatch(clock_ns=ticking(2_000, 5_000), lost_ns=ticking(70, 570))
    reading = stopwatch.read(lambda: made.append(1), 10)
    assert len(made) == 10
    assert reading.started_s == pytest.approx(2e-6)
    assert reading.elapsed_s == pytest.approx(3e-6)  # 5,000 − 2,000 ns, not yet divided by 10
    assert reading.lost_s == pytest.approx(0.5e-6)  # 570 − 70 ns


@pytest.mark.parametrize(("lost_ns", "lost_s"), [(-20, 0.0), (1_500, 1e-6)])
def test_no_less_than_nothing_and_no_more_than_all_is_lost(lost_ns: int, lost_s: float) -> None:
    # The two clocks aren't read at the same time; and two threads may wait at the same time.
    reading = CpuStopwatch(clock_ns=ticking(0, 1_000), lost_ns=ticking(0, lost_ns)).read(int, 1)
    assert reading.lost_s == pytest.approx(lost_s)


def test_stopwatch_reads_the_clock_inside_of_the_lost_time() -> None:
    # Otherwise a pre-emption between the two would lengthen the time and go unnoticed.
    order: list[str] = []

    def clock_ns() -> int:
        order.append("clock")
        return len(order)

    def lost_ns() -> int:
        order.append("lost")
        return 0

    CpuStopwatch(clock_ns=clock_ns, lost_ns=lost_ns).read(lambda: order.append("call"), 2)
    assert order == ["lost", "clock", "call", "call", "clock", "lost"]


def lossy(*lost_s: float, elapsed_s: float = 1e-3) -> Callable[[], Reading]:
    """A stopwatch whose readings take `elapsed_s` and lose these times."""
    losses = iter(lost_s)
    return lambda: Reading(started_s=0.0, elapsed_s=elapsed_s, lost_s=next(losses))


@pytest.mark.parametrize(
    ("usual_s", "allowed_s"), [(1e-3, 10e-6), (0.1, 1e-3), (50e-6, LEAST_LOST_S), (0, LEAST_LOST_S)]
)
def test_a_hundredth_of_the_usual_time_may_be_lost(usual_s: float, allowed_s: float) -> None:
    # Of 50 µs it would be 0.5 µs, which can't be told from nothing.
    assert allowed_lost_s(usual_s) == pytest.approx(allowed_s)


def test_samples_that_lost_more_than_allowed_are_retaken_until_one_did_not() -> None:
    sample = take_sample(lossy(50e-6, 11e-6, 9e-6), calls=3, allowed_lost_s=10e-6)
    assert (sample.num_discarded, sample.unstable) == (2, False)
    assert sample.lost_s == pytest.approx(3e-6)  # 9 µs in three calls


@pytest.mark.parametrize("elapsed_s", [0.1e-3, 1e-3, 50e-3])
def test_a_slow_sample_may_lose_no_more_than_a_fast_one(elapsed_s: float) -> None:
    # Usually 1 ms, so 10 µs are allowed: a sample of 50 ms, or of a tenth of a millisecond, is
    # judged by what it lost, whatever its own length.
    allowed_s = allowed_lost_s(1e-3)
    read = lossy(*[20e-6] * 4, elapsed_s=elapsed_s)
    assert take_sample(read, calls=1, allowed_lost_s=allowed_s).unstable
    read = lossy(9e-6, elapsed_s=elapsed_s)
    assert take_sample(read, calls=1, allowed_lost_s=allowed_s).num_discarded == 0


def test_what_is_not_known_to_be_lost_disturbs_nothing() -> None:
    sample = take_sample(readings(False)[0], calls=1, allowed_lost_s=0.0)
    assert not sample.unstable
    assert math.isnan(sample.lost_s)


class Watching:
    """Finds the first so many readings slow, and tells what it was asked and told."""

    def __init__(self, slow: int) -> None:
        self._slow = slow
        self.recovered: list[float] = []
        self.kept: list[tuple[float, bool]] = []

    def is_slow(self, reading: Reading) -> bool:
        return reading.elapsed_s <= self._slow

    def recover(self, reading: Reading) -> None:
        self.recovered.append(reading.elapsed_s)

    def keep(self, reading: Reading, *, unstable: bool) -> None:
        self.kept.append((reading.elapsed_s, unstable))


def test_samples_of_a_slow_device_are_retaken_after_it_recovers() -> None:
    watch = Watching(2)
    sample = take_sample(readings(False, False, False)[0], calls=1, watch=watch)
    assert (sample.latency_s, sample.num_discarded, sample.unstable) == (3.0, 2, False)
    assert watch.recovered == [1.0, 2.0]
    assert watch.kept == [(3.0, False)]


def test_discards_of_a_slow_device_are_bounded() -> None:
    watch = Watching(100)
    sample = take_sample(readings(*[False] * 9)[0], calls=1, watch=watch)
    # The first reading and three retakes. Nothing is recovered for after the last.
    assert (sample.latency_s, sample.num_discarded, sample.unstable) == (4.0, 3, True)
    assert watch.recovered == [1.0, 2.0, 3.0]
    assert watch.kept == [(4.0, True)]


def test_a_sample_has_the_clock_of_its_reading() -> None:
    clocks_hz = iter([1e9, 2e9])
    sample = take_sample(
        lambda: Reading(
            started_s=0.0, elapsed_s=1.0, clock_hz=(hz := next(clocks_hz)), disturbed=hz == 1e9
        ),
        calls=5,
    )
    assert sample.clock_hz == 2e9  # not of the discarded one, and not per call
    assert math.isnan(take_sample(readings(False)[0], calls=1).clock_hz)
