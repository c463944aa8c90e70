"""Ladders: find the nearest or the largest point of a window that is no slower.

numpy only. Knows neither torch, nor storage, nor wall clocks. Derivation:
docs/explanation/races.md, "The nearest and the largest".
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Generator
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from profiler_service.analysis.comparison import F64, Comparison
from profiler_service.analysis.curve import LatencyCurve, PointStatus
from profiler_service.analysis.lhp import find_costs
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.plan.base import Batch, Points
from profiler_service.plan.modes import MODES
from profiler_service.plan.race.budget import Budget
from profiler_service.plan.race.chances import (
    PreferredDraw,
    Ratios,
    draw_preferred,
    find_ratios,
)
from profiler_service.plan.race.curve import RaceOutcome, build_race_curve
from profiler_service.plan.race.narrow import Narrowing
from profiler_service.plan.race.score import RaceScore
from profiler_service.plan.race.seen import Seen
from profiler_service.plan.race.settings import RACE, RaceSettings
from profiler_service.plan.race.stages import End
from profiler_service.plan.race.standing import count_choices
from profiler_service.plan.race.trial import Trial, find_bar
from profiler_service.plan.race.visits import QUERIED
from profiler_service.plan.spec import SweepSpec

_NEVER = -5.0
"""A point with a smaller score has no part in any probability."""


class LadderPlanner(RaceScore):
    """Finds the preferred point that is no slower than the grid's first point.

    1. *Narrow*, as a race does. But each draw from the posterior is the preferred point that is no
       slower in it, instead of the fastest point.
    2. *Try* points, each against the queried point, on fresh pairs of visits. The first one is
       probably no slower, so that there soon is an answer. Then come the points that would be
       preferred to it, in the order of preference. Points that the fit makes improbable are
       skipped. The first point that holds has nothing before it that is worth a trial: it is the
       answer. After each trial, the fit learns from its samples, too.

    A point that is tried was chosen by earlier samples, and is judged only by its own trial. Each
    trial has its share of the error that all of them together may make. `terms.slack` is the share
    by which a point may be slower and still count as no slower.

    Every number is in `settings`.
    """

    def __init__(self, spec: SweepSpec, settings: RaceSettings = RACE) -> None:
        self._seen: Seen | None = None
        self._has_ended = False
        self._is_settled = False
        self._trials: dict[int, Trial] = {}
        """The points that were tried, in order."""
        self._held: int | None = None
        """The preferred one of the points that hold."""
        self._unseen_risk: float | None = None
        self._bar = find_bar(settings.ladder, spec.terms.slack)
        self._costs: F64 = find_costs(
            MODES[spec.mode].prefer, spec.grid.first, spec.grid.all_dims()
        ).round(9)
        super().__init__(spec, settings)

    def _plan(self) -> Generator[Batch, Samples, None]:
        started = yield from self._start()
        if started is None:
            is_alone = self._num_points == 1 and QUERIED not in self._failures
            self._has_ended = self._is_settled = is_alone
            return
        seen, budget = started
        self._seen = seen
        if self._affordable_rounds(budget) >= self.settings.settle.first_look:
            self.ends["narrow"] = yield from self._narrow(seen, budget)
            self.ends["confirm"] = yield from self._climb(seen, budget)
        else:
            self.ends["confirm"] = End.OUT_OF_TIME
        self._is_settled = self.ends["confirm"] is End.SETTLED
        self._has_ended = True
        yield from self._score()

    def _affordable_rounds(self, budget: Budget) -> int:
        """How many rounds of two visits fit into the time that is left."""
        self._learn(budget, budget.noise)
        return budget.visits_until(1.0, self._seconds) // 2

    # Narrow

    def _narrow(self, seen: Seen, budget: Budget) -> Generator[Batch, Samples, End]:
        """Looks for positions of each axis at which the preferred points may be."""
        until = self.settings.budget.narrow_until
        narrowing = Narrowing(
            self.settings.narrow,
            self._axes,
            self._rng,
            allowed=budget.visits_until(until, self._seconds),
            few=1,
            prior=self._learned_prior,
        )
        num_points = self._spec.grid.num_candidates
        self._advance(0.05, f"looking at {narrowing.design_size} of {num_points} points")
        while len(design := narrowing.design()):
            yield from self._visit(self._with_anchors(design, QUERIED), seen)
            if not seen.is_empty:
                narrowing.learn(seen.fit().trust)
        order = np.argsort(self._costs, kind="stable").astype(np.int32)
        order = order[order != QUERIED]
        for number in range(self.settings.narrow.batches):
            if seen.is_empty:
                return End.NOTHING_SEEN
            fit = seen.fit()
            self._learn(budget, fit.noise)
            narrowing.learn(fit.trust)
            preferred = self._without_failed(order)[: self.settings.ladder.most_points]
            draw = narrowing.suggest(
                PreferredDraw(fit=fit, preferred=preferred, bar=self._bar),
                wanted=budget.scale(narrowing.wanted),
                left=budget.visits_until(until, self._seconds),
            )
            if isinstance(draw, End):
                return draw
            why = f"preferred in none of {len(draw.points)} posterior draws"
            self._end_stage("narrow", draw.field, draw.alive, why)
            positions = " x ".join(map(str, draw.alive))
            self._advance(0.1 + 0.05 * number, f"narrowing {positions} positions")
            if draw.is_last:
                return End.FEW_LEFT
            yield from self._visit(self._with_anchors(draw.points, QUERIED), seen)
        return End.FINISHED

    # Try

    def _climb(self, seen: Seen, budget: Budget) -> Generator[Batch, Samples, End]:
        """Tries one point after the other, until none is left that may well be preferred."""
        if seen.is_empty:
            return End.NOTHING_SEEN
        settings = self.settings.ladder
        end: End | None = None
        while end is not End.OUT_OF_TIME:
            ratios = self._find_ratios(seen)
            rival = self._choose(ratios)
            if rival is None:
                drawn = self._draw_skipped(seen, ratios)
                self._unseen_risk = len(drawn) / settings.draws
                if self._unseen_risk <= settings.most_risk:
                    return End.SETTLED
                end = yield from self._look_again(drawn, seen, budget)
            elif self._affordable_rounds(budget) < self.settings.settle.first_look:
                end = End.OUT_OF_TIME
            else:
                end = yield from self._try(rival, seen, budget)
        if self._unseen_risk is None:
            self._unseen_risk = len(self._draw_skipped(seen, ratios)) / settings.draws
        return end

    def _look_again(
        self, drawn: Points, seen: Seen, budget: Budget
    ) -> Generator[Batch, Samples, End]:
        """Visits points that may have been skipped wrongly, for a better fit."""
        settings = self.settings.ladder
        wanted = max(settings.again_visits, int(settings.again_share * self._num_samples))
        affordable = self._affordable_rounds(budget)
        if affordable < settings.again_visits:
            return End.OUT_OF_TIME
        self._advance(self._fraction, f"looking again at {len(np.unique(drawn))} points")
        points = np.resize(drawn, min(wanted, affordable))
        yield from self._visit(self._with_anchors(points, QUERIED), seen)
        return End.FINISHED

    def _find_ratios(self, seen: Seen) -> Ratios:
        return find_ratios(seen.fit(), seen.points)

    def _find_preferred(self) -> Points:
        """The points that would be preferred to the answer so far, and that weren't tried."""
        least = np.inf if self._held is None else self._costs[self._held]
        points = np.flatnonzero(self._costs < least)
        excluded = [QUERIED, *self._excluded, *self._trials]
        return points[~np.isin(points, excluded)].astype(np.int32)

    def _choose(self, ratios: Ratios) -> int | None:
        """The point to try next; None if no point that would be preferred is probable enough."""
        settings, normal = self.settings.ladder, NormalDist()
        points = self._find_preferred()
        score = ratios.score(self._bar)[points]
        is_probable = score >= normal.inv_cdf(settings.least_chance)
        points, score = points[is_probable], score[is_probable]
        if not len(points):
            return None
        if self._held is None:
            is_good = score >= min(normal.inv_cdf(settings.good_chance), score.max())
            points, score = points[is_good], score[is_good]
        # Among points that are equally preferred, the most probable one.
        return int(points[np.lexsort((-score, self._costs[points]))[0]])

    def _try(self, rival: int, seen: Seen, budget: Budget) -> Generator[Batch, Samples, End]:
        """Why the trial of one point ended."""
        settings, first_look = self.settings.ladder, self.settings.settle.first_look
        attempt = len(self._trials) + 1
        dims = ",".join(map(str, self._spec.grid.dims(rival)))
        self._advance(min(0.4 + 0.04 * attempt, 0.95), f"trying {dims}, point {attempt}")
        affordable = int(settings.trial_share * self._affordable_rounds(budget))
        trial = Trial(
            settings,
            self.settings.settle,
            asked=QUERIED,
            rival=rival,
            attempt=attempt,
            slack=self._spec.terms.slack,
            repeatability=self._expected,
            affordable=max(affordable, first_look),
        )
        self._trials[rival] = trial
        field = np.array([QUERIED, rival], dtype=np.int32)
        end: End | None = None
        while end is None:
            if self._affordable_rounds(budget) < trial.rounds_to_look:
                end = End.OUT_OF_TIME
                break
            samples, count = yield from self._meet(
                field, min(trial.rounds_to_look, trial.rounds_per_arena), is_judging=True
            )
            if rival in self._failures:
                end = End.POINT_FAILED
                break
            seen.add(samples)
            trial.final.chosen_from = trial.count_attempts(
                count_choices(seen.batches, [*trial.final.batches, samples]) - 1
            )
            end = trial.add(samples, count)
        if trial.holds and end is not End.POINT_FAILED:
            self._held = rival
        self._end_trial(rival, trial, end)
        return end

    def _end_trial(self, rival: int, trial: Trial, end: End) -> None:
        found = trial.comparison
        why = f"{end}"
        if found is not None:
            why += f": ratio {found.ratio:.4f} [{found.low:.4f}, {found.high:.4f}]"
        holds = [rival] if rival == self._held else []
        dropped = [] if holds else [rival]
        self._end_stage("confirm", (1,), (len(holds),), why, kept=holds, dropped=dropped)

    def _draw_skipped(self, seen: Seen, ratios: Ratios) -> Points:
        """The points that would be the answer, one for each posterior draw that has any.

        Only points that weren't tried.
        """
        settings = self.settings.ladder
        points = self._find_preferred()
        points = points[ratios.score(self._bar)[points] > _NEVER]
        points = points[np.argsort(self._costs[points], kind="stable")][: settings.most_points]
        drawn = draw_preferred(
            seen.fit(), points, self._bar, self._rng, settings.draws, ratios=ratios
        )
        return drawn[drawn >= 0]

    def _find_judged_pair(self, rival: int) -> Comparison | None:
        """What the point's trial says at its last look."""
        trial = self._trials.get(rival)
        return None if trial is None else trial.comparison

    # Curve

    def build_curve(
        self, platform: Platform, protocol: TimingProtocol, measured_at: dt.datetime
    ) -> LatencyCurve:
        """The curve from everything recorded so far, with an answer for the queried point only."""
        if not len(self._calibration_s) or QUERIED in self._failures:
            raise self._first_failure()
        finals = {
            rival: (trial.final, trial.judgement)
            for rival, trial in self._trials.items()
            if trial.judgement is not None and rival not in self._failures
        }
        held = None if self._held not in finals else finals[self._held][1]
        outcome = RaceOutcome(
            calibration_s=self._calibration_s,
            seen=self._seen,
            contested=self._contested,
            batches=self._answering,
            failures=self._failures,
            has_ended=self._has_ended,
            finals=list(finals.values()),
            judgement=None if held is None else replace(held, answer=held.best),
            evidence=replace(
                self._cost(),
                rounds=self._round,
                confirmations=sum(final.num_rounds for final, _ in finals.values()),
                budget_s=0.0 if self._budget is None else round(self._budget.seconds, 4),
                cut_short=self._has_ended and self._num_points > 1 and not finals,
                guided=self._is_guided,
                settled=self._is_settled,
                unseen_risk=self._unseen_risk,
                slack=self._spec.terms.slack,
            ),
        )
        curve = build_race_curve(self._spec, outcome, platform, protocol, measured_at)
        if held is not None and held.comparisons[held.best].verdict != "faster":
            curve.status[QUERIED] = PointStatus.UNDECIDED  # no slower, by the slack
        return curve
