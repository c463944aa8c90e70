from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from profiler_service.measurement.copies import MAX_COPIED_BYTES, Copies
from profiler_service.measurement.device_clock import ClockWatch
from profiler_service.measurement.event_timer import Work
from profiler_service.measurement.graph_pool import GraphPool
from profiler_service.measurement.queue_timer import QueueTimer
from profiler_service.measurement.timer import Sample
from tests.measurement.fake_gpu import FakeGpu


class Bench:
    """A timer on a made-up GPU."""

    def __init__(self) -> None:
        self.gpu = FakeGpu()

        @contextlib.contextmanager
        def stand_aside() -> Iterator[None]:
            self.gpu.log.append("aside")
            yield
            self.gpu.log.append("back")

        self.timer = QueueTimer(
            self.gpu.stopwatch(),
            watch=ClockWatch(lambda seconds: None),
            graphs=GraphPool(create_pool=lambda: 0, capture=self.gpu.capture),
            stand_aside=stand_aside,
            clock_s=lambda: self.gpu.host_s,
        )

    def sample(
        self,
        call: Work,
        *,
        warmup_calls: int = 1,
        copies: Copies | None = None,
        is_captured: bool = False,
    ) -> Sample:
        return self.timer.sample(
            call,
            calls=1,
            warmup_calls=warmup_calls,
            check_stop=lambda: None,
            copies=copies,
            is_captured=is_captured,
        )

    def queued(self) -> list[str]:
        """What was queued besides sleeps and marks."""
        own = ("sleep", "opened", "start", "end", "wait for end")
        return [name for name in self.gpu.log if name not in own]


def test_a_call_of_few_launches_is_queued_as_it_is() -> None:
    bench = Bench()
    sample = bench.sample(bench.gpu.work(50e-6), warmup_calls=3)
    # Three untimed calls, one to see how long it lasts, one, and two.
    assert bench.queued() == ["work"] * (3 + 1 + 1 + 2)
    assert bench.gpu.log[:3] == ["work"] * 3
    assert sample.latency_s == pytest.approx(50e-6)
    assert not sample.unstable


def test_the_delay_is_as_long_as_queueing_the_last_untimed_call_lets_expect() -> None:
    bench = Bench()
    bench.sample(bench.gpu.work(50e-6, queueing_s=200e-6), warmup_calls=2)
    lead_s, delay_s = bench.gpu.delays_s[:2]
    assert lead_s == pytest.approx(20e-6)
    # Twice 200 µs, for the call and two marks. (The host then takes 100 µs for call and mark.)
    assert delay_s == pytest.approx(3 * 2 * 200e-6)


def test_a_call_of_many_launches_is_captured_once_and_each_piece_is_one_graph() -> None:
    bench = Bench()
    launch = bench.gpu.work(2e-6)

    def call() -> None:
        for _ in range(30):
            launch()

    sample = bench.sample(call, is_captured=True)
    # Queued aside first; uploaded by a replay; then passes of one, one and two: 60 µs last.
    assert bench.queued() == [
        "aside",
        *["work"] * 30,
        "back",
        "capture",
        *["graph of work"] * (1 + 1 + 1 + 2),
    ]
    assert sample.latency_s == pytest.approx(60e-6)
    # Not twice the 150 µs that the host needs for the launches: the least delay.
    assert bench.gpu.delays_s[1] == pytest.approx(100e-6)


@pytest.mark.parametrize("is_captured", [False, True])
def test_with_copies_each_call_of_a_pass_is_another(is_captured: bool) -> None:
    bench = Bench()
    numbers = iter(range(1, 100))

    def make() -> Work:
        return bench.gpu.work(25e-6, name=str(next(numbers)))

    copies = Copies(make=make, size_bytes=MAX_COPIED_BYTES // 20)
    bench.sample(bench.gpu.work(25e-6, name="0"), copies=copies, is_captured=is_captured)
    timed = [name.removeprefix("graph of ") for name in bench.queued()]
    timed = [name for name in timed if name.isdigit()]
    if is_captured:  # each graph is uploaded by a replay when it is made
        assert timed == ["0", "0", "0", "1", "0", "1", "2", "3", "0", "1", "2", "3"]
        assert bench.gpu.log.count("capture") == 4
    else:
        assert timed == ["0", "0", "0", "1", "0", "1", "2", "3"]


def test_memory_for_two_copies_is_enough() -> None:
    bench = Bench()
    other = bench.gpu.work(1e-6, name="other")
    copies = Copies(make=lambda: other, size_bytes=MAX_COPIED_BYTES)
    sample = bench.sample(bench.gpu.work(1e-6, name="first"), copies=copies)
    assert bench.queued() == ["first"] * 4 + ["other"]
    assert sample.latency_s == pytest.approx(1e-6)


def test_what_a_call_raises_while_it_is_captured_ends_the_visit() -> None:
    bench = Bench()
    made: list[int] = []

    def call() -> None:
        made.append(1)
        if len(made) > 1:
            raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="capturing"):
        bench.sample(call, is_captured=True)
