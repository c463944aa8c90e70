from __future__ import annotations

from collections.abc import Callable

import pytest

from profiler_service.measurement.copies import Repetition, Rotation
from profiler_service.measurement.device_clock import ClockWatch
from profiler_service.measurement.event_timer import (
    LEAST_DELAY_S,
    MAX_DELAY_S,
    MAX_REPEATS,
    QUEUEING_S,
    Work,
    count_repeats,
    take_queued_sample,
)
from tests.measurement.fake_gpu import FakeGpu


def no_pause(seconds: float) -> None:
    raise AssertionError("the device was not slow")


def test_work_is_queued_behind_a_delay_that_is_timed_itself() -> None:
    gpu = FakeGpu()
    gpu.stopwatch().time([gpu.work(1e-6)] * 3)
    # The first sleep gives the host time to queue the second, which alone lies between two marks.
    queued = ["sleep", "opened", "sleep", "start", "work", "work", "work", "end", "wait for end"]
    assert gpu.log == queued


def test_what_every_pass_takes_besides_its_work_cancels() -> None:
    gpu = FakeGpu(mark_s=3e-6)
    piece = Repetition(gpu.work(10e-6))
    # Four pieces and a mark take 43 µs, eight take 83. A quarter of 43 would be 10.75 µs.
    assert gpu.stopwatch().time(piece.take(4)).elapsed_s == pytest.approx(43e-6)
    reading = gpu.stopwatch().read(piece, 4)
    assert reading.elapsed_s == pytest.approx(40e-6)
    assert not reading.disturbed


def test_the_host_s_time_is_not_measured() -> None:
    # The host queues a piece in 12 µs, the device carries it out in 2 µs.
    gpu = FakeGpu()
    reading = gpu.stopwatch().read(Repetition(gpu.work(2e-6, queueing_s=12e-6)), 10)
    assert reading.elapsed_s == pytest.approx(20e-6)
    assert not reading.disturbed


def test_a_delay_that_was_over_too_soon_disturbs_and_the_next_one_is_longer() -> None:
    gpu = FakeGpu()
    stopwatch = gpu.stopwatch()
    pieces = Repetition(gpu.work(2e-6, queueing_s=100e-6))
    # For two pieces and two marks, twice 15 µs each: 120 µs. The host needs 200 µs.
    late = stopwatch.time(pieces.take(2))
    assert late.was_late
    assert late.slept_s == pytest.approx(120e-6)
    # From the start of the last piece: the mark was reached long before. Not 4 µs.
    assert late.elapsed_s > 50e-6
    # The host took 200 µs for two pieces and a mark, 67 µs each. Twice that, for four: 533 µs.
    again = stopwatch.time(pieces.take(2))
    assert not again.was_late
    assert again.slept_s == pytest.approx(4 * 2 * 200e-6 / 3)
    assert again.elapsed_s == pytest.approx(4e-6)


@pytest.mark.parametrize("slow_pass", [1, 2])
def test_a_late_host_in_either_pass_disturbs_the_reading(slow_pass: int) -> None:
    gpu = FakeGpu()
    queueing_s = {slow_pass: 1e-3}
    passes = 0

    class Slowing:
        most = 8

        def take(self, count: int) -> list[Work]:
            nonlocal passes
            passes += 1
            return [gpu.work(2e-6, queueing_s=queueing_s.get(passes, 1e-6))] * count

    assert gpu.stopwatch().read(Slowing(), 2).disturbed
    assert not gpu.stopwatch().read(Slowing(), 2).disturbed  # passes 3 and 4


def test_the_delay_is_within_bounds() -> None:
    gpu = FakeGpu()
    stopwatch = gpu.stopwatch()
    stopwatch.time([gpu.work(1e-6)])
    assert gpu.delays_s[-1] == pytest.approx(LEAST_DELAY_S)  # twice 15 µs for three would be 90
    stopwatch.expect(1.0)
    stopwatch.time([gpu.work(1e-6)])
    assert gpu.delays_s[-1] == pytest.approx(MAX_DELAY_S)
    stopwatch.expect(1e-6)  # a host is never expected to be faster than QUEUEING_S
    stopwatch.time([gpu.work(1e-6)] * 8)
    assert gpu.delays_s[-1] == pytest.approx(10 * 2 * QUEUEING_S, rel=1e-5)  # whole cycles


def test_the_delay_is_long_enough_on_a_slower_gpu() -> None:
    gpu = FakeGpu(clock_hz=1.5e9)
    gpu.stopwatch().time([gpu.work(1e-6)])
    assert gpu.delays_s[-1] == pytest.approx(2 * LEAST_DELAY_S)


def test_the_clock_is_that_of_the_delays() -> None:
    gpu = FakeGpu(clock_hz=1.2e9)
    reading = gpu.stopwatch().read(Repetition(gpu.work(1e-6)), 2)
    assert reading.clock_hz == pytest.approx(1.2e9)
    # With marks of 1 µs, delays of 120 and 180 µs at 3 GHz are 300 and 450 µs here: 750 µs in 752.
    gpu = FakeGpu(clock_hz=1.2e9, mark_s=1e-6)
    reading = gpu.stopwatch().read(Repetition(gpu.work(1e-6)), 2)
    assert reading.clock_hz == pytest.approx(1.2e9 * 750 / 752)


def test_throttling_is_read_after_the_passes() -> None:
    gpu = FakeGpu()
    assert not gpu.stopwatch().read(Repetition(gpu.work(1e-6)), 1).throttled
    gpu.is_throttled = True
    reading = gpu.stopwatch().read(Repetition(gpu.work(1e-6)), 1)
    assert (reading.throttled, reading.disturbed) == (True, False)


def test_more_work_in_less_time_is_disturbed() -> None:
    gpu = FakeGpu()
    latencies_s = iter([50e-6, 10e-6, 10e-6])  # one piece takes longer than the next two

    class Uneven:
        most = 2

        def take(self, count: int) -> list[Work]:
            return [gpu.work(next(latencies_s)) for _ in range(count)]

    reading = gpu.stopwatch().read(Uneven(), 1)
    assert reading.elapsed_s == pytest.approx(-30e-6)
    assert reading.disturbed


def test_a_flush_comes_before_each_pass_and_is_not_timed() -> None:
    gpu = FakeGpu()
    stopwatch = gpu.stopwatch(flush=lambda: gpu.queue("flush", 70e-6))
    pieces = Repetition(gpu.work(10e-6))
    assert stopwatch.read(pieces, 1).elapsed_s == pytest.approx(10e-6)
    # Before the delay, which uses no memory, so nothing comes between it and the work.
    assert gpu.log[:5] == ["flush", "sleep", "opened", "sleep", "start"]
    assert gpu.log.count("flush") == 2


@pytest.mark.parametrize(
    ("once_s", "repeats"),
    [
        (10e-6, 5),
        (9e-6, 6),  # 50 µs / 9 µs = 5.6
        (100e-6, 1),  # long enough
        (0.1e-6, MAX_REPEATS),  # bounded: 500 would be needed
        (50e-6 / 64, MAX_REPEATS),  # whatever the rounding
        (0.0, MAX_REPEATS),
    ],
)
def test_so_many_pieces_last_long_enough(once_s: float, repeats: int) -> None:
    assert count_repeats(once_s, most=MAX_REPEATS) == repeats


def numbered(gpu: FakeGpu, latency_s: float) -> Callable[[], Work]:
    """Makes pieces 1, 2, 3 …; the first one is 0."""
    number = 0

    def make() -> Work:
        nonlocal number
        number += 1
        return gpu.work(latency_s, name=str(number))

    return make


def test_a_sample_repeats_its_piece_and_is_of_one_call() -> None:
    gpu = FakeGpu(mark_s=2.5e-6)
    watch = ClockWatch(no_pause)
    sample = take_queued_sample(gpu.stopwatch(), Repetition(gpu.work(8e-6)), calls=2, watch=watch)
    # The first pass takes 10.5 µs, so five pieces are needed, and ten to compare them with.
    assert gpu.log.count("work") == 1 + 5 + 10
    assert sample.latency_s == pytest.approx(8e-6)
    assert (sample.num_discarded, sample.unstable) == (0, False)
    assert sample.clock_hz == pytest.approx(3e9, rel=0.02)  # two marks of 2.5 µs in 570 µs


def test_a_sample_has_at_least_the_calls_asked_for() -> None:
    gpu = FakeGpu()
    piece = Repetition(gpu.work(100e-6))
    take_queued_sample(gpu.stopwatch(), piece, calls=3, watch=ClockWatch(no_pause))
    assert gpu.log.count("work") == 1 + 3 + 6


def test_no_piece_of_a_pass_is_used_twice_if_each_has_operands_of_its_own() -> None:
    gpu = FakeGpu()
    pieces = Rotation(gpu.work(20e-6, name="0"), numbered(gpu, 20e-6), most=100)
    take_queued_sample(gpu.stopwatch(), pieces, calls=1, watch=ClockWatch(no_pause))
    # 50 µs / 20 µs: three pieces, and six.
    used = [name for name in gpu.log if name.isdigit()]
    assert used == ["0", *"012", *"012345"]


@pytest.mark.parametrize(("most", "used"), [(2, [1, 1, 2]), (5, [1, 2, 4])])
def test_memory_bounds_how_many_pieces_there_are(most: int, used: list[int]) -> None:
    gpu = FakeGpu()
    pieces = Rotation(gpu.work(1e-6, name="0"), numbered(gpu, 1e-6), most=most)
    sample = take_queued_sample(gpu.stopwatch(), pieces, calls=8, watch=ClockWatch(no_pause))
    assert gpu.log.count("0") == 3  # the first piece of each pass
    assert len([name for name in gpu.log if name.isdigit()]) == sum(used)
    assert sample.latency_s == pytest.approx(1e-6)


def test_disturbed_samples_are_taken_again_and_stopping_is_heeded_before_each() -> None:
    gpu = FakeGpu()
    gpu.is_throttled = True
    pauses_s: list[float] = []
    checks: list[float] = []
    sample = take_queued_sample(
        gpu.stopwatch(),
        Repetition(gpu.work(100e-6)),
        calls=1,
        watch=ClockWatch(pauses_s.append),
        check_stop=lambda: checks.append(gpu.host_s),
    )
    assert (sample.num_discarded, sample.unstable) == (3, True)
    assert len(checks) == 4 and checks == sorted(set(checks))
    assert pauses_s == pytest.approx([0.01, 0.04, 0.16])


def test_work_that_never_takes_longer_yields_no_sample() -> None:
    gpu = FakeGpu()
    with pytest.raises(ArithmeticError, match="did not advance over 64 calls"):
        take_queued_sample(
            gpu.stopwatch(), Repetition(gpu.work(0.0)), calls=1, watch=ClockWatch(no_pause)
        )
