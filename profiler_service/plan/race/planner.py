"""Races: find the fastest point of a window with few visits, and say how sure that is.

numpy only. Knows neither torch, nor storage, nor wall clocks. Derivation:
docs/explanation/races.md.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Generator
from dataclasses import replace

import numpy as np

from profiler_service.analysis.comparison import F64, Comparison
from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.repeatability import ChildLevels, estimate_tau_within
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.plan.base import Batch, Points
from profiler_service.plan.modes import MODES
from profiler_service.plan.race.budget import Budget
from profiler_service.plan.race.contest import Contest, find_favourites
from profiler_service.plan.race.curve import RaceOutcome, build_race_curve
from profiler_service.plan.race.margin import bound_leads, find_unseen_lead
from profiler_service.plan.race.repeatability import Repeatability, choose_margin
from profiler_service.plan.race.search import RaceSearch
from profiler_service.plan.race.seen import Seen
from profiler_service.plan.race.settings import RACE, RaceSettings
from profiler_service.plan.race.settle import Final, Judgement, plan_looks
from profiler_service.plan.race.stages import End
from profiler_service.plan.race.standing import (
    count_choices,
    count_origins,
    find_child_levels,
    find_standing,
)
from profiler_service.plan.race.visits import QUERIED
from profiler_service.plan.spec import SweepSpec


class RacePlanner(RaceSearch):
    """Finds the fastest point of the window above the grid's first point, and settles the answer.

    1. *Survey* (only in the mode `survey`): looks at every point, and again at those that look
       fast.
    2. *Narrow.* Visits random points, every position of every axis equally often. Then it visits
       points that may be the fastest, each in proportion to the probability that it is (Thompson
       sampling from the posterior of `structure`). A visit tells something about its row and its
       column. It also tells something about other positions of the same class or block.
    3. *Contest.* Compares the points that the fit ranks first and the fastest points seen, in
       interleaved rounds. Points leave that surely aren't faster than the leader by the margin.
    4. *Final.* Compares the last points with each other and with the queried point on fresh
       samples, until the answer and its margin are known: nothing larger in the window is faster
       than the answer by more than that.

    If a point that left, or one that was never compared, may still be faster by more than the
    margin, there is another contest and another final. The race ends when it is settled, or when
    its time is up. Every number is in `settings`. What a race finds, and how likely:
    docs/explanation/races.md, "What a race finds".
    """

    def __init__(self, spec: SweepSpec, settings: RaceSettings = RACE) -> None:
        self._seen: Seen | None = None
        self._finals: list[tuple[Final, Judgement]] = []
        self._child_levels: dict[bool, tuple[tuple[int, bytes], ChildLevels | None]] = {}
        self._num_final_rounds = 0
        self._margin = 1.0
        self._bounded: int | None = None
        """The answer that `_margin` is about."""
        self._unseen_risk: float | None = None
        self._is_unseen_open = False
        """Whether a point that was never compared may be faster by more than the margin wanted."""
        self._has_ended = False
        super().__init__(spec, settings)

    def _plan(self) -> Generator[Batch, Samples, None]:
        started = yield from self._start()
        if started is None:
            self._has_ended = self._num_points == 1 and QUERIED not in self._failures
            return
        seen, budget = started
        self._seen = seen
        if MODES[self._spec.mode].visits_every_point:
            before_s = self._seconds
            self.ends["survey"] = yield from self._survey(seen, budget)
            budget.exclude(self._seconds - before_s)
        self.ends["narrow"] = yield from self._narrow(seen, budget)
        points = self._choose_contestants(seen, budget)
        for number in range(self.settings.settle.passes):
            ranked = yield from self._contest(points, seen, budget, number)
            yield from self._settle(ranked, seen, budget, number)
            points = self._find_unsettled(seen, budget)
            if len(points) and self._is_unseen_open:
                yield from self._look_again(seen, budget)
                points = self._find_unsettled(seen, budget)
            if not len(points):
                break
        self._has_ended = True
        yield from self._score()

    @functools.cached_property
    def _wanted_margin(self) -> float:
        """The margin at which the race is settled."""
        settings, asked = self.settings.settle, self._spec.terms.margin
        chosen_from = settings.passes * settings.finalists
        return choose_margin(settings, self._expected, asked, chosen_from=chosen_from)

    # Contest

    def _contest(
        self, points: Points, seen: Seen, budget: Budget, number: int
    ) -> Generator[Batch, Samples, Points]:
        """The points that are still open at the end, fastest first."""
        contest = Contest(
            self.settings.contest,
            points,
            margin=self._wanted_margin,
            error=self._find_error_of_left(),
        )
        until = self._find_contest_end(budget, number)
        fit, _ = self._fit_window(seen)
        self.ends["contest"] = End.ONE_LEFT
        while True:
            num_open = len(contest.open_points)
            self._learn(budget, budget.noise)
            left = budget.visits_until(until, self._seconds)
            rounds = contest.suggest(budget.scale, affordable=left)
            if rounds is None:
                if num_open > 1:
                    self.ends["contest"] = End.OUT_OF_TIME
                break
            done = min(contest.number / self.settings.contest.parts, 1.0)
            self._advance(0.4 + 0.2 * (number + done), f"racing {num_open} points")
            field = np.append(rounds.field, QUERIED).astype(np.int32)
            # In two batches at least, so that two processes visit all that are still open.
            missing, most = rounds.count, math.ceil(rounds.count / 2)
            while missing > 0 and budget.visits_until(until, self._seconds) >= len(field):
                _, count = yield from self._meet(field, min(missing, most))
                missing -= count
            left_over = self._without_failed(contest.points)
            if not len(left_over):
                return left_over
            standing = find_standing(self._contested, left_over, fit)
            self._learn(budget, standing.noise)
            between = self._find_between(left_over, self._find_repeatability())
            dropped = contest.update(standing, between)
            self._end_stage(
                "contest",
                (num_open,),
                (len(contest.open_points),),
                "surely not faster than the leader by the margin",
                kept=contest.open_points.tolist(),
                dropped=dropped.tolist(),
            )
        return self._without_failed(contest.open_points)

    def _find_error_of_left(self) -> float:
        """The error of all claims of one pass about the points that left the contest."""
        return self.settings.contest.error / self.settings.settle.passes

    def _find_contest_end(self, budget: Budget, number: int) -> float:
        """The share of the time at which a contest ends. A second one has half of what is left."""
        if number == 0:
            return self.settings.budget.contest_until
        left = budget.visits_until(1.0, self._seconds) * budget.visit_s
        return 1 - left / (2 * budget.seconds)

    # Final

    def _settle(
        self, ranked: Points, seen: Seen, budget: Budget, number: int
    ) -> Generator[Batch, Samples, None]:
        """Compares the first of `ranked`, the answer so far, and the queried point."""
        settings = self.settings.settle
        self._learn(budget, budget.noise)
        affordable = budget.visits_until(1.0, self._seconds)
        # In few rounds of many points, each pair's interval is open: see "Neighbours in time".
        rounds = max(budget.scale(settings.rounds), 2 * settings.first_look)
        places = affordable // rounds - 1
        places = min(max(places, 1), settings.finalists)
        if affordable < 2 * settings.first_look:
            places = 0
        finalists = ranked.tolist()
        if (judged := self._find_judged()) is not None:
            finalists = list(dict.fromkeys([judged.best, *finalists]))
        finalists = finalists[:places]
        if not finalists:
            self.ends["confirm"] = End.OUT_OF_TIME if len(ranked) else End.NOTHING_SEEN
            return
        final = Final(
            settings,
            asked=QUERIED,
            finalists=finalists,
            margin=self._wanted_margin,
            repeatability=self._expected,
            error=settings.error / settings.passes,
        )
        earlier = [*seen.batches, *self._contested]
        looks = plan_looks(settings, affordable // 2)
        per_arena = max(1, affordable // (len(final.field) * settings.least_arenas))
        judgement: Judgement | None = None
        for look, share in looks.items():
            self._advance(0.6 + 0.2 * number, "confirming")
            is_in_time = True
            while final.num_rounds < look and is_in_time and len(final.field) > 1:
                missing = min(look - final.num_rounds, per_arena)
                field = np.array(final.field, dtype=np.int32)
                samples, count = yield from self._meet(field, missing, is_judging=True)
                final.add(samples, count)
                for failed in [point for point in final.field if point in self._failures]:
                    final.drop(failed)
                is_in_time = budget.visits_until(1.0, self._seconds) >= len(final.field)
            final.repeatability = self._find_repeatability()
            # All passes share one error.
            final.chosen_from = settings.passes * (count_choices(earlier, final.batches) - 1)
            judgement = final.judge(share)
            if len(final.field) < 2:
                self.ends["confirm"] = End.FAILED
                break
            if judgement is not None and judgement.is_decided:
                self.ends["confirm"] = End.SETTLED
                break
            if not is_in_time:
                self.ends["confirm"] = End.OUT_OF_TIME
                break
        else:
            self.ends["confirm"] = End.UNDECIDED
        self._num_final_rounds += final.num_rounds
        if judgement is not None:
            self._keep(final, judgement, finalists)

    def _keep(self, final: Final, judgement: Judgement, finalists: list[int]) -> None:
        """Keeps what a final says."""
        is_moved = judgement.answer != QUERIED
        best = judgement.comparisons[judgement.best]
        self._end_stage(
            "confirm",
            (len(finalists),),
            (int(is_moved),),
            f"nothing here is more than {100 * judgement.margin:.2g} % faster than the answer;"
            f" the best ratio is {best.ratio:.4f} [{best.low:.4f}, {best.high:.4f}]",
            kept=[judgement.answer] if is_moved else [],
            dropped=[point for point in finalists if point != judgement.answer],
        )
        self._finals.append((final, judgement))

    def _find_judged(self) -> Judgement | None:
        """What the final says that the answer comes from; None if there is none.

        A point that failed since is no answer, and what was said of it doesn't count.
        """
        judged: Judgement | None = None
        for _, judgement in self._finals:
            if not {judgement.answer, judgement.best} & self._failures.keys() and (
                judged is None or _is_better(judgement, judged)
            ):
                judged = judgement
        return judged

    def _find_judged_pair(self, rival: int) -> Comparison | None:
        """The comparison with the most pairs, if several finals had the point."""
        found = [each.comparisons[rival] for _, each in self._finals if rival in each.comparisons]
        return max(found, key=lambda each: each.num_pairs, default=None)

    def _find_contested(self) -> Points:
        """The points that met in a contest or a final and didn't fail, ascending."""
        contested = np.unique(np.concatenate([each.point for each in self._contested]))
        return self._without_failed(contested.astype(np.int32))

    def _find_repeatability(self) -> Repeatability:
        """What is expected of it, and what this race's samples say.

        What differs between the arenas of a process counts here, too: then τ is a little too large.
        """
        expected, points = self._expected, self._find_contested()
        groups = [self._find_child_levels(is_judging, points) for is_judging in (False, True)]
        tau = estimate_tau_within(
            [group for group in groups if group is not None],
            expected=expected.children,
            weight=self.settings.settle.tau_weight,
        )
        return replace(expected, children=max(tau, expected.least))

    def _find_child_levels(self, is_judging: bool, points: Points) -> ChildLevels | None:
        """`find_child_levels` of one kind of batches. The last is kept until a batch is added."""
        batches = self._judging if is_judging else self._choosing
        key = len(batches), points.tobytes()
        if self._child_levels.get(is_judging, (None, None))[0] != key:
            self._child_levels[is_judging] = key, find_child_levels(batches, points)
        return self._child_levels[is_judging][1]

    # Margin

    def _find_unsettled(self, seen: Seen, budget: Budget) -> Points:
        """The points that may be faster than the answer by more than the margin wanted.

        Learns the margin. Empty if the finalists alone leave it too large: others don't matter.
        """
        settings, judgement = self.settings.settle, self._find_judged()
        if judgement is None:
            return np.zeros(0, dtype=np.int32)
        contested = self._find_contested()
        repeatability = self._find_repeatability()
        if judgement.answer == QUERIED:
            repeatability = repeatability.at_least(self._expected)
        fit, fit_to_all = self._fit_window(seen)
        standing = find_standing(self._contested, contested, fit)
        left, leads = bound_leads(
            standing,
            judgement.answer,
            [QUERIED, *judgement.comparisons],
            error=self._find_error_of_left(),
            between=self._find_between(contested, repeatability),
        )
        predicted = fit_to_all.predict().ravel().round(6)
        excluded = {*contested.tolist(), QUERIED, *self._excluded}
        unseen = find_favourites(predicted, settings.unseen_points, excluded)
        unseen_margin = 0.0
        lead = None
        if len(unseen):
            smallest = fit_to_all.draw_smallest(self._rng, settings.draws, unseen, contested)
            lead = find_unseen_lead(
                standing, judgement.answer, predicted[contested], smallest, self._rng
            )
            unseen_margin = lead.exceeded_with(settings.unseen_risk / settings.passes)
        margin = max(judgement.margin, *leads.tolist(), unseen_margin)
        # What was known of the same answer still holds, if newcomers were visited too little.
        if self._bounded is None or self._bounded != judgement.answer or margin < self._margin:
            self._bounded = judgement.answer
            self._margin = margin
            self._unseen_risk = 0.0 if lead is None else lead.find_risk(margin)
        if not judgement.is_decided or self._margin <= self._wanted_margin:
            return unseen[:0]
        back = left[leads > self._wanted_margin]
        self._is_unseen_open = unseen_margin > self._wanted_margin
        fresh = unseen if self._is_unseen_open else unseen[:0]
        # Each newcomer should be visited in the first two parts of a contest at least.
        affordable = budget.visits_until(1.0, self._seconds) // (4 * self.settings.contest.rounds)
        return np.append(back, fresh)[: min(affordable, self.settings.contest.places)]

    def _find_between(self, points: Points, repeatability: Repeatability) -> F64:
        """`between` of `bound_leads` for each of the points: the best of all that met was chosen.

        Infinite for a point that no process has visited.
        """
        chosen_from = self.settings.settle.passes * len(self._find_contested())
        return np.array(
            [
                repeatability.half_width(children, arenas, chosen_from=chosen_from)
                if arenas
                else math.inf
                for children, arenas in zip(*count_origins(self._contested, points), strict=True)
            ]
        )

    def build_curve(
        self, platform: Platform, protocol: TimingProtocol, measured_at: dt.datetime
    ) -> LatencyCurve:
        """The curve from everything recorded so far, with an answer for the queried point only."""
        if not len(self._calibration_s) or QUERIED in self._failures:
            raise self._first_failure()
        is_alone = self._has_ended and self._num_points == 1
        judged = self._find_judged()
        is_bounded = judged is not None and judged.answer == self._bounded
        margin = 0.0 if is_alone else self._margin if is_bounded else None
        outcome = RaceOutcome(
            calibration_s=self._calibration_s,
            seen=self._seen,
            contested=self._contested,
            batches=self._answering,
            failures=self._failures,
            has_ended=self._has_ended,
            finals=self._finals,
            judgement=judged,
            evidence=replace(
                self._cost(),
                rounds=self._round,
                confirmations=self._num_final_rounds,
                budget_s=0.0 if self._budget is None else round(self._budget.seconds, 4),
                cut_short=judged is None and self.ends.get("confirm") is End.OUT_OF_TIME,
                guided=self._is_guided,
                settled=margin is not None and margin <= self._wanted_margin,
                margin=margin,
                unseen_risk=self._unseen_risk if is_bounded else None,
            ),
        )
        return build_race_curve(self._spec, outcome, platform, protocol, measured_at)


def _is_better(new: Judgement, old: Judgement) -> bool:
    """Whether a later final replaces an earlier one.

    It does if it moved on, or is surer of the same answer. It doesn't take back what was confirmed.
    """
    if (new.answer == QUERIED) != (old.answer == QUERIED):
        return old.answer == QUERIED
    return new.answer != old.answer or new.margin < old.margin
