"""The search of a race: looks for the points that may be the fastest.

numpy only. Knows no clocks. Derivation: docs/explanation/races.md.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from profiler_service.analysis.samples import Samples
from profiler_service.plan.base import Batch, Points
from profiler_service.plan.race.budget import Budget
from profiler_service.plan.race.contest import count_places, find_favourites, join_fields
from profiler_service.plan.race.effects import EffectsFit
from profiler_service.plan.race.joint import JointEffects, JointFit
from profiler_service.plan.race.narrow import Narrowing
from profiler_service.plan.race.score import RaceScore
from profiler_service.plan.race.seen import Seen
from profiler_service.plan.race.settings import RACE, RaceSettings
from profiler_service.plan.race.stages import End
from profiler_service.plan.race.standing import fit_own_levels
from profiler_service.plan.race.structure import StructureFit
from profiler_service.plan.race.survey import Survey
from profiler_service.plan.race.visits import QUERIED
from profiler_service.plan.spec import SweepSpec


class RaceSearch(RaceScore):
    """A race up to its contest: the survey, if there is one, and narrowing."""

    def __init__(self, spec: SweepSpec, settings: RaceSettings = RACE) -> None:
        self._surveyed: Points = np.zeros(0, dtype=np.int32)
        self._fits: tuple[tuple[int, int], EffectsFit, EffectsFit] | None = None
        """The fits to so many batches of narrowing, and of the contest and the final."""
        super().__init__(spec, settings)
        self._joint = JointEffects(self._axes, settings.prior) if len(self._axes) > 1 else None

    def _fit_window(self, seen: Seen) -> tuple[EffectsFit, EffectsFit]:
        """The fits to what narrowing saw, and to what the contest and the final say, too.

        Both have joint effects if the samples show some. Otherwise both are the fit without, to
        what narrowing saw.
        """
        key = len(seen.batches), len(self._contested)
        if self._fits is None or self._fits[0] != key:
            plain, fits = seen.fit(), None
            if self._joint is not None:
                fits = self._joint.fit(plain, seen.batches, fit_own_levels(self._contested))
            self._fits = key, *(fits or (plain, plain))
        return self._fits[1:]

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
        until = self.settings.budget.narrow_until
        narrowing = Narrowing(
            self.settings.narrow,
            self._axes,
            self._rng,
            allowed=budget.visits_until(until, self._seconds),
            few=self.settings.settle.finalists,
            prior=self._learned_prior,
        )
        num_points = self._spec.grid.num_candidates
        self._advance(0.05, f"looking at {narrowing.design_size} of {num_points} points")
        while len(design := narrowing.design()):
            yield from self._visit(design, seen)
            if not seen.is_empty:
                narrowing.learn(seen.fit().trust)
        for number in range(self.settings.narrow.batches):
            if seen.is_empty:
                return End.NOTHING_SEEN
            fit = seen.fit()
            self._learn(budget, fit.noise)
            narrowing.learn(fit.trust)
            draw = narrowing.suggest(
                fit,
                wanted=budget.scale(narrowing.wanted),
                left=budget.visits_until(until, self._seconds),
            )
            if isinstance(draw, End):
                return draw
            why = f"fastest in none of {len(draw.points)} posterior draws"
            self._end_stage("narrow", draw.field, draw.alive, why)
            positions = " x ".join(map(str, draw.alive))
            self._advance(0.1 + 0.05 * number, f"narrowing {positions} positions")
            if draw.is_last:
                return End.FEW_LEFT
            yield from self._visit(draw.points, seen)
        return End.FINISHED

    def _look_again(self, seen: Seen, budget: Budget) -> Generator[Batch, Samples, None]:
        """Visits points that may be the fastest, so that the model knows more of the others."""
        settings = self.settings.narrow
        count = (
            int(settings.again * budget.visits_until(1.0, self._seconds)) // settings.parts_again
        )
        if count < settings.least_draws:
            return
        for _ in range(settings.parts_again):
            _, fit = self._fit_window(seen)
            yield from self._visit(self._draw_fastest(fit, count), seen)

    def _draw_fastest(self, fit: EffectsFit, count: int) -> Points:
        """Points in proportion to the probability that they are the fastest: in so many draws."""
        if isinstance(fit, StructureFit):
            positions = fit.draw_fastest(self._rng, count)
            points: Points = np.ravel_multi_index(list(positions.T), self._spec.grid.shape).astype(
                np.int32
            )
            return points
        assert isinstance(fit, JointFit)
        settings, excluded = self.settings.settle, {QUERIED, *self._excluded}
        candidates = find_favourites(fit.predict().ravel(), settings.unseen_points, excluded)
        if not len(candidates):
            return candidates
        drawn = fit.draw_fastest(self._rng, min(count, settings.draws), candidates)
        return np.resize(drawn, count).astype(np.int32)

    def _choose_contestants(self, seen: Seen, budget: Budget) -> Points:
        """The contest's field: the survey's fastest, the fit's first, the fastest points seen."""
        if seen.is_empty:
            return np.zeros(0, dtype=np.int32)
        left = budget.visits_until(self.settings.budget.contest_until, self._seconds)
        num_others = self._spec.grid.num_candidates - 1
        num_favourites, num_seen = count_places(
            self.settings.contest, budget.scale, visits=left, num_points=num_others
        )
        predicted = self._fit_window(seen)[0].predict().ravel().round(6)
        favourites = find_favourites(predicted, num_favourites, {QUERIED, *self._excluded})
        everybody = np.arange(1, self._num_points, dtype=np.int32)
        fastest_seen = seen.fastest(everybody)[:num_seen]
        field = join_fields([self._surveyed, favourites, fastest_seen], self._excluded)
        self._end_stage(
            "narrow",
            (num_others,),
            (len(field),),
            "slower by the fit, and not among the fastest seen",
            kept=field.tolist(),
        )
        return field
