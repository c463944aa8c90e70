"""How one sample is taken: read the clock, discard what was disturbed, retake, give up.

Pure: fed with a clock and a disturbance counter. Knows neither torch nor any device.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_RETAKES: Final = 3
"""Times that a disturbed sample is discarded and taken again before it is kept as it is."""


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
