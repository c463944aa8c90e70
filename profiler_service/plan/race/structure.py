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

from profiler_service.analysis.comparison import F64, smooth_drift
from profiler_service.plan.race.settings import RACE, PriorSettings

_NUM_SHARED = 2
"""Number of effects that all points share: drift as a line and a parabola."""
_LOW = 0.2
"""Disturbances make calls longer, so the noise is sharp below and smeared above. Only this share of
the weight comes from above the fit. So the fit is lower, for all points alike, and more precise."""
_LOWER_SCALE = 2.02
"""Standard deviation of normal noise over the median distance of those residuals below such a fit.
(By simulation of 4 million.)"""
_DRIFT_BLOCK = 8
"""Residuals whose median is the drift around them: states of a host last for milliseconds."""
_MAX_PASSES = 12
_CONVERGED = 0.02
"""Passes end when the noise's scale changes by less than this share."""
_LEAST_NOISE = 1e-3


def position_prior(
    dims: npt.NDArray[np.integer], settings: PriorSettings = RACE.prior
) -> tuple[F64, F64]:
    """Mean [n] and covariance [n, n] of the effects of an axis at the dimensions `dims` [n]."""
    log: F64 = np.log(dims.astype(np.float64))
    log = log - log.mean()
    covariance: F64 = settings.growth_spread**2 * np.outer(log, log)
    covariance += settings.own_spread**2 * np.eye(len(dims))
    for multiple in settings.classes:
        if multiple < len(dims):
            residue = dims % multiple
            covariance += settings.class_spread**2 * np.equal.outer(residue, residue)
    for size in settings.blocks:
        block = (dims - 1) // size
        if block[-1] > block[0]:
            covariance += settings.block_spread**2 * np.equal.outer(block, block)
    return settings.growth * log, covariance


def guided_prior(
    dims: npt.NDArray[np.integer], guide: F64, settings: PriorSettings = RACE.prior
) -> tuple[F64, F64]:
    """`position_prior` with a guide [n]: the log latency that each position adds elsewhere.

    The window is expected to show half of the guide's effects beyond growth, ± a half. A few
    samples are enough to find the true share.
    """
    mean, covariance = position_prior(dims, settings)
    log: F64 = np.log(dims.astype(np.float64))
    trend = np.polynomial.Polynomial.fit(log, guide, 1)(log) if len(dims) > 1 else guide
    beyond = guide - trend
    mean = mean + settings.guide_share * beyond
    return mean, covariance + settings.guide_spread**2 * np.outer(beyond, beyond)


@dataclass(frozen=True, kw_only=True, eq=False)
class StructureFit:
    """The posterior of the level and the effects, given samples."""

    level: float
    effects: tuple[F64, ...]
    """Posterior means: one array an axis, of the axis' length."""
    noise: float
    """Scale of the noise: 1.48 times the median absolute residual, corrected for the number of
    effects that the samples determine."""
    low_noise: float
    """Scale of the normal noise that has the same lower part; the fit's weights use it."""
    residual: F64
    """The residual of each sample's log latency, [samples]."""
    without_drift: F64
    """The samples' log latencies without drift."""
    starts: tuple[int, ...]
    """For each axis: the first position that may be the fastest point's."""
    interaction: float
    """The usual effect of a single point, beyond the effects of its positions."""
    precision: F64
    """Inverse posterior covariance of all effects: one axis after the other, then the shared ones
    (drift)."""

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

    @property
    def _error_factor(self) -> float:
        """How much larger errors are than the precision says.

        The fit's weights take the noise for as small as it is below, while a robust centre has the
        errors of the whole noise (1.25 times those of a mean). Each sample also has the error of
        the drift under it: a median of _DRIFT_BLOCK residuals.
        """
        own = max(1.25 * self.noise / self.low_noise, 1.0)
        return own * math.sqrt(1 + 1.25**2 / _DRIFT_BLOCK)

    def believe(self, points: npt.NDArray[np.integer]) -> tuple[F64, F64]:
        """Log latency of each of the points, and the covariance of the errors, [n] and [n, n].

        The effects of single points, which the model doesn't know, are not in it.
        """
        positions = np.unravel_index(points, [len(effect) for effect in self.effects])
        columns = np.zeros((len(self.precision), len(points)))
        start = 0
        for effect, position in zip(self.effects, positions, strict=True):
            columns[start + position, np.arange(len(points))] = 1.0
            start += len(effect)
        covariance = columns.T @ np.linalg.solve(self.precision, columns)
        return self.predict().ravel()[points], self._error_factor**2 * covariance

    def draw_smallest(
        self, rng: np.random.Generator, count: int, points: npt.NDArray[np.integer]
    ) -> F64:
        """The smallest log latency of any of `points` [points] in each of `count` draws, ascending.

        A draw has its own effects of positions, and an effect of each single point.
        """
        deviation = self._error_factor * self._draw_deviations(rng, count)
        positions = np.unravel_index(points, [len(effect) for effect in self.effects])
        drawn = self.interaction * rng.standard_normal((len(points), count))
        drawn += self.predict().ravel()[points][:, np.newaxis]
        start = 0
        for effect, position in zip(self.effects, positions, strict=True):
            drawn += deviation[start + position]
            start += len(effect)
        smallest: F64 = np.sort(drawn.min(axis=0)).round(6)
        return smallest

    def _draw_deviations(self, rng: np.random.Generator, count: int) -> F64:
        normal = rng.standard_normal((len(self.precision), count))
        drawn: F64 = np.linalg.solve(np.linalg.cholesky(self.precision).T, normal)
        return drawn


class Structure:
    """The prior over one window; `fit` gives the posterior."""

    def __init__(
        self,
        axes: Sequence[npt.NDArray[np.integer]],
        guide: Sequence[Sequence[float]] | None = None,
        settings: PriorSettings = RACE.prior,
        starts: Sequence[int] = (),
    ) -> None:
        """`axes` are each axis' dimensions, ascending; `guide` the values for `guided_prior`.

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
        self._mean = np.concatenate([mean for mean, _ in priors])
        self._covariances = [covariance for _, covariance in priors]
        num_effects = int(self._offsets[-1])
        shared = (settings.drift_spread,) * _NUM_SHARED
        self._precision = np.diag(np.r_[np.zeros(num_effects), np.power(shared, -2.0)])
        for (_, covariance), (a, b) in zip(
            priors, itertools.pairwise(self._offsets.tolist()), strict=True
        ):
            self._precision[a:b, a:b] = np.linalg.inv(covariance)

    def fit(
        self,
        positions: npt.NDArray[np.intp],
        log_latency: F64,
        time: F64,
        known_noise: float = 0.0,
    ) -> StructureFit:
        """The posterior given samples [n] taken at ascending times at `positions` [n, axes].

        `known_noise` is the noise of one point's samples, if it is known. Without it, a fit to few
        samples could follow them so closely that no noise seems to be left.

        The fit minimises weighted squares with Huber's weights, so that disturbed samples count
        little. The weights are asymmetric, so it is an M-quantile (Breckling and Chambers, 1988).
        Drift is the slow part of the residuals. Source: ours.
        """
        known_weight = self._settings.known_weight if known_noise else 0.0
        # Both give the same fit. The first takes a time that grows with the cube of the number of
        # samples, the second with that of the effects: a window of long calls has many positions,
        # and few samples.
        is_short = len(log_latency) < len(self._precision)
        smooth = self._smooth_by_samples if is_short else self._smooth_by_effects
        columns = positions + self._offsets[:-1]
        value = log_latency - self._mean[columns].sum(axis=1)
        shared = _shared_causes(time)
        level = float(np.median(value))
        drift: F64 = np.zeros(len(value))
        residual: F64 = value - level
        # A start from large noise would converge slowly: the effects would explain nothing.
        noise = known_noise or _scale(_spread(residual), len(residual), 0.0)
        for _ in range(_MAX_PASSES):
            sampled = columns, shared, _weigh(residual, noise) / noise**2, value - level - drift
            fitted, settled = smooth(*sampled)
            level += _find_low_center(value - level - drift - fitted, noise)
            if len(value) >= 8 * _DRIFT_BLOCK:
                drift = smooth_drift(time, value - level - fitted, block=_DRIFT_BLOCK)
                drift -= np.median(drift)
                settled += len(value) / _DRIFT_BLOCK
            residual = value - level - drift - fitted
            low = _LOWER_SCALE * _find_lower_spread(residual)
            before, noise = noise, _scale(low, len(residual), settled, known_noise, known_weight)
            if abs(noise / before - 1) < _CONVERGED:
                break
        precision, right = self._normal_equations(*sampled)
        solution: F64 = np.asarray(np.linalg.solve(precision, right), dtype=np.float64)
        effects = self._mean + solution[:-_NUM_SHARED]
        return StructureFit(
            level=level,
            effects=tuple(
                effects[a:b].round(6) for a, b in itertools.pairwise(self._offsets.tolist())
            ),
            noise=_scale(_spread(residual), len(residual), settled, known_noise, known_weight),
            low_noise=noise,
            residual=residual,
            without_drift=log_latency - drift - shared @ solution[-_NUM_SHARED:],
            starts=self._starts,
            interaction=self._settings.interaction,
            precision=precision,
        )

    def _smooth_by_effects(
        self, columns: npt.NDArray[np.intp], shared: F64, weight: F64, value: F64
    ) -> tuple[F64, float]:
        """The fitted values [samples], and how many parameters the samples determine.

        That is the trace of the hat matrix.
        """
        precision, right = self._normal_equations(columns, shared, weight, value)
        solved: F64 = np.linalg.solve(precision, np.column_stack([right, self._precision]))
        solution = solved[:, 0]
        fitted: F64 = solution[columns].sum(axis=1) + shared @ solution[-_NUM_SHARED:]
        return fitted, len(precision) - float(np.trace(solved[:, 1:]))

    def _smooth_by_samples(
        self, columns: npt.NDArray[np.intp], shared: F64, weight: F64, value: F64
    ) -> tuple[F64, float]:
        """As `_smooth_by_effects`, from the prior covariance of the samples (Woodbury's identity).

        With the covariance K and the noise's variance D = 1 / weight, the fitted values are
        K (K + D)⁻¹ value = value - D (K + D)⁻¹ value, and the hat matrix is 1 - D (K + D)⁻¹.
        """
        known = np.diag(self._precision)[-_NUM_SHARED:]
        covariance: F64 = (shared / known) @ shared.T
        for row, start, each in zip(columns.T, self._offsets, self._covariances, strict=False):
            covariance += each[np.ix_(row - start, row - start)]
        inverse: F64 = np.linalg.inv(covariance + np.diag(1 / weight)) / weight[:, np.newaxis]
        return value - inverse @ value, len(value) - float(np.trace(inverse))

    def _normal_equations(
        self, columns: npt.NDArray[np.intp], shared: F64, weight: F64, value: F64
    ) -> tuple[F64, F64]:
        """Matrix and right side of (prior + weighted samples) · effects = weighted values."""
        count = int(self._offsets[-1])
        matrix = self._precision.copy()
        right = np.zeros(len(matrix))
        weighted = shared * weight[:, np.newaxis]
        for row in columns.T:
            right[:count] += np.bincount(row, weight * value, count)
            for number, cause in enumerate(weighted.T, start=count):
                cells = np.bincount(row, cause, count)
                matrix[:count, number] += cells
                matrix[number, :count] += cells
            for column in columns.T:
                cells = np.bincount(row * count + column, weight, count * count)
                matrix[:count, :count] += cells.reshape(count, count)
        matrix[count:, count:] += weighted.T @ shared
        right[count:] = weighted.T @ value
        return matrix, right


def _shared_causes(time: F64) -> F64:
    """The shared effects of slow drift, [samples, _NUM_SHARED]."""
    span = float(time[-1] - time[0]) if len(time) else 0.0
    late = 2 * (time - time[0]) / span - 1 if span > 0 else np.zeros(len(time))
    return np.stack([late, late**2 - 1 / 3], axis=1)


def _weigh(residual: F64, noise: float) -> F64:
    """The weight of each sample: Huber's, smaller above the fit than below."""
    weight = np.minimum(1.0, 1.5 * noise / np.maximum(np.abs(residual), 1e-12))
    weight[np.abs(residual) > 6 * noise] *= 0.2
    asymmetric: F64 = weight * np.where(residual < 0, 2 - 2 * _LOW, 2 * _LOW)
    return asymmetric


def _find_low_center(value: F64, noise: float) -> float:
    """The level at which these values' weighted deviations cancel, as in the fit."""
    center = float(np.quantile(value, _LOW))
    for _ in range(_MAX_PASSES):
        weight = _weigh(value - center, noise)
        center = float(weight @ value / weight.sum())
    return center


def _find_lower_spread(residual: F64) -> float:
    """Median distance below zero of the residuals that are below."""
    below = residual[residual < 0]
    return -float(np.median(below)) if len(below) else 0.0


def _spread(residual: F64) -> float:
    """Standard deviation of normal noise with such a median absolute deviation."""
    return 1.48 * float(np.median(np.abs(residual - np.median(residual))))


def _scale(
    seen: float, count: int, num_settled: float, known_noise: float = 0.0, known_weight: float = 0.0
) -> float:
    """The noise's scale, from the scale `seen` of `count` residuals of a fit.

    Corrected for the `num_settled` parameters that the samples determine. `known_noise` counts like
    `known_weight` samples.
    """
    free = max(count - num_settled, 0.1 * count)
    pooled = (count * seen**2 + known_weight * known_noise**2) / (free + known_weight)
    return max(math.sqrt(pooled), _LEAST_NOISE)
