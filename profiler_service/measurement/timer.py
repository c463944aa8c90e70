"""Takes one sample: reads the clock, discards disturbed readings, and tries again a few times.

Pure: it is given clocks, events and disturbance counters, and knows neither torch nor any device.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

PROTOCOL_VERSION: Final = 3
"""Version of the timing protocol. Raise it with every change that changes latencies (in a device,
in `operations` or in the networks), so that older curves are stale. Version 2: samples with a long
delay are taken again, and sparse H-LSTMs have another loop. Version 3: operands move to new pages
for each batch, every visit of a race begins with one untimed call, and lost time discards a
sample."""
MAX_RETAKES: Final = 3
"""How often a disturbed sample is taken again before it is kept as it is."""
LOST_SHARE: Final = 0.01
"""A sample is disturbed if more than this share of its usual time was lost meanwhile: time in which
a measuring thread had no processor. The usual time is known before the sample is taken. If it were
the sample's own, a slower sample would be allowed to lose more."""
LEAST_LOST_S: Final = 2e-6
"""Less can't be told from the cost of reading the clocks, and a thread that loses its processor is
without it for longer."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The reading of a stopwatch after some calls that were timed together."""

    started_s: float
    """When the first call began, on the clock of `time.perf_counter`."""
    elapsed_s: float
    """Total time of all calls."""
    disturbed: bool = False
    """Whether something is known to have disturbed the calls, besides what is said below."""
    throttled: bool = False
    """Whether heat or the power supply slowed the device down."""
    lost_s: float = math.nan
    """How much of that time a measuring thread had no processor; NaN if that isn't known."""
    clock_hz: float | None = None
    """The device's clock meanwhile; None if the device doesn't show it."""


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
    clock_hz: float = math.nan
    """The device's clock meanwhile; NaN if the device doesn't show it."""


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


class Watch(Protocol):
    """Watches from reading to reading what slows a device down."""

    def is_slow(self, reading: Reading) -> bool:
        """Whether the device was slower than usual."""

    def recover(self, reading: Reading) -> None:
        """Is called with a disturbed reading, before it is taken again."""

    def keep(self, reading: Reading, *, unstable: bool) -> None:
        """Counts a reading that became a sample."""


def allowed_lost_s(usual_s: float) -> float:
    """Most lost time of an undisturbed sample that usually takes `usual_s`."""
    return max(LEAST_LOST_S, LOST_SHARE * usual_s)


def take_sample(
    read: Callable[[], Reading],
    *,
    calls: int,
    watch: Watch | None = None,
    allowed_lost_s: float = math.inf,
    max_retakes: int = MAX_RETAKES,
) -> Sample:
    """The first undisturbed sample, or the last of `max_retakes` retakes, marked unstable.

    `read` times `calls` calls. A slow device disturbs as well, if there is a `watch`, and so does
    more lost time than allowed. The last disturbed reading is kept, not the smallest: taking the
    smallest would favour the points that were disturbed most often.

    Raises:
        ArithmeticError: the clock didn't advance, so there is no latency to report.
    """

    def is_disturbed(reading: Reading) -> bool:
        is_slow = watch is not None and watch.is_slow(reading)
        return reading.disturbed or is_slow or reading.lost_s > allowed_lost_s

    num_discarded = 0
    reading = read()
    while (unstable := is_disturbed(reading)) and num_discarded < max_retakes:
        num_discarded += 1
        if watch is not None:
            watch.recover(reading)
        reading = read()
    if not reading.elapsed_s > 0:
        raise ArithmeticError(f"the clock did not advance over {calls} calls")
    if watch is not None:
        watch.keep(reading, unstable=unstable)
    return Sample(
        started_s=reading.started_s,
        latency_s=reading.elapsed_s / calls,
        num_discarded=num_discarded,
        unstable=unstable,
        lost_s=reading.lost_s / calls,
        clock_hz=math.nan if reading.clock_hz is None else reading.clock_hz,
    )
