"""Turns of a host's sweeps, with a clock that the tests set."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from profiler_service.plan.spec import Progress
from profiler_service.plan.turns import (
    OpenSweep,
    Turns,
    TurnSettings,
    describe_settings,
    find_places,
)

SETTINGS = TurnSettings(patience_s=10.0, unbroken_s=0.6, trusted_fraction=0.1)
BATCH_S = 0.5


def waiting(number: int, expected_s: float, *, is_awaited: bool = True) -> OpenSweep:
    """The sweep that was asked for as the `number`th one."""
    return OpenSweep(id=f"{number:05}", expected_s=expected_s, is_awaited=is_awaited)


def measured(sweep: OpenSweep, fraction: float, seconds: float) -> OpenSweep:
    progress = Progress(fraction=fraction, stage="", num_samples=1, seconds=seconds)
    return replace(sweep, progress=progress)


@dataclass
class Host:
    """Measures sweeps batch by batch, and notes when each of them ended."""

    turns: Turns
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.open: dict[str, OpenSweep] = {}
        self.ended_s: dict[str, float] = {}

    def ask(self, sweep: OpenSweep) -> None:
        self.open[sweep.id] = measured(sweep, 0.0, 0.0)

    def measure_batch(self) -> str:
        chosen = self.open[self.turns.choose(self.open.values(), now_s=self.now_s)]
        assert chosen.progress is not None
        self.now_s += BATCH_S
        seconds = chosen.progress.seconds + BATCH_S
        self.open[chosen.id] = measured(chosen, seconds / chosen.expected_s, seconds)
        self.turns.end_turn(chosen.id, now_s=self.now_s)
        if seconds >= chosen.expected_s:
            del self.open[chosen.id]
            self.ended_s[chosen.id] = self.now_s
        return chosen.id


def test_what_ends_soonest_comes_first_and_what_nobody_waits_for_last() -> None:
    sweeps = [waiting(1, 60), waiting(2, 3), waiting(3, 1, is_awaited=False), waiting(4, 5)]
    turns = Turns(SETTINGS)
    order = []
    while sweeps:
        order.append(turns.choose(sweeps, now_s=0.0))
        sweeps = [each for each in sweeps if each.id != order[-1]]
    assert order == ["00002", "00004", "00001", "00003"]


def test_what_is_to_be_cancelled_is_ended_at_once() -> None:
    ending = replace(waiting(2, 600, is_awaited=False), is_ending=True)
    assert Turns(SETTINGS).choose([waiting(1, 1), ending], now_s=0.0) == ending.id


def test_a_long_sweep_ends_in_bounded_time_beside_short_ones_without_end() -> None:
    """One sweep of 30 s, and questions of 2 s that fill the host."""
    host = Host(Turns(SETTINGS))
    host.ask(waiting(0, 30.0))
    number = 1
    while "00000" not in host.ended_s:
        if len(host.open) < 3:
            host.ask(waiting(number, 2.0))
            number += 1
        host.measure_batch()
        assert host.now_s < 1000
    # 60 batches of 0.5 s, each after 10 s of others: 630 s. The first question, of 2 s, comes
    # first, too, and a question under way may be finished each time: no turn waits for that.
    assert host.ended_s["00000"] <= 60 * (10 + BATCH_S) + 2


def test_a_hundred_short_questions_are_hardly_delayed_by_a_long_sweep() -> None:
    host = Host(Turns(SETTINGS))
    host.ask(waiting(0, 600.0))
    waited_s = []
    for number in range(1, 101):
        for _ in range(20):  # 10 s pass, with nothing else to do
            if len(host.open) == 1:
                host.measure_batch()
        asked_s = host.now_s
        question = waiting(number, 2.0)
        host.ask(question)
        while question.id not in host.ended_s:
            host.measure_batch()
        waited_s.append(host.ended_s[question.id] - asked_s)
    # Its own 2 s, and at most one batch of the long one, whose turn was due.
    assert max(waited_s) <= 2.0 + BATCH_S


def test_questions_that_come_together_wait_only_for_those_before_them() -> None:
    host = Host(Turns(SETTINGS))
    host.ask(waiting(0, 600.0))
    for number in range(1, 101):
        host.ask(waiting(number, 2.0))
    while len(host.ended_s) < 100:
        host.measure_batch()
    # 200 s of questions, and 0.5 s for the long one after each 10 s of them, from the first on.
    assert host.now_s == pytest.approx(200 + 0.5 * (200 // 10), abs=0.5)
    assert list(host.ended_s) == sorted(host.ended_s)


def test_a_companion_is_never_measured_before_the_question_that_brought_it() -> None:
    host = Host(Turns(SETTINGS))
    host.ask(waiting(0, 40.0))
    host.ask(waiting(1, 1.0, is_awaited=False))
    while "00000" in host.open:
        assert host.measure_batch() == "00000"
    # From then on it is the oldest: however many questions follow, it gets its turns.
    number = 2
    while "00001" in host.open:
        if len(host.open) < 2:
            host.ask(waiting(number, 5.0))
            number += 1
        host.measure_batch()
    assert host.ended_s["00001"] <= 40 + 2 * (10 + BATCH_S) + BATCH_S


def test_the_time_left_follows_from_the_estimate_then_from_the_progress() -> None:
    sweep = waiting(1, 8.0)
    assert sweep.left_s(settings=SETTINGS) == 8.0
    # 2 s are spent of 8. Below a tenth of the work, its share says nothing yet.
    assert measured(sweep, 0.05, 2.0).left_s(settings=SETTINGS) == 6.0
    # A quarter took 2 s, so the rest takes 6; half a second of that is under way.
    assert measured(sweep, 0.25, 2.0).left_s(settings=SETTINGS) == 6.0
    assert measured(sweep, 0.25, 2.0).left_s(0.5, settings=SETTINGS) == 5.5
    # It was to take 8 s and has taken 30: 30 more are expected.
    assert measured(sweep, 0.0, 28.0).left_s(2.0, settings=SETTINGS) == 30.0
    assert replace(sweep, is_ending=True).left_s(settings=SETTINGS) == 0.0


def test_a_batch_is_broken_off_only_for_a_sweep_that_ends_sooner() -> None:
    current, turns = waiting(1, 20.0), Turns(SETTINGS)

    def must_yield(other: OpenSweep, under_way_s: float, *, num_done: int = 1) -> bool:
        sweeps = [current, other]
        turns.choose([current], now_s=0.0)
        return turns.must_yield(current.id, sweeps, under_way_s=under_way_s, num_done=num_done)

    assert must_yield(waiting(2, 3.0), 0.7)
    assert must_yield(waiting(2, 3.0), 0.7, num_done=0)
    assert not must_yield(waiting(2, 3.0), 0.5)  # such a batch ends by itself
    assert not must_yield(waiting(2, 25.0), 0.7)
    assert not must_yield(waiting(2, 3.0, is_awaited=False), 0.7)
    # It was expected to take 20 s, and has taken 30 in one batch: now 25 s are less.
    assert must_yield(waiting(2, 25.0), 30.0)


def test_a_batch_is_broken_off_at_once_when_its_sweep_is_cancelled_or_has_ended() -> None:
    turns, current = Turns(SETTINGS), waiting(1, 20.0)
    turns.choose([current], now_s=0.0)
    ending = replace(current, is_ending=True)
    assert turns.must_yield(current.id, [ending], under_way_s=0.1, num_done=0)
    assert turns.must_yield(current.id, [], under_way_s=0.1, num_done=0)
    assert not turns.must_yield(current.id, [current], under_way_s=99.0, num_done=9)


def test_a_turn_that_was_due_makes_at_least_one_visit() -> None:
    turns = Turns(SETTINGS)
    sweeps = [waiting(1, 600.0), waiting(2, 2.0)]
    assert turns.choose(sweeps, now_s=0.0) == "00002"
    assert turns.choose(sweeps, now_s=10.0) == "00001"
    assert not turns.must_yield("00001", sweeps, under_way_s=5.0, num_done=0)
    assert turns.must_yield("00001", sweeps, under_way_s=5.0, num_done=1)


def test_places_count_what_comes_before() -> None:
    places = find_places([waiting(1, 60), waiting(2, 3), waiting(3, 1, is_awaited=False)])
    assert {key: (p.ahead, p.wait_s, p.left_s) for key, p in places.items()} == {
        "00002": (0, 0.0, 3.0),
        "00001": (1, 3.0, 60.0),
        "00003": (2, 63.0, 1.0),
    }


def test_every_setting_is_in_the_table() -> None:
    table = describe_settings(replace(SETTINGS, patience_s=7.5))
    assert "| `patience_s` | 7.5 | s |" in table
    assert len(table.splitlines()) == 2 + 3
