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
        (50, 20, 2.0),  # 2.5 s each, of which 0.5 s is for all else
        (50, 19, 2.0),  # a layer fewer: the same budget, so that stored answers are found again
        (50, 200, 0.25),  # the least
        (50, 5, 5.0),
        (50, 2, None),  # more than the service takes by itself
        (0, 3, 0.25),
        (50, 0, None),
    ],
)
def test_each_question_has_an_equal_budget(
    total_s: float, questions: int, budget_s: float | None
) -> None:
    assert Timetable(total_s, questions, FakeClock()).budget_s == budget_s


def test_questions_that_take_no_time_leave_theirs_to_the_others() -> None:
    clock = FakeClock()
    table = Timetable(50, 5, clock)
    assert table.begin() == 20  # twice 50 / 5
    assert table.expected_s == pytest.approx(5 * 5.5)  # nothing is known yet: 5 + 0.5 s each
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
    table = Timetable(10, 2, clock)
    assert [table.begin(), table.begin(), table.begin()] == [10, 10, 10]
