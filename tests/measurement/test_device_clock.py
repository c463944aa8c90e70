from __future__ import annotations

import pytest

from profiler_service.measurement.device_clock import (
    CLOCK_WINDOW,
    MIN_CLOCKS,
    PAUSE_GROWTH,
    PAUSE_S,
    ClockWatch,
)
from profiler_service.measurement.timer import Reading, Sample, take_sample


def pause(seconds: float) -> None:
    """No test waits."""


def at(clock_hz: float | None) -> Reading:
    return Reading(started_s=0.0, elapsed_s=1.0, disturbed=False, clock_hz=clock_hz)


def watch_of(*kept_hz: float | None) -> ClockWatch:
    clock = ClockWatch(pause)
    for clock_hz in kept_hz:
        clock.keep(at(clock_hz), unstable=False)
    return clock


def sample_at(usual: ClockWatch, *clocks_hz: float) -> Sample:
    """A sample of readings at these clocks, as many of them as are asked for."""
    readings = iter(clocks_hz)
    return take_sample(lambda: at(next(readings)), calls=1, watch=usual)


def test_a_clock_is_low_more_than_a_tenth_below_the_median_of_those_kept() -> None:
    # Median 1,600 MHz, whatever the one sample taken at 300 MHz: low is below 1,440.
    usual = watch_of(*[1.6e9] * MIN_CLOCKS, 0.3e9)
    assert usual.is_slow(at(1.43e9))
    assert not usual.is_slow(at(1.45e9))
    assert not usual.is_slow(at(2.0e9))  # a higher one disturbs nothing


def test_clocks_are_not_judged_before_enough_are_known() -> None:
    assert not watch_of(*[1.6e9] * (MIN_CLOCKS - 1)).is_slow(at(0.3e9))
    assert watch_of(*[1.6e9] * MIN_CLOCKS).is_slow(at(0.3e9))


def test_a_device_that_does_not_show_its_clock_is_never_low() -> None:
    assert not watch_of(*[None] * CLOCK_WINDOW).is_slow(at(0.3e9))
    assert not watch_of(*[1.6e9] * MIN_CLOCKS).is_slow(at(None))


def test_samples_at_a_low_clock_are_retaken_until_one_is_not() -> None:
    usual = watch_of(*[1.6e9] * MIN_CLOCKS)
    sample = sample_at(usual, 1.2e9, 1.2e9, 1.6e9)
    assert (sample.num_discarded, sample.unstable) == (2, False)


def test_discards_for_a_low_clock_are_bounded() -> None:
    usual = watch_of(*[1.6e9] * MIN_CLOCKS)
    # The first reading and three retakes; a fifth would raise StopIteration.
    sample = sample_at(usual, *[1.2e9] * 4)
    assert (sample.num_discarded, sample.unstable) == (3, True)


def test_a_clock_that_settles_lower_becomes_the_usual_one() -> None:
    usual = watch_of(*[1.6e9] * CLOCK_WINDOW)
    unstable = [sample_at(usual, *[1.2e9] * 4).unstable for _ in range(CLOCK_WINDOW)]
    # Once 32 of the 64 last samples were kept at 1,200 MHz, the median is 1,400: 1,200 is still
    # below 1,260. With the 33rd it is 1,200. Discarded readings don't count.
    assert unstable == [True] * 33 + [False] * 31


def test_a_device_that_says_it_is_throttled_is_slow_at_any_clock() -> None:
    throttled = Reading(started_s=0.0, elapsed_s=1.0, throttled=True, clock_hz=2e9)
    assert ClockWatch(pause).is_slow(throttled)
    assert watch_of(*[1.6e9] * MIN_CLOCKS).is_slow(throttled)


def pausing(*kept_hz: float) -> tuple[ClockWatch, list[float]]:
    """A watch that has kept readings at these clocks, and its pauses in seconds."""
    pauses_s: list[float] = []
    watch = ClockWatch(pauses_s.append)
    for clock_hz in kept_hz:
        watch.keep(at(clock_hz), unstable=False)
    return watch, pauses_s


def test_a_slow_device_rests_before_each_retake_and_each_time_for_longer() -> None:
    watch, pauses_s = pausing(*[1.6e9] * MIN_CLOCKS)
    assert sample_at(watch, 1.2e9, 1.2e9, 1.6e9).num_discarded == 2
    assert pauses_s == pytest.approx([PAUSE_S, PAUSE_S * PAUSE_GROWTH])
    # The next sample begins with the shortest pause again.
    assert sample_at(watch, 1.2e9, 1.6e9).num_discarded == 1
    assert pauses_s[2:] == pytest.approx([PAUSE_S])


def test_a_reading_that_was_disturbed_otherwise_is_retaken_at_once() -> None:
    watch, pauses_s = pausing(*[1.6e9] * MIN_CLOCKS)
    late = Reading(started_s=0.0, elapsed_s=1.0, disturbed=True, clock_hz=1.6e9)
    readings = iter([late, at(1.6e9)])
    assert take_sample(lambda: next(readings), calls=1, watch=watch).num_discarded == 1
    assert pauses_s == []


def test_pauses_that_did_not_help_are_not_repeated_until_the_device_is_as_usual() -> None:
    watch, pauses_s = pausing(*[1.6e9] * CLOCK_WINDOW)
    assert sample_at(watch, *[1.2e9] * 4).unstable
    assert len(pauses_s) == 3
    assert sample_at(watch, *[1.2e9] * 4).unstable
    assert len(pauses_s) == 3  # it would only take time
    assert not sample_at(watch, 1.6e9).unstable
    assert sample_at(watch, 1.2e9, 1.6e9).num_discarded == 1
    assert len(pauses_s) == 4
