from __future__ import annotations

from collections.abc import Callable

import pytest

from profiler_service.measurement.event_timer import (
    MAX_REPEATS,
    QUEUEING_S,
    EventStopwatch,
    take_lasting_sample,
)
from profiler_service.measurement.timer import MIN_CLOCKS, Reading
from tests.measurement.test_timer import at, usual_clock


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

    def flush(self) -> None:
        self.log.append("flush")

    def stopwatch(
        self,
        *,
        throttled: bool = False,
        flushed: bool = False,
        read_clock_hz: Callable[[], float | None] = lambda: None,
    ) -> EventStopwatch:
        return EventStopwatch(
            start=self.event("start"),
            end=self.event("end"),
            delay=self.delay,
            is_throttled=lambda: throttled,
            read_clock_hz=read_clock_hz,
            clock_s=lambda: 7.0,
            flush=self.flush if flushed else None,
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
    assert queue.stopwatch(throttled=True).read(lambda: None, 1).disturbed


def test_with_a_flush_each_piece_of_work_is_timed_alone_and_finds_the_cache_flushed() -> None:
    queue = Queue()
    reading = queue.stopwatch(flushed=True).read(lambda: queue.log.append("work"), 2)
    # The flush itself is before the mark, hence not timed; behind the delay, so that nothing
    # comes between it and the work.
    once = ["delay", "flush", "start", "work", "end", "wait for end"]
    assert queue.log == once * 2
    assert reading.elapsed_s == pytest.approx(2 * 0.25e-3)
    # The work, two marks, and the flush.
    assert queue.delays_s == pytest.approx([4 * QUEUEING_S] * 2)


@pytest.mark.parametrize(
    ("shown_hz", "clock_hz"),
    [((1.2e9, 1.5e9), 1.2e9), ((1.5e9, 1.2e9), 1.2e9), ((None, 1.5e9), None), ((1e9, None), None)],
)
def test_a_reading_has_the_lower_of_the_clocks_around_it(
    shown_hz: tuple[float | None, float | None], clock_hz: float | None
) -> None:
    clocks = iter(shown_hz)
    reading = Queue().stopwatch(read_clock_hz=lambda: next(clocks)).read(lambda: None, 1)
    assert reading.clock_hz == clock_hz


def test_delay_grows_with_what_is_queued_behind_it() -> None:
    queue = Queue()
    for repeats in (1, 8):
        queue.stopwatch().read(lambda: None, repeats)
    # The work, two marks, and room for a flush: 4 and 11 things to queue.
    assert queue.delays_s == pytest.approx([4 * QUEUEING_S, 11 * QUEUEING_S])


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


def test_lasting_samples_heed_the_clock_but_for_the_reading_that_counts_repeats() -> None:
    usual = usual_clock(*[1.6e9] * MIN_CLOCKS)
    clocks_hz = iter([1.2e9, 1.2e9, 1.6e9])
    sample = take_lasting_sample(
        lambda repeats: at(next(clocks_hz)), calls=1, min_sample_s=0.5, usual_clock=usual
    )
    assert (sample.num_discarded, sample.unstable) == (1, False)
