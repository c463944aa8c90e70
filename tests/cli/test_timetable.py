"""How a time is shared out over questions, with a clock that only the test moves on."""

from __future__ import annotations

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
        (55, 20, 1.5),  # 80 % of 55 s are 2.2 s each, of which 0.5 s is for all else
        (55, 21, 1.5),  # a layer more: the same budget, so that stored answers are found again
        (55, 200, 0.25),  # the least
        (55, 5, 5.0),
        (55, 3, 10.0),
        (55, 2, None),  # more than the service takes by itself
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
    assert table.expected_s == 25  # nothing is known yet: 5 s each
    assert table.begin() == 25  # twice 50 / 4
    assert table.expected_s == 0  # the first took no time
    clock.now_s += 20
    assert table.begin() == 20  # twice 30 / 3
    assert table.expected_s == 30  # two took 20 s, three more would take 30
    clock.now_s += 25
    assert table.can_settle
    clock.now_s += 1
    assert not table.can_settle and table.left_s == 4
    assert (table.begin(), table.expected_s) == (4, 4)
    clock.now_s += 60
    assert (table.begin(), table.left_s, table.expected_s) == (0, 0, 0)


def test_the_last_questions_may_wait_for_all_that_is_left() -> None:
    clock = FakeClock()
    table = Timetable(10, 2, clock=clock)
    assert [table.begin(), table.begin(), table.begin()] == [10, 10, 10]


@pytest.mark.parametrize(("spent_s", "left_s"), [(0, 50), (10, 40), (25, 25), (40, 25), (999, 25)])
def test_the_time_begins_before_the_questions_which_have_half_of_it(
    spent_s: float, left_s: float
) -> None:
    clock = FakeClock()
    table = Timetable(50, 20, since_s=clock() - spent_s, clock=clock)
    assert table.left_s == left_s
    assert table.budget_s == Timetable(50, 20, clock=clock).budget_s
