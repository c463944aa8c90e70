"""Watches a device's clock, and lets the device rest when heat or power slow it down.

Pure: knows neither torch nor any device.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable
from typing import Final

from profiler_service.measurement.timer import Reading

CLOCK_WINDOW: Final = 64
"""The clocks of this many last kept samples define the usual clock."""
MIN_CLOCKS: Final = 8
"""Fewest kept samples whose clocks can define the usual clock."""
CLOCK_TOLERANCE: Final = 0.1
"""A clock may be lower than the usual one by this share. Under a power limit the clock changes by
some percent, which affects all points alike."""
PAUSE_S: Final = 0.01
"""The first pause. A GPU needs milliseconds to recover."""
PAUSE_GROWTH: Final = 4
"""Each further pause of a sample is so many times as long."""


class ClockWatch:
    """Knows the clock that a device usually has, and pauses when it is lower.

    The usual clock is the median of the last samples kept. Samples kept as unstable count as well.
    So a clock that stays at a lower value becomes the usual one after half a window; otherwise
    everything from then on would be discarded.
    """

    def __init__(self, pause: Callable[[float], object]) -> None:
        """`pause` waits for that many seconds."""
        self._pause = pause
        self._kept_hz: deque[float] = deque(maxlen=CLOCK_WINDOW)
        self._next_pause_s = PAUSE_S
        self._does_help = True

    def is_slow(self, reading: Reading) -> bool:
        """Whether the device was throttled, or its clock CLOCK_TOLERANCE below the usual one."""
        if reading.throttled:
            return True
        if reading.clock_hz is None or len(self._kept_hz) < MIN_CLOCKS:
            return False
        return reading.clock_hz < (1 - CLOCK_TOLERANCE) * statistics.median(self._kept_hz)

    def recover(self, reading: Reading) -> None:
        """Pauses if the device was slow, each time for longer.

        If all pauses of a sample didn't help, there are no more until a sample is undisturbed: a
        device that stays throttled would be measured for hours.
        """
        if self._does_help and self.is_slow(reading):
            self._pause(self._next_pause_s)
            self._next_pause_s *= PAUSE_GROWTH

    def keep(self, reading: Reading, *, unstable: bool) -> None:
        """Counts a reading that became a sample."""
        self._next_pause_s = PAUSE_S
        if not unstable:
            self._does_help = True
        elif self.is_slow(reading):
            self._does_help = False
        if reading.clock_hz is not None:
            self._kept_hz.append(reading.clock_hz)
