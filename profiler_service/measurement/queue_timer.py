"""Takes the samples of calls that a device takes from a queue.

Pure: it is given a stopwatch and what captures, and knows neither torch nor any device.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from profiler_service.measurement.copies import Copies, Repetition, Rotation
from profiler_service.measurement.event_timer import (
    EventStopwatch,
    Pieces,
    Work,
    take_queued_sample,
)
from profiler_service.measurement.graph_pool import GraphPool
from profiler_service.measurement.timer import Sample, Watch


class QueueTimer:
    """Takes samples by the slope over calls that wait behind a delay: see `EventStopwatch`.

    A small product takes less time than its launch. Timed one by one, all small products would seem
    equally fast. So calls are queued behind a delay, and the device never waits for the host. Calls
    of few launches are queued as they are. Others are captured first, because the host queues many
    launches more slowly than the device carries them out.
    """

    def __init__(
        self,
        stopwatch: EventStopwatch,
        *,
        watch: Watch,
        graphs: GraphPool[Any],
        stand_aside: Callable[[], AbstractContextManager[object]],
        clock_s: Callable[[], float],
    ) -> None:
        """Within `stand_aside`, calls are queued where they can be captured later.

        `clock_s` is the host's.
        """
        self._stopwatch = stopwatch
        self._watch = watch
        self._graphs = graphs
        self._stand_aside = stand_aside
        self._clock_s = clock_s

    def sample(
        self,
        call: Work,
        *,
        calls: int,
        warmup_calls: int,
        check_stop: Callable[[], None],
        copies: Copies | None,
        is_captured: bool,
    ) -> Sample:
        """One sample of `call` after `warmup_calls` untimed calls, at least one.

        With `copies`, all calls that are timed together have operands of their own. Otherwise they
        have the same ones.
        """
        prepare: Callable[[Work], Work]
        if is_captured:
            with self._stand_aside():
                self._warm_up(call, warmup_calls)
            self._graphs.start_visit()
            self._stopwatch.expect(0.0)  # a graph is queued in much less time than its launches
            prepare = self._graphs.capture
        else:
            self._stopwatch.expect(self._warm_up(call, warmup_calls))
            prepare = _leave
        first = prepare(call)
        pieces: Pieces = Repetition(first)
        if copies is not None:
            make = copies.make
            pieces = Rotation(first, lambda: prepare(make()), most=copies.most)
        return take_queued_sample(
            self._stopwatch, pieces, calls=calls, watch=self._watch, check_stop=check_stop
        )

    def _warm_up(self, call: Work, calls: int) -> float:
        """Makes untimed calls. Returns the seconds that the host took to queue the last one."""
        for _ in range(calls - 1):
            call()
        started_s = self._clock_s()
        call()
        return self._clock_s() - started_s


def _leave(work: Work) -> Work:
    """The work as it is: its launches are queued one by one."""
    return work
