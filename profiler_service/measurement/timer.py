"""How one sample is taken: read the clock, discard what was disturbed, retake, give up.

Pure: fed with clocks, events and disturbance counters. Knows neither torch nor any device.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

MAX_RETAKES: Final = 3
"""Times that a disturbed sample is discarded and taken again before it is kept as it is."""
MAX_REPEATS: Final = 64
"""Most times that work too short for the clock is repeated: work of 1 µs then lasts 64 µs."""
QUEUEING_S: Final = 15e-6
"""Time within which a host has surely queued one piece of work; about 5 µs is usual."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a stopwatch shows after timing some calls together."""

    started_s: float
    """When the first call began, on the clock of `time.perf_counter`."""
    elapsed_s: float
    """Time that all the calls took together."""
    disturbed: bool
    """Whether something else than the calls is known to have interfered."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One latency, and what it took to get it."""

    started_s: float
    """When the timed calls began, on the clock of `time.perf_counter`."""
    latency_s: float
    """Mean of the calls timed together, seconds a call."""
    num_discarded: int
    unstable: bool
    """Whether even the last retake was disturbed."""


@dataclass(frozen=True, kw_only=True)
class CpuStopwatch:
    """Times calls by a clock, and calls a reading disturbed when pre-emptions were counted.

    `clock_ns` is monotonic, in nanoseconds; `preemptions` counts, ever growing, how often the
    operating system has taken a processor from this process.
    """

    clock_ns: Callable[[], int]
    preemptions: Callable[[], int]

    def read(self, call: Callable[[], object], calls: int) -> Reading:
        """The reading of `calls` calls made one after the other."""
        clock_ns = self.clock_ns
        preemptions_before = self.preemptions()
        start_ns = clock_ns()
        for _ in itertools.repeat(None, calls):
            call()
        end_ns = clock_ns()
        return Reading(
            started_s=start_ns * 1e-9,
            elapsed_s=(end_ns - start_ns) * 1e-9,
            disturbed=self.preemptions() != preemptions_before,
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

    `delay` queues work that lasts at least as many seconds as it is given. What is timed waits
    behind that until the host has queued all of it; else the device would wait for the host
    between two pieces, and the host be timed.
    """

    start: Event
    end: Event
    delay: Callable[[float], object]
    is_disturbed: Callable[[], bool]
    clock_s: Callable[[], float]

    def read(self, queue_work: Callable[[], object], repeats: int) -> Reading:
        """The reading of `repeats` pieces of work queued one after the other."""
        started_s = self.clock_s()
        self.delay(QUEUEING_S * (repeats + 2))  # the two marks are queued, too
        self.start.record()
        for _ in itertools.repeat(None, repeats):
            queue_work()
        self.end.record()
        self.end.synchronize()
        return Reading(
            started_s=started_s,
            elapsed_s=self.start.elapsed_time(self.end) * 1e-3,
            disturbed=self.is_disturbed(),
        )


def take_lasting_sample(
    read: Callable[[int], Reading], *, calls: int, min_sample_s: float
) -> Sample:
    """A sample as of `take_sample`, of calls repeated until they last about `min_sample_s`.

    `read(repeats)` times `repeats` times `calls` calls. The first reading only tells how often
    to repeat: were it kept where it is long enough, points near the limit would be kept when
    they happened to be slow. Never more than MAX_REPEATS.

    Raises:
        ArithmeticError: the clock didn't advance, so there is no latency to report.
    """
    once_s = max(read(1).elapsed_s, min_sample_s / MAX_REPEATS)
    repeats = min(MAX_REPEATS, math.ceil(min_sample_s / once_s))
    return take_sample(lambda: read(repeats), calls=calls * repeats)


def take_sample(
    read: Callable[[], Reading], *, calls: int, max_retakes: int = MAX_RETAKES
) -> Sample:
    """The first undisturbed sample, or the last of `max_retakes` retakes, marked unstable.

    `read` times `calls` calls. The last disturbed reading is kept rather than the smallest:
    picking a minimum would flatter the points that were disturbed most often.

    Raises:
        ArithmeticError: the clock didn't advance, so there is no latency to report.
    """
    num_discarded = 0
    reading = read()
    while reading.disturbed and num_discarded < max_retakes:
        num_discarded += 1
        reading = read()
    if not reading.elapsed_s > 0:
        raise ArithmeticError(f"the clock did not advance over {calls} calls")
    return Sample(
        started_s=reading.started_s,
        latency_s=reading.elapsed_s / calls,
        num_discarded=num_discarded,
        unstable=reading.disturbed,
    )
