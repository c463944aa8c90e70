"""Times work that a device takes from a queue, by marks in that queue.

Pure: it is given events, clocks and a delay, and knows neither torch nor any device.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from profiler_service.measurement.timer import Reading, Sample, UsualClock, take_sample

MAX_REPEATS: Final = 64
"""Most repetitions of work that is too short for the clock: work of 1 µs then lasts 64 µs."""
QUEUEING_S: Final = 15e-6
"""A host certainly queues one piece of work in this time. Usually it takes about 5 µs."""


class Event(Protocol):
    """A mark in a device's queue, as `torch.cuda.Event` is."""

    def record(self) -> None:
        """Puts the mark behind all that is queued."""

    def synchronize(self) -> None:
        """Returns once the device has reached the mark."""

    def elapsed_time(self, end: Any, /) -> float:
        """Milliseconds from this mark to `end`."""


@dataclass(frozen=True, kw_only=True)
class EventStopwatch:
    """Times work that a device takes from a queue, by marks in that queue.

    `delay` queues work that lasts at least the given number of seconds. The timed work waits
    behind it until the host has queued all of it. Otherwise the device would wait for the host
    between two pieces, and the time of the host would be measured.
    """

    start: Event
    end: Event
    delay: Callable[[float], object]
    is_throttled: Callable[[], bool]
    read_clock_hz: Callable[[], float | None]
    clock_s: Callable[[], float]
    flush: Callable[[], object] | None = None
    """Queues work that evicts the device's cache. Each piece is then timed alone, after a flush."""

    def read(self, queue_work: Callable[[], object], repeats: int) -> Reading:
        """The reading of `repeats` pieces of work queued one after the other."""
        clock_before_hz = self.read_clock_hz()
        started_s = self.clock_s()
        if self.flush is None:
            elapsed_s = self._time(queue_work, repeats)
        else:
            elapsed_s = sum(self._time(queue_work, 1) for _ in range(repeats))
        clock_after_hz = self.read_clock_hz()
        return Reading(
            started_s=started_s,
            elapsed_s=elapsed_s,
            disturbed=self.is_throttled(),
            clock_hz=None
            if clock_before_hz is None or clock_after_hz is None
            else min(clock_before_hz, clock_after_hz),
        )

    def _time(self, queue_work: Callable[[], object], repeats: int) -> float:
        self.delay(QUEUEING_S * (repeats + 3))  # two marks, and perhaps a flush, are queued as well
        if self.flush is not None:
            self.flush()
        self.start.record()
        for _ in itertools.repeat(None, repeats):
            queue_work()
        self.end.record()
        self.end.synchronize()
        return self.start.elapsed_time(self.end) * 1e-3


def take_lasting_sample(
    read: Callable[[int], Reading],
    *,
    calls: int,
    min_sample_s: float,
    usual_clock: UsualClock | None = None,
) -> Sample:
    """A sample as `take_sample` takes it, of calls repeated until they last about `min_sample_s`.

    `read(repeats)` times `repeats` times `calls` calls. The first reading only tells how often
    to repeat. If it were kept whenever it is long enough, points near the limit would be kept
    when they happened to be slow. Never more than MAX_REPEATS.

    Raises:
        ArithmeticError: the clock didn't advance, so there is no latency to report.
    """
    once_s = max(read(1).elapsed_s, min_sample_s / MAX_REPEATS)
    repeats = min(MAX_REPEATS, math.ceil(min_sample_s / once_s))
    return take_sample(lambda: read(repeats), calls=calls * repeats, usual_clock=usual_clock)
