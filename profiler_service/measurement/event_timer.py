"""Times work that a device takes from a queue, by marks in that queue.

Pure: it is given marks, clocks and a delay, and knows neither torch nor any device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from profiler_service.measurement.timer import Reading, Sample, Watch, take_sample

Work = Callable[[], object]
"""Queues one piece of work: one call, or a graph of one call."""

LEAST_SAMPLE_S: Final = 50e-6
"""Shortest time of the calls of a sample. Marks resolve 0.5 µs, which is 1 % of it."""
MAX_REPEATS: Final = 64
"""Most repetitions of work that is too short for the marks: work of 1 µs then lasts 64 µs."""
QUEUEING_S: Final = 15e-6
"""A host usually queues one piece of work in less time: about 5 µs for a kernel."""
QUEUEING_MARGIN: Final = 2.0
"""The delay is so many times as long as queueing is expected to take."""
LEAST_DELAY_S: Final = 100e-6
"""The clock is read from the delay. In this time, marks resolve 0.5 % of it."""
MAX_DELAY_S: Final = 0.05
"""Nothing waits longer. What the host can't queue in this time is disturbed."""
MAX_CLOCK_HZ: Final = 3e9
"""No GPU has a faster clock. On a slower one, a delay given in cycles lasts longer."""
LEAD_CYCLES: Final = 60_000
"""A first delay, 20 µs or more, in which the host queues the second: so nothing but the second one
lies between the two marks around it."""


class Mark(Protocol):
    """A mark in a device's queue, as `torch.cuda.Event` is."""

    def record(self) -> None:
        """Puts the mark behind all that is queued."""

    def query(self) -> bool:
        """Whether the device has reached the mark."""

    def synchronize(self) -> None:
        """Returns once the device has reached the mark."""

    def elapsed_time(self, end: Any, /) -> float:
        """Milliseconds from this mark to `end`."""


class Pieces(Protocol):
    """Pieces of work that are equally long."""

    most: int
    """How many there may be, at least two: one is compared with two."""

    def take(self, count: int) -> Sequence[Work]:
        """So many of them, in the order in which they are queued."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Pieces of work that were queued behind a delay, and timed together."""

    elapsed_s: float
    """From the end of the delay to the end of the work."""
    cycles: int
    """Length of the delay in cycles of the device's clock."""
    slept_s: float
    """Length of the delay in seconds."""
    was_late: bool
    """Whether the delay was over before everything was queued. The device may have waited for the
    host then, so the time may be the host's."""


class EventStopwatch:
    """Times work by marks in a device's queue.

    The work waits behind a delay until the host has queued all of it. Otherwise the device would
    wait for the host between two pieces, and the time of the host would be measured.
    """

    def __init__(
        self,
        *,
        create_mark: Callable[[], Mark],
        sleep: Callable[[int], object],
        is_throttled: Callable[[], bool],
        clock_s: Callable[[], float],
        flush: Work | None = None,
    ) -> None:
        """`sleep` queues work that lasts so many cycles of the device's clock and uses no memory.

        `clock_s` is the host's. `flush` queues work that evicts the device's cache. It comes before
        each delay.
        """
        self._opened, self._start, self._end = create_mark(), create_mark(), create_mark()
        self._sleep = sleep
        self._is_throttled = is_throttled
        self._clock_s = clock_s
        self._flush = flush
        self._queueing_s = QUEUEING_S

    def expect(self, queueing_s: float) -> None:
        """Says how long the host took to queue a piece of the visit that begins."""
        self._queueing_s = max(QUEUEING_S, queueing_s)

    def time(self, pieces: Sequence[Work]) -> Pass:
        """The time of these pieces, one after the other."""
        delay_s = QUEUEING_MARGIN * self._queueing_s * (len(pieces) + 2)  # two marks as well
        cycles = math.ceil(min(max(delay_s, LEAST_DELAY_S), MAX_DELAY_S) * MAX_CLOCK_HZ)
        if self._flush is not None:
            self._flush()
        self._sleep(LEAD_CYCLES)
        self._opened.record()
        self._sleep(cycles)
        self._start.record()
        before_s = self._clock_s()
        for queue_work in pieces:
            queue_work()
        self._end.record()
        self.expect((self._clock_s() - before_s) / (len(pieces) + 1))
        was_late = self._start.query()
        self._end.synchronize()
        return Pass(
            elapsed_s=self._start.elapsed_time(self._end) * 1e-3,
            cycles=cycles,
            slept_s=self._opened.elapsed_time(self._start) * 1e-3,
            was_late=was_late,
        )

    def read(self, pieces: Pieces, repeats: int) -> Reading:
        """The reading of `repeats` pieces: what twice as many take longer than so many.

        What each pass takes besides its pieces (the marks, the start after the delay) is the same
        in both, and cancels.
        """
        started_s = self._clock_s()
        once, twice = self.time(pieces.take(repeats)), self.time(pieces.take(2 * repeats))
        elapsed_s = twice.elapsed_s - once.elapsed_s
        return Reading(
            started_s=started_s,
            elapsed_s=elapsed_s,
            # More work in less time: something else ran in between.
            disturbed=once.was_late or twice.was_late or elapsed_s <= 0,
            throttled=self._is_throttled(),
            clock_hz=(once.cycles + twice.cycles) / (once.slept_s + twice.slept_s),
        )


def take_queued_sample(
    stopwatch: EventStopwatch,
    pieces: Pieces,
    *,
    calls: int,
    watch: Watch,
    check_stop: Callable[[], None] = lambda: None,
) -> Sample:
    """A sample as `take_sample` takes it, of at least `calls` pieces that last LEAST_SAMPLE_S.

    A first pass of one piece only tells how many are needed. If it were kept whenever it is long
    enough, points near the limit would be kept when they happened to be slow. `check_stop` may
    raise before each reading.

    Raises:
        ArithmeticError: more calls never took longer than few, so there is no latency to report.
    """
    most = min(MAX_REPEATS, pieces.most // 2)
    needed = count_repeats(stopwatch.time(pieces.take(1)).elapsed_s, most=most)
    repeats = min(most, max(calls, needed))

    def read() -> Reading:
        check_stop()
        return stopwatch.read(pieces, repeats)

    return take_sample(read, calls=repeats, watch=watch)


def count_repeats(once_s: float, *, most: int) -> int:
    """How many pieces last LEAST_SAMPLE_S if one takes `once_s`; never more than `most`."""
    return min(most, math.ceil(LEAST_SAMPLE_S / max(once_s, LEAST_SAMPLE_S / most)))
