"""How a time is shared out over questions, with a clock that only the test moves on."""

from __future__ import annotations

import math

import pytest

from profiler_service.cli.timetable import Timetable


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("total_s", "questions", "budget_s"),
    [
        (55, 20, 1.0),  # 60 % of 55 s are 1.65 s each, of which 0.5 s is for all else
        (55, 21, 1.0),  # a layer more: the same budget, so that stored answers are found again
        (55, 200, 0.25),  # the least
        (55, 5, 5.0),
        (55, 3, 10.0),
        (55, 1, None),  # more than the service takes by itself
        (0, 3, 0.25),
        (55, 0, None),
    ],
)
def test_each_question_has_an_equal_budget(
    total_s: float, questions: int, budget_s: float | None
) -> None:
    assert Timetable(total_s, questions, clock=FakeClock()).budget_s == budget_s


def test_questions_that_take_no_time_leave_theirs_to_the_others() -> None:
    clock = FakeClock()
    table = Timetable(50, 5, clock=clock)
    assert table.begin() == 20  # twice 50 / 5
    assert table.expected_s == 22.5  # nothing is known yet: a race of 4 s each, and half a second
    assert table.begin() == 25  # twice 50 / 4
    assert table.expected_s == 0  # the first took no time
    clock.now_s += 20
    assert table.begin() == 20  # twice 30 / 3
    assert table.expected_s == 30  # two took 20 s, three more would take 30
    clock.now_s += 26
    assert table.left_s == 4
    assert (table.begin(), table.expected_s) == (4, 4)
    clock.now_s += 60
    assert (table.begin(), table.left_s, table.expected_s) == (0, 0, 0)


def test_the_last_questions_may_wait_for_all_that_is_left() -> None:
    clock = FakeClock()
    table = Timetable(10, 2, clock=clock)
    assert [table.begin(), table.begin(), table.begin()] == [10, 10, 10]


def test_too_little_time_is_none() -> None:
    clock = FakeClock()
    table = Timetable(2, 2, clock=clock)
    clock.now_s += 1.4
    assert table.begin() == pytest.approx(0.6)
    clock.now_s += 0.2
    assert table.begin() == 0


@pytest.mark.parametrize(("spent_s", "left_s"), [(0, 50), (10, 40), (25, 25), (40, 25), (999, 25)])
def test_the_time_begins_before_the_questions_which_have_half_of_it(
    spent_s: float, left_s: float
) -> None:
    clock = FakeClock()
    table = Timetable(50, 20, since_s=clock() - spent_s, clock=clock)
    assert table.left_s == left_s
    assert table.budget_s == Timetable(50, 20, clock=clock).budget_s


@pytest.mark.parametrize(
    ("left_s", "latency_s", "budget_s"),
    [
        (5.0, 1e-5, math.inf),  # 4 s, and a second for all else
        (4.9, 1e-5, 3.0),
        (4.0, 1e-5, 3.0),
        (1.9, 1e-5, 0.0),  # no more than the 0.75 s of before
        (9.0, 0.02, math.inf),  # 400 calls of 20 ms are 8 s
        (8.9, 0.02, 5.0),
        (21.0, 0.5, math.inf),  # 20 s, and not 200
        (20.9, 0.5, 10.0),
        (0.0, 0.5, 0.0),
    ],
)
def test_what_is_left_is_a_budget_if_it_is_more_than_before(
    left_s: float, latency_s: float, budget_s: float
) -> None:
    clock = FakeClock()
    table = Timetable(50, 21, clock=clock)  # 30 / 21 - 0.5 = 0.93 s
    assert table.budget_s == 0.75
    clock.now_s += 50 - left_s
    assert table.find_larger_budget(latency_s) == pytest.approx(budget_s)
