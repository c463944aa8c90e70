"""Takes one sample: reads the clock, discards disturbed readings, and tries again a few times.

Pure: it is given clocks, events and disturbance counters, and knows neither torch nor any device.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

MAX_RETAKES: Final = 3
"""How often a disturbed sample is taken again before it is kept as it is."""
MAX_REPEATS: Final = 64
"""Most repetitions of work that is too short for the clock: work of 1 µs then lasts 64 µs."""
LOST_SHARE: Final = 0.01
"""A sample is disturbed if more than this share of its usual time was lost meanwhile: time in which
a measuring thread had no processor. The usual time is known before the sample is taken. If it were
the sample's own, a slower sample would be allowed to lose more."""
LEAST_LOST_S: Final = 2e-6
"""Less can't be told from the cost of reading the clocks, and a thread that loses its processor is
without it for longer."""
QUEUEING_S: Final = 15e-6
"""A host certainly queues one piece of work in this time. Usually it takes about 5 µs."""
CLOCK_WINDOW: Final = 64
"""The clocks of this many last kept samples define the usual clock."""
MIN_CLOCKS: Final = 8
"""Fewest kept samples whose clocks can define the usual clock."""
CLOCK_TOLERANCE: Final = 0.1
"""A clock may be lower than the usual one by this share. Under a power limit the clock changes by
some percent, which affects all points alike."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The reading of a stopwatch after some calls that were timed together."""

    started_s: float
    """When the first call began, on the clock of `time.perf_counter`."""
    elapsed_s: float
    """Total time of all calls."""
    disturbed: bool = False
    """Whether something is known to have disturbed the calls, besides lost time and the clock."""
    lost_s: float = math.nan
    """How much of that time a measuring thread had no processor; NaN if that isn't known."""
    clock_hz: float | None = None
    """The lower of the device's clocks before and after; None if the device doesn't show them."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One latency, and how it was taken."""

    started_s: float
    """When the timed calls began, on the clock of `time.perf_counter`."""
    latency_s: float
    """Mean of the calls that were timed together, seconds per call."""
    num_discarded: int
    unstable: bool
    """Whether even the last retake was disturbed."""
    lost_s: float = math.nan
    """Mean time per call in which a measuring thread had no processor; NaN if it isn't known."""


@dataclass(frozen=True, kw_only=True)
class CpuStopwatch:
    """Times calls by a clock.

    `clock_ns` is monotonic, in nanoseconds. `lost_ns` advances while a measuring thread has no
    processor: see `lost_time.open_lost_clock`.
    """

    clock_ns: Callable[[], int]
    lost_ns: Callable[[], int]

    def read(self, call: Callable[[], object], calls: int) -> Reading:
        """The reading of `calls` calls made one after the other."""
        clock_ns = self.clock_ns
        lost_before_ns = self.lost_ns()
        start_ns = clock_ns()
        for _ in itertools.repeat(None, calls):
            call()
        elapsed_s = (clock_ns() - start_ns) * 1e-9
        lost_s = (self.lost_ns() - lost_before_ns) * 1e-9
        return Reading(
            started_s=start_ns * 1e-9, elapsed_s=elapsed_s, lost_s=min(max(lost_s, 0.0), elapsed_s)
        )


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


class UsualClock:
    """The clock that a device usually has, from the last samples kept; tells when it is lower.

    Samples kept as unstable count as well. So a clock that stays at a lower value becomes the
    usual one after half a window; otherwise everything from then on would be discarded.
    """

    def __init__(self) -> None:
        self._kept_hz: deque[float] = deque(maxlen=CLOCK_WINDOW)

    def exceeds(self, reading: Reading) -> bool:
        """Whether the reading was taken at a clock more than CLOCK_TOLERANCE below the usual."""
        if reading.clock_hz is None or len(self._kept_hz) < MIN_CLOCKS:
            return False
        return reading.clock_hz < (1 - CLOCK_TOLERANCE) * statistics.median(self._kept_hz)

    def keep(self, reading: Reading) -> None:
        """Counts a reading that became a sample."""
        if reading.clock_hz is not None:
            self._kept_hz.append(reading.clock_hz)


def allowed_lost_s(usual_s: float) -> float:
    """Most lost time of an undisturbed sample that usually takes `usual_s`."""
    return max(LEAST_LOST_S, LOST_SHARE * usual_s)


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


def take_sample(
    read: Callable[[], Reading],
    *,
    calls: int,
    usual_clock: UsualClock | None = None,
    allowed_lost_s: float = math.inf,
    max_retakes: int = MAX_RETAKES,
) -> Sample:
    """The first undisturbed sample, or the last of `max_retakes` retakes, marked unstable.

    `read` times `calls` calls. A clock below the usual one disturbs as well, and so does more lost
    time than allowed. The last disturbed reading is kept, not the smallest: taking the smallest
    would favour the points that were disturbed most often.

    Raises:
        ArithmeticError: the clock didn't advance, so there is no latency to report.
    """

    def is_disturbed(reading: Reading) -> bool:
        is_slow = usual_clock is not None and usual_clock.exceeds(reading)
        return reading.disturbed or is_slow or reading.lost_s > allowed_lost_s

    num_discarded = 0
    reading = read()
    while (unstable := is_disturbed(reading)) and num_discarded < max_retakes:
        num_discarded += 1
        reading = read()
    if not reading.elapsed_s > 0:
        raise ArithmeticError(f"the clock did not advance over {calls} calls")
    if usual_clock is not None:
        usual_clock.keep(reading)
    return Sample(
        started_s=reading.started_s,
        latency_s=reading.elapsed_s / calls,
        num_discarded=num_discarded,
        unstable=unstable,
        lost_s=reading.lost_s / calls,
    )
