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
from typing import Final

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
