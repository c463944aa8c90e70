"""Races: find the fastest point of a window with few visits.

numpy only. Knows neither torch, nor storage, nor wall clocks. Derivation:
docs/explanation/races.md.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Generator, Mapping
from dataclasses import replace

import numpy as np

from profiler_service.analysis.comparison import Comparison, Verdict
from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.plan.base import Batch, Points
from profiler_service.plan.modes import MODES
from profiler_service.plan.race.budget import Budget
from profiler_service.plan.race.confirm import Confirmation, LookPlan, pair_log_ratios, plan_looks
from profiler_service.plan.race.contest import (
    Contest,
    count_places,
    find_favourites,
    join_fields,
)
from profiler_service.plan.race.curve import RaceOutcome, build_race_curve
from profiler_service.plan.race.narrow import Narrowing
from profiler_service.plan.race.seen import Seen
from profiler_service.plan.race.settings import RACE, RaceSettings
from profiler_service.plan.race.stages import End
from profiler_service.plan.race.survey import Survey
from profiler_service.plan.race.visits import QUERIED, RaceVisits
from profiler_service.plan.spec import SweepSpec

_VERDICTS: Mapping[Verdict, str] = {
    "faster": "faster than",
    "slower": "slower than",
    "ambiguous": "not told apart from",
}


class RacePlanner(RaceVisits):
    """Finds the fastest point of the window above the grid's first point, and confirms it.

    1. *Survey* (only in the mode `survey`): looks at every point, and again at those that look
       fast.
    2. *Narrow.* Visits random points, every position of every axis equally often. Then it visits
       points that may be the fastest, each in proportion to the probability that it is (Thompson
       sampling from the posterior of `structure`). A visit tells something about its row and its
       column. It also tells something about other positions of the same class or block.
    3. *Contest.* Compares the points that the fit ranks first and the fastest points seen, in
       interleaved rounds, and drops points that fall behind. From here on, only a point's own
       samples and those of its rivals count.
    4. *Confirm.* Compares the leader with the queried point on fresh samples: pairs of adjacent
       visits in random order, judged at a few fixed looks. Each look has its share of the error
       that the whole race may make. So repeated looks, and a second and third candidate, don't make
       an error more likely.

    Everything keeps to a budget of measuring time, which follows from the time that calling each
    point once would take. Every number is in `settings`. What a race finds, and how likely:
    docs/explanation/races.md, "What a race finds".
    """

    def __init__(self, spec: SweepSpec, settings: RaceSettings = RACE) -> None:
        self._seen: Seen | None = None
        self._surveyed: Points = np.zeros(0, dtype=np.int32)
        self._best: tuple[int, Comparison] | None = None
        self._verdicts: list[Verdict] = []
        self._confirmed: list[ConfirmedPair] = []
        self._num_confirming_pairs = 0
        self._is_settled = False
        self._is_cut_short = False
        super().__init__(spec, settings)

    def _plan(self) -> Generator[Batch, Samples, None]:
        started = yield from self._start()
        if started is None:
            self._is_settled = self._num_points == 1 and QUERIED not in self._failures
            return
        seen, budget = started
        self._seen = seen
        if MODES[self._spec.mode].visits_every_point:
            before_s = self._seconds
            self.ends["survey"] = yield from self._survey(seen, budget)
            budget.exclude(self._seconds - before_s)
        self.ends["narrow"] = yield from self._narrow(seen, budget)
        candidates = self._choose_contestants(seen, budget)
        ranked, raced = yield from self._contest(candidates, seen, budget)
        yield from self._confirm(ranked, raced, budget)
        self._is_settled = True

    # Survey

    def _survey(self, seen: Seen, budget: Budget) -> Generator[Batch, Samples, End]:
        """Looks at every point, and again at those that look fast."""
        survey = Survey(self.settings.survey, self._num_points)
        while survey.looks:
            self._advance(0.05 * survey.number, f"looking at {len(survey.field)} points")
            for _ in range(survey.looks):
                order = self._rng.permutation(self._without_failed(survey.field))
                start = 0
                while start < len(order):
                    if (end := budget.find_survey_end(self._seconds)) is not None:
                        return end
                    start += yield from self._visit_some(order[start:], seen)
                self._round += 1
            if seen.is_empty:
                return End.NOTHING_SEEN
            field_size = len(survey.field)
            why = survey.update(seen)
            if survey.looks:
                self._end_stage("survey", (field_size,), (len(survey.field),), why)
        self._surveyed = survey.field
        return End.FINISHED

    # Narrow

    def _narrow(self, seen: Seen, budget: Budget) -> Generator[Batch, Samples, End]:
        """Looks for the fast positions of each axis."""
        warmup_calls = self._warmup.narrow_calls
        until = self.settings.budget.narrow_until
        narrowing = Narrowing(
            self.settings.narrow,
            self._spec.grid.shape,
            self._rng,
            allowed=budget.visits_until(until, self._seconds, warmup_calls),
            few=self.settings.confirm.attempts,
        )
        num_points = self._spec.grid.num_candidates
        self._advance(0.05, f"looking at {narrowing.design_size} of {num_points} points")
        yield from self._visit(narrowing.design(), seen)
        for number in range(self.settings.narrow.batches):
            if seen.is_empty:
                return End.NOTHING_SEEN
            fit = seen.fit()
            budget.learn_noise(fit.noise)
            draw = narrowing.suggest(
                fit,
                wanted=self._scale(narrowing.wanted, budget),
                left=budget.visits_until(until, self._seconds, warmup_calls),
            )
            if isinstance(draw, End):
                return draw
            why = f"fastest in none of {len(draw.points)} posterior draws"
            self._end_stage("narrow", draw.field, draw.alive, why)
            positions = " x ".join(map(str, draw.alive))
            self._advance(0.1 + 0.08 * number, f"narrowing {positions} positions")
            if draw.is_last:
                return End.FEW_LEFT
            yield from self._visit(draw.points, seen)
        return End.FINISHED

    # Contest

    def _choose_contestants(self, seen: Seen, budget: Budget) -> Points:
        """The contest's field: the survey's fastest, the fit's first, the fastest points seen."""
        if seen.is_empty:
            return np.zeros(0, dtype=np.int32)
        left = budget.visits_until(
            self.settings.budget.contest_until, self._seconds, self._warmup.contest_calls
        )
        num_favourites, num_seen = count_places(self.settings.contest, left)
        predicted = seen.fit().predict().ravel().round(6)
        favourites = find_favourites(predicted, num_favourites, {QUERIED, *self._excluded})
        num_candidates = self._spec.grid.num_candidates
        everybody = np.arange(1, self._num_points, dtype=np.int32)
        fastest_seen = seen.fastest(everybody)[:num_seen]
        field = join_fields([self._surveyed, favourites, fastest_seen], self._excluded)
        self._end_stage(
            "narrow",
            (num_candidates - 1,),
            (len(field),),
            "slower by the fit, and not among the fastest seen",
            kept=field.tolist(),
        )
        return field

    def _contest(
        self, candidates: Points, seen: Seen, budget: Budget
    ) -> Generator[Batch, Samples, tuple[Points, Seen]]:
        """The best candidates after the contest's rounds, fastest first; and what was seen."""
        warmup_calls = self._warmup.contest_calls
        until = self.settings.budget.contest_until
        # Warm calls can't be compared with cold ones. Then only the contest's own samples rank the
        # candidates, and each round also visits the queried point.
        has_own_fit = warmup_calls != self._warmup.narrow_calls
        raced = self._create_seen(is_warm=True) if has_own_fit else seen.copy()
        contest = Contest(
            self.settings.contest,
            candidates,
            finalists=self.settings.confirm.attempts,
            allowed=budget.visits_until(until, self._seconds, warmup_calls),
            companion=QUERIED if has_own_fit else None,
        )
        self.ends["contest"] = End.ONE_LEFT
        while (rounds := contest.suggest(lambda n: self._scale(n, budget))) is not None:
            num_candidates = len(contest.candidates)
            self._advance(min(0.6 + 0.05 * contest.number, 0.85), f"racing {num_candidates} points")
            visits = rounds.count * len(rounds.field)
            if (end := budget.find_end(visits, until, self._seconds, warmup_calls)) is not None:
                self.ends["contest"] = end
                break
            yield from self._race(rounds, raced)
            dropped = contest.update(*self._rank(contest.candidates, raced))
            self._end_stage(
                "contest",
                (num_candidates,),
                (len(contest.candidates),),
                "larger latency, or surely behind",
                kept=contest.candidates.tolist(),
                dropped=dropped.tolist(),
            )
        return contest.candidates, raced

    # Confirm

    def _confirm(
        self, ranked: Points, raced: Seen, budget: Budget
    ) -> Generator[Batch, Samples, None]:
        """Confirms the leader; if that fails, the next candidates that seemed faster."""
        settings, warmup_calls = self.settings.confirm, self._warmup.contest_calls
        affordable = budget.visits_until(1.0, self._seconds, warmup_calls) // 2
        if self._spec.budget_s is None:
            affordable = max(affordable, settings.fewest_pairs)
        elif affordable < settings.fewest_pairs:
            self.ends["confirm"] = End.OUT_OF_TIME
            self._is_cut_short = True
            return
        plan = plan_looks(settings, affordable, 2 * self._visit_cost.visit_s(warmup_calls))
        ahead = self._rank(np.append(ranked, QUERIED).astype(np.int32), raced)[0].tolist()
        seems_faster = ahead[: ahead.index(QUERIED)] if QUERIED in ahead else []
        for attempt, rival in enumerate(ranked[: plan.attempts].tolist()):
            left = budget.visits_until(1.0, self._seconds, warmup_calls) // 2
            if attempt and (rival not in seems_faster or left < plan.looks[0]):
                break
            self._advance(0.9 + 0.1 * attempt / settings.attempts, "confirming")
            comparison = yield from self._confirm_rival(rival, plan, budget)
            if comparison is None:
                continue
            is_faster = comparison.verdict == "faster"
            self._end_stage(
                "confirm",
                (1,),
                (int(is_faster),),
                f"{_VERDICTS[comparison.verdict]} the queried point:"
                f" ratio {comparison.ratio:.4f} [{comparison.low:.4f}, {comparison.high:.4f}]",
                kept=[rival] if is_faster else [],
                dropped=[] if is_faster else [rival],
            )
            self._verdicts.append(comparison.verdict)
            self._confirmed.append(
                ConfirmedPair(
                    dims=self._spec.grid.first,
                    rival=self._spec.grid.dims(rival),
                    verdict=comparison.verdict,
                    ratio=comparison.ratio,
                    low=comparison.low,
                    high=comparison.high,
                    num_pairs=comparison.num_pairs,
                )
            )
            if is_faster or self._best is None or comparison.ratio < self._best[1].ratio:
                self._best = (rival, comparison)
            if is_faster:
                break

    def _confirm_rival(
        self, rival: int, plan: LookPlan, budget: Budget
    ) -> Generator[Batch, Samples, Comparison | None]:
        """The comparison of one rival with the queried point on samples of its own.

        None if the rival fails: nobody should grow there.
        """
        settings, warmup_calls = self.settings.confirm, self._warmup.contest_calls
        is_compiled = dict(self._spec.workload.params).get("backend") == "compiled"
        confirmation = Confirmation(
            settings,
            plan,
            noise=budget.noise,
            least_gain=settings.compiled_margin if is_compiled else None,
        )
        field = np.array([QUERIED, rival], dtype=np.int32)
        most = max(settings.batch_pairs, self._batch_visits() // 2)
        end: End | None = None
        while end is None:
            missing = confirmation.pairs_to_look
            if confirmation.has_begun and (
                end := budget.find_end(2 * missing, 1.0, self._seconds, warmup_calls)
            ):
                break
            while missing and end is None:
                count = min(missing, most)
                samples = yield from self._meet(field, count)
                if rival in self._failures:
                    self.ends["confirm"] = End.FAILED
                    return None
                ratios = pair_log_ratios(samples, rival, QUERIED)
                end = confirmation.update(ratios, samples.unstable, count)
                missing -= count
        self.ends["confirm"] = end
        if confirmation.comparison is not None:
            self._num_confirming_pairs += confirmation.comparison.num_pairs
        return confirmation.comparison

    def build_curve(
        self, platform: Platform, protocol: TimingProtocol, measured_at: dt.datetime
    ) -> LatencyCurve:
        """The curve from everything recorded so far, with an answer for the queried point only."""
        if not len(self._calibration_s) or QUERIED in self._failures:
            raise self._first_failure()
        outcome = RaceOutcome(
            calibration_s=self._calibration_s,
            seen=self._seen,
            contested=self._contested,
            batches=self._batches,
            failures=self._failures,
            is_settled=self._is_settled,
            best=self._best,
            verdicts=self._verdicts,
            confirmed=self._confirmed,
            evidence=replace(
                self._cost(),
                rounds=self._round,
                confirmations=self._num_confirming_pairs,
                budget_s=0.0 if self._budget is None else round(self._budget.seconds, 4),
                cut_short=self._is_cut_short,
                guided=self._spec.guide is not None,
            ),
        )
        return build_race_curve(self._spec, outcome, platform, protocol, measured_at)
