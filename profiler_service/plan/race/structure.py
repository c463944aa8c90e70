"""A model of latency over a window: an effect for each position, with a prior.

Log latency is nearly a level plus one effect for each position of each axis, because rows and
columns of a product share alignment and tiling. The prior says three things. Effects grow with the
dimension. They change in blocks, because tiles are filled one after the other. Positions of one
residue class (multiples of 16, for example) behave alike. With few samples, the prior decides; with
many, the samples decide.

numpy only. Knows neither how points are chosen nor what is done with the fit. Derivation:
docs/explanation/races.md, "The model".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.neighbours import Neighbours, Noise
from profiler_service.plan.race.effects import EffectsFit, sum_pairs
from profiler_service.plan.race.prior_settings import PriorSettings
from profiler_service.plan.race.priors import guided_prior, learned_prior, position_prior
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.trust import Prior, average, find_shares, update, weigh

_MAX_PASSES = 12
_CONVERGED = 0.02
"""Passes end when the noise changes by less than this share."""
_LEAST_NOISE = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class StructureFit(EffectsFit):
    """The posterior of the level and the effects, given samples."""

    level: float
    effects: tuple[F64, ...]
    """Posterior means: one array an axis, of the axis' length."""
    noise: float
    """Relative scale of one sample's noise, corrected for the effects that the samples settle."""
    residual: F64
    """What the effects and the host's states don't explain of each sample, [samples]."""
    without_states: F64
    """The samples' log latencies without the states that the host was in."""
    starts: tuple[int, ...]
    """For each axis: the first position that may be the fastest point's."""
    trust: float
    """The probability that the host's model holds here; 0 if there is none."""
    prior: Prior
    """What was expected of the effects, by the most probable prior."""

    def predict(self) -> F64:
        """The fit's log latency at every point, in the grid's shape."""
        predicted = self.effects[0] + self.level
        for effect in self.effects[1:]:
            predicted = np.add.outer(predicted, effect)
        return predicted

    def draw_fastest(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.intp]:
        """Positions [count, axes] of the fastest point in each of `count` posterior draws.

        A point is drawn as often as it is likely to be the fastest (Thompson sampling).
        """
        drawn = self.draw_effects(rng, count)
        fastest = [
            least + effects[least:].argmin(axis=0)
            for effects, least in zip(drawn, self.starts, strict=True)
        ]
        return np.stack(fastest, axis=1)

    def draw_effects(self, rng: np.random.Generator, count: int) -> list[F64]:
        """Effects [positions, count] of each axis, in `count` draws from the posterior."""
        deviation = self._draw_deviations(rng, count)
        drawn, start = [], 0
        for effect in self.effects:
            # Rounded, so that the last bits of a sum can't change a replay.
            drawn.append((effect[:, np.newaxis] + deviation[start : start + len(effect)]).round(6))
            start += len(effect)
        return drawn

    def find_variances(self) -> F64:
        """Posterior variance of each point's log ratio to the first point, in the grid's shape.

        Only of what their positions cause.
        """
        sizes = [len(effect) for effect in self.effects]
        starts = np.cumsum([0, *sizes])
        covariance = np.linalg.inv(self.precision)
        variance = np.zeros(sizes)
        for a, b in itertools.combinations_with_replacement(range(len(sizes)), 2):
            block = covariance[starts[a] : starts[a + 1], starts[b] : starts[b + 1]]
            block = block - block[:1] - block[:, :1] + block[:1, :1]
            others = tuple(axis for axis in range(len(sizes)) if axis not in (a, b))
            added = np.diag(block) if a == b else 2 * block
            variance += np.expand_dims(added, others)
        return variance

    def find_columns(self, points: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
        """Which effects each of the points has, [points, axes]."""
        sizes = [len(effect) for effect in self.effects]
        positions = np.unravel_index(points, sizes)
        starts = np.cumsum([0, *sizes[:-1]])
        columns: npt.NDArray[np.intp] = np.stack(positions, axis=1) + starts
        return columns


class Structure:
    """The prior over one window; `fit` gives the posterior."""

    def __init__(
        self,
        axes: Sequence[npt.NDArray[np.integer]],
        guide: Sequence[Sequence[float]] | None = None,
        settings: PriorSettings = RACE.prior,
        starts: Sequence[int] = (),
        learned: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """`axes` are each axis' dimensions, ascending; `guide` the values for `guided_prior`.

        `learned` are those for `learned_prior`. The samples say how far they are trusted.

        `starts` says for each axis which position is the first that the answer may have (0).
        """
        self._settings = settings
        self._starts = tuple(starts) or (0,) * len(axes)
        self._offsets = np.cumsum([0, *map(len, axes)])
        if guide is None:
            priors = [position_prior(dims, settings) for dims in axes]
        else:
            priors = [
                guided_prior(dims, np.array(values), settings)
                for dims, values in zip(axes, guide, strict=True)
            ]
        self._covariances = [covariance for _, covariance in priors]
        plain = self._join(priors)
        self._mean, self._precision = plain.mean, plain.precision
        self._learned: dict[bool, list[Prior]] = {}
        """With each spread: the priors if the model holds, and if it doesn't."""
        for holds in (True, False) if learned is not None else ():
            self._learned[holds] = [
                self._join(
                    [
                        learned_prior(dims, np.array(values), spread, settings, holds=holds)
                        for dims, values in zip(axes, learned or (), strict=True)
                    ]
                )
                for spread in settings.learned_spreads
            ]

    def _join(self, priors: Sequence[tuple[F64, F64]]) -> Prior:
        """The prior of all effects from the mean and the covariance of each axis' effects."""
        precision = np.zeros((int(self._offsets[-1]),) * 2)
        for (_, covariance), (a, b) in zip(
            priors, itertools.pairwise(self._offsets.tolist()), strict=True
        ):
            precision[a:b, a:b] = np.linalg.inv(covariance)
        return Prior(mean=np.concatenate([mean for mean, _ in priors]), precision=precision)

    def fit(
        self,
        positions: npt.NDArray[np.intp],
        log_latency: F64,
        near: Neighbours,
        known: Noise | None = None,
    ) -> StructureFit:
        """The posterior given samples [n] at `positions` [n, axes], which are neighbours in `near`.

        `known` is the noise of one point's samples, if it is known. Without it, a fit to few
        samples could follow them so closely that no noise seems to be left.

        Only differences of neighbours count, each with the weight that `neighbours` gives it. So a
        level of the host needs no model. Pairs share samples. The noise says how much all of them
        tell together.
        """
        # Both give the same fit. The first takes a time that grows with the cube of the number of
        # samples, the second with that of the effects: a window of long calls has many positions,
        # and few samples.
        is_short = len(log_latency) < len(self._precision)
        smooth = self._smooth_by_samples if is_short else self._smooth_by_effects
        columns = positions + self._offsets[:-1]
        value = log_latency - self._mean[columns].sum(axis=1)
        fitted: F64 = np.zeros(len(value))
        if known is not None:  # a coarse clock may show none
            known = Noise(
                width=max(known.width, _LEAST_NOISE), deviation=max(known.deviation, _LEAST_NOISE)
            )
        # A start from large noise would converge slowly: the effects would explain nothing.
        noise = known or self._find_noise(near, value, 0.0, None)
        weight: F64 = np.zeros(len(near.first))
        for _ in range(_MAX_PASSES):
            residual: F64 = value - fitted
            weight = near.weigh(residual, noise.width)
            if len(weight):
                # Each pair belongs to two samples, and a sample tells 1 / deviation².
                weight *= len(value) / (2 * float(weight.sum()) * noise.deviation**2)
            fitted, settled = smooth(columns, near, weight, value)
            before = noise
            noise = self._find_noise(near, value - fitted, settled, known)
            if abs(noise.deviation / before.deviation - 1) < _CONVERGED:
                break
        precision, right = self._normal_equations(columns, near, weight, value)
        effects = self._mean + np.asarray(np.linalg.solve(precision, right), dtype=np.float64)
        trust = 0.0
        prior = Prior(mean=self._mean, precision=self._precision)
        if self._learned:
            weighed = self._weigh_priors(precision - self._precision, right)
            effects, precision, trust, prior = weighed
            fitted = (effects - self._mean)[columns].sum(axis=1)
        residual = value - fitted
        own = near.remove_states(residual)
        level = float(np.median(residual)) if len(value) else 0.0
        return StructureFit(
            level=level,
            effects=tuple(
                effects[a:b].round(6) for a, b in itertools.pairwise(self._offsets.tolist())
            ),
            noise=noise.deviation,
            residual=own,
            without_states=log_latency - residual + own + level,
            starts=self._starts,
            interaction=self._settings.interaction,
            precision=precision,
            trust=trust,
            prior=prior,
        )

    def _weigh_priors(self, known: F64, right: F64) -> tuple[F64, F64, float, Prior]:
        """Mean and precision of the effects, over all priors, and the probability of the model.

        Last comes the most probable prior.

        `known` and `right` are the samples' part of the normal equations around the plain prior's
        mean. All priors get the weights of its fit, which takes nothing for granted.
        """
        right = right + known @ self._mean
        holding, others = (
            [update(prior, known, right) for prior in self._learned[holds]]
            for holds in (True, False)
        )
        trust = weigh(holding, others, self._settings.learned_odds)
        plain = Prior(mean=self._mean, precision=self._precision)
        shares = np.append(trust * find_shares(holding), 1 - trust)
        mean, precision = average([*holding, update(plain, known, right)], shares)
        prior = [*self._learned[True], plain][int(shares.argmax())]
        return mean, precision, trust, prior

    def _find_noise(
        self, near: Neighbours, residual: F64, settled: float, known: Noise | None
    ) -> Noise:
        """The noise of a fit's residuals, of which the samples determine `settled` parameters.

        `known` counts like `known_weight` samples.
        """
        count = len(residual)
        found = near.find_noise(residual)
        if found is None:
            return known or Noise(width=_LEAST_NOISE, deviation=_LEAST_NOISE)
        more = 0.0 if known is None else self._settings.known_weight
        least = (0.0, 0.0) if known is None else (known.width**2, known.deviation**2)
        free = max(count - settled, 0.1 * count)
        width, deviation = (
            max(math.sqrt((count * seen**2 + more * other) / (free + more)), _LEAST_NOISE)
            for seen, other in zip((found.width, found.deviation), least, strict=True)
        )
        return Noise(width=width, deviation=deviation)

    def _smooth_by_effects(
        self, columns: npt.NDArray[np.intp], near: Neighbours, weight: F64, value: F64
    ) -> tuple[F64, float]:
        """The fitted values [samples], and how many parameters the samples determine.

        That is the trace of the hat matrix.
        """
        precision, right = self._normal_equations(columns, near, weight, value)
        both: F64 = np.column_stack([right, self._precision])
        solved: F64 = np.asarray(np.linalg.solve(precision, both), dtype=np.float64)
        fitted: F64 = solved[:, 0][columns].sum(axis=1)
        return fitted, len(precision) - float(np.trace(solved[:, 1:]))

    def _smooth_by_samples(
        self, columns: npt.NDArray[np.intp], near: Neighbours, weight: F64, value: F64
    ) -> tuple[F64, float]:
        """As `_smooth_by_effects`, from the prior covariance of the samples.

        With the covariance K and the pairs' Laplacian L, the fitted values are
        K (1 + L K)⁻¹ L value, and the trace of the hat matrix is n - trace((1 + L K)⁻¹).
        """
        count = len(value)
        covariance = np.zeros((count, count))
        for row, start, each in zip(columns.T, self._offsets, self._covariances, strict=False):
            covariance += each[np.ix_(row - start, row - start)]
        laplacian = np.zeros((count, count))
        laplacian[near.first, near.second] = laplacian[near.second, near.first] = -weight
        np.fill_diagonal(laplacian, -laplacian.sum(axis=1))
        inverse = np.linalg.inv(np.eye(count) + laplacian @ covariance)
        fitted: F64 = np.asarray(covariance @ (inverse @ (laplacian @ value)), dtype=np.float64)
        return fitted, count - float(np.trace(inverse))

    def _normal_equations(
        self, columns: npt.NDArray[np.intp], near: Neighbours, weight: F64, value: F64
    ) -> tuple[F64, F64]:
        """Matrix and right side of (prior + weighted pairs) · effects = weighted differences."""
        matrix, right = sum_pairs(columns, self._offsets, near, weight, value)
        return self._precision + matrix, right
