"""A made-up GPU: a queue that it carries out in order, and a host that takes time to fill it."""

from __future__ import annotations

import itertools

from profiler_service.measurement.event_timer import EventStopwatch, Work


class FakeGpu:
    """Both have a clock, in seconds. The device begins a piece when it is queued, or later."""

    def __init__(self, *, clock_hz: float = 3e9, mark_s: float = 0.0) -> None:
        self.clock_hz = clock_hz
        self.mark_s = mark_s
        """How long the device takes for a mark."""
        self.host_s = 0.0
        self.device_s = 0.0
        """When the device will be done with all that is queued."""
        self.is_throttled = False
        self.log: list[str] = []
        self.delays_s: list[float] = []
        self._marks = itertools.cycle(("opened", "start", "end"))
        self._captured: dict[str, float] | None = None
        """What is captured now, by its name, in seconds."""

    def queue(self, name: str, seconds: float) -> None:
        if self._captured is not None:
            self._captured[name] = self._captured.get(name, 0.0) + seconds
            return
        self.log.append(name)
        self.device_s = max(self.host_s, self.device_s) + seconds

    def sleep(self, cycles: int) -> None:
        self.queue("sleep", cycles / self.clock_hz)
        self.delays_s.append(cycles / self.clock_hz)

    def work(self, latency_s: float, *, queueing_s: float = 5e-6, name: str = "work") -> Work:
        """A piece of `latency_s` on the device, which the host queues in `queueing_s`."""

        def queue_work() -> None:
            self.host_s += queueing_s
            self.queue(name, latency_s)

        return queue_work

    def capture(self, work: Work, pool: int) -> FakeGraph:
        """Queues nothing now. A replay takes as long as all of the work, and one launch."""
        self.log.append("capture")
        captured: dict[str, float] = {}
        self._captured = captured
        work()
        self._captured = None
        name = f"graph of {','.join(captured)}"
        return FakeGraph(self.work(sum(captured.values()), queueing_s=10e-6, name=name))

    def create_mark(self) -> FakeMark:
        return FakeMark(next(self._marks), self)

    def stopwatch(self, *, flush: Work | None = None) -> EventStopwatch:
        return EventStopwatch(
            create_mark=self.create_mark,
            sleep=self.sleep,
            is_throttled=lambda: self.is_throttled,
            clock_s=lambda: self.host_s,
            flush=flush,
        )


class FakeGraph:
    def __init__(self, work: Work) -> None:
        self._work = work

    def replay(self) -> None:
        self._work()


class FakeMark:
    def __init__(self, name: str, gpu: FakeGpu) -> None:
        self._name = name
        self._gpu = gpu
        self._reached_s = 0.0

    def record(self) -> None:
        self._gpu.queue(self._name, self._gpu.mark_s)
        self._reached_s = self._gpu.device_s

    def query(self) -> bool:
        return self._gpu.host_s >= self._reached_s

    def synchronize(self) -> None:
        self._gpu.log.append(f"wait for {self._name}")
        self._gpu.host_s = max(self._gpu.host_s, self._reached_s)

    def elapsed_time(self, end: FakeMark) -> float:
        assert self.query() and end.query(), "CUDA refuses marks that aren't reached"
        return (end._reached_s - self._reached_s) * 1e3
