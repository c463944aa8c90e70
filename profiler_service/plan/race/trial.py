"""A trial: is one point no slower than the queried one? Judged on samples that chose nothing.

numpy only: gets samples. The caller keeps the time limits. Derivation:
docs/explanation/races.md, "The nearest and the largest".
"""

from __future__ import annotations

import math

from profiler_service.analysis.comparison import Comparison
from profiler_service.analysis.samples import Samples
from profiler_service.plan.race.repeatability import Repeatability
from profiler_service.plan.race.settings import LadderSettings, SettleSettings
from profiler_service.plan.race.settle import Final, Judgement
from profiler_service.plan.race.stages import End


def find_error(settings: LadderSettings, attempt: int) -> float:
    """The error that the intervals of the point tried as number `attempt` (from 1) may have.

    Only their upper ends make a claim, so half of this may be false. The parts 1/(i (i + 1)) of all
    attempts sum up to 1 at most, however many there are.
    """
    return 2 * settings.false_share / (attempt * (attempt + 1))


def find_bar(settings: LadderSettings, slack: float) -> float:
    """The log ratio to the queried point below which a point is worth a trial."""
    return math.log((1 + slack) * (1 - settings.worthwhile))


def plan_looks(first_look: int, affordable: int) -> tuple[int, ...]:
    """The numbers of rounds after which to look, each twice the one before.

    A trial looks early: most points that aren't the answer show that in a few rounds.
    """
    looks = [first_look]
    while 2 * looks[-1] <= affordable:
        looks.append(2 * looks[-1])
    return tuple(looks)


class Trial:
    """The comparison of one point with the queried one, judged at each look.

    `add` takes the samples of `rounds_to_look` rounds, in parts, and then says why the trial is
    over.
    """

    def __init__(
        self,
        settings: LadderSettings,
        settle: SettleSettings,
        *,
        asked: int,
        rival: int,
        attempt: int,
        slack: float,
        repeatability: Repeatability,
        affordable: int,
    ) -> None:
        """The rival is no slower if it surely takes less than 1 + `slack` times as long.

        There is time for `affordable` rounds, at least for the first look.
        """
        self._settings = settings
        self._rival = rival
        self._attempt = attempt
        self._limit = 1 + slack
        self._looks = plan_looks(settle.first_look, affordable)
        self._left = list(self._looks)
        # All looks have equal parts of the error (Bonferroni).
        self._error = find_error(settings, attempt) / len(self._looks)
        # An error of 1 lets each look name its own error.
        self.final = Final(
            settle,
            asked=asked,
            finalists=[rival],
            margin=1.0,
            repeatability=repeatability,
            error=1.0,
        )
        self.judgement: Judgement | None = None
        """What the last look says."""

    def count_attempts(self, choices: int) -> int:
        """From so many points the rival was chosen, if its processes have seen that many `choices`.

        At least as many as make all attempts together share one error, as in `find_error`.
        """
        return max(choices, self._attempt * (self._attempt + 1))

    @property
    def rounds_to_look(self) -> int:
        """How many rounds are missing until the next look."""
        return self._left[0] - self.final.num_rounds

    @property
    def rounds_per_arena(self) -> int:
        """Most rounds of one batch, so that what differs between arenas is averaged."""
        before = self._left[0] // 2 if len(self._left) < len(self._looks) else 0
        return max(1, (self._left[0] - before) // self._settings.look_arenas)

    @property
    def comparison(self) -> Comparison | None:
        """The comparison at the last look."""
        return None if self.judgement is None else self.judgement.comparisons[self._rival]

    @property
    def holds(self) -> bool:
        """Whether the point is no slower."""
        found = self.comparison
        return found is not None and found.is_bounded and found.high < self._limit

    def add(self, samples: Samples, count: int) -> End | None:
        """Takes one batch of `count` rounds; why the trial is over, or None."""
        self.final.add(samples, count)
        if self.rounds_to_look > 0:
            return None
        self._left.pop(0)
        self.judgement = self.final.judge(self._error)
        if self.judgement is None:
            return End.NOTHING_SEEN
        if self.holds:
            return End.NO_SLOWER
        # Giving up only prevents claims, so it costs nothing of the allowed error.
        likely = self.final.judge(self._settings.give_up_error)
        promise = self._limit * (1 - self._settings.worthwhile)
        if likely is not None and likely.comparisons[self._rival].low > promise:
            return End.TOO_SLOW
        return None if self._left else End.UNDECIDED
