"""Shares a time out over several questions to the service. Pure: the clock is given.

At first, each question has an equal budget: the same one whenever as many questions are asked in
the same time, so that answers that are stored are found again. What is left goes to the questions
that aren't settled.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

BUDGETS_S = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)
"""Measuring times that are given to a question. Few, so that a question about one layer more or
fewer has the same one."""
OVERHEAD_S = 0.5
"""What a measured answer takes besides its measurement."""
FOR_QUESTIONS = 0.6
"""The part of the time that is planned for asking each question once. The rest is for what comes
before them, and for those that aren't settled then."""
LEAST_FOR_QUESTIONS = 0.5
"""The part that questions have at least, whatever came before."""
LEAST_RACE_S, LONGEST_RACE_S, CALLS = 4.0, 20.0, 400
"""How long a race goes on at most without a budget: the time of so many calls, within these
limits (docs/reference/race.md)."""


class Timetable:
    """What is left of a time for so many questions."""

    def __init__(
        self,
        total_s: float,
        num_questions: int,
        *,
        since_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The time begins at `since_s` on the clock; None: now.

        If it is used up by what came before, half of it is still for the questions.
        """
        self._clock = clock
        self._begun_s = clock()
        begin_s = self._begun_s if since_s is None else since_s
        self._end_s = max(begin_s + total_s, self._begun_s + LEAST_FOR_QUESTIONS * total_s)
        self._num_questions = num_questions
        self._num_asked = 0
        share_s = FOR_QUESTIONS * total_s / max(num_questions, 1) - OVERHEAD_S
        self.budget_s: float | None = max(
            (each for each in BUDGETS_S if each <= share_s), default=BUDGETS_S[0]
        )
        """The measuring time of each question; None if the service's own limit is less."""
        if share_s > BUDGETS_S[-1]:
            self.budget_s = None

    @property
    def left_s(self) -> float:
        """The time that is left for all questions."""
        return max(0.0, self._end_s - self._clock())

    def begin(self) -> float:
        """How long the next question may wait: twice its share, so that all get some time.

        0 if too little is left to ask anything.
        """
        open_questions = max(self._num_questions - self._num_asked, 1)
        self._num_asked += 1
        if self.left_s < OVERHEAD_S:
            return 0.0
        return min(self.left_s, max(2 * self.left_s / open_questions, OVERHEAD_S))

    @property
    def expected_s(self) -> float:
        """How long the question that has begun and those after it will take."""
        num_done = self._num_asked - 1
        most_s = min(self.budget_s or LEAST_RACE_S, LEAST_RACE_S) + OVERHEAD_S
        each_s = (self._clock() - self._begun_s) / num_done if num_done > 0 else most_s
        return min(self.left_s, each_s * (self._num_questions - num_done))

    def find_larger_budget(self, latency_s: float) -> float:
        """The measuring time that a question of such calls can have once more, in seconds.

        Infinity if its race can take as long as it wants; 0 if there is no more time than before.
        """
        spare_s = self.left_s - 2 * OVERHEAD_S
        if spare_s >= max(LEAST_RACE_S, min(CALLS * latency_s, LONGEST_RACE_S)):
            return math.inf
        larger = [each for each in BUDGETS_S if (self.budget_s or 0.0) < each <= spare_s]
        return max(larger, default=0.0)
