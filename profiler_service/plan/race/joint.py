"""Joint effects: what the positions of two axes cause together, beyond what each causes alone.

A kernel may switch: rows that are multiples of 16 have one of their own from some column on. That
is no sum of effects of rows and columns. Here each alignment of one axis has an effect for each
stretch of the other axis, and the samples say how large such effects are, or that there are none.

numpy only. Knows neither budgets nor how points are measured. Derivation:
docs/explanation/races.md, "Joint effects".
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.neighbours import Neighbours
from profiler_service.analysis.samples import Samples
from profiler_service.plan.race.effects import EffectsFit, sum_pairs
from profiler_service.plan.race.prior_settings import PriorSettings
from profiler_service.plan.race.priors import find_alignments
from profiler_service.plan.race.seen import join
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.standing import OwnLevels, find_tail
from profiler_service.plan.race.structure import StructureFit
from profiler_service.plan.race.trust import Belief, Prior, average, find_shares, update

Ints = npt.NDArray[np.intp]

_PASSES = 4
_ANY_LEVEL = 1.0
"""Variance of the level that the rounds of a contest share: any."""
_OWN = 0.01
"""Variance of what an alignment has of its own, beside that of one multiple: without it, the
covariance of an axis' alignments would be singular."""
_NONE = 1e-5
"""Standard deviation of joint effects if there are none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """The joint effects of two axes: one for each pair of labels."""

    axes: tuple[int, int]
    labels: tuple[Ints, Ints]
    """The label of each position of either axis."""
    covariance: F64
    """[pairs, pairs] Of the effects, for a scale of 1."""

    @property
    def width(self) -> int:
        """Number of labels of the second axis."""
        return int(self.labels[1].max()) + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class JointFit(EffectsFit):
    """The posterior of the effects of positions and of joint effects."""

    share: float
    """The probability that there are joint effects."""
    effects: F64
    """Posterior means, [effects]."""
    offsets: npt.NDArray[np.intp]
    shape: tuple[int, ...]
    tables: tuple[Table, ...]

    def predict(self) -> F64:
        """The fit's log latency at every point, in the grid's shape; any level."""
        predicted: F64 = np.zeros(self.shape)
        start = 0
        for axis, size in enumerate(self.shape):
            predicted += _along(self.effects[start : start + size], axis, len(self.shape))
            start += size
        for table, first in zip(self.tables, self.offsets[len(self.shape) :], strict=False):
            # The first axis' labels as a column, the second's as a row.
            at = table.labels[0][:, np.newaxis] * table.width + table.labels[1]
            others = tuple(axis for axis in range(len(self.shape)) if axis not in table.axes)
            predicted += np.expand_dims(self.effects[first + at], others)
        return predicted.round(6)

    def find_columns(self, points: npt.NDArray[np.integer]) -> Ints:
        """Which effects each of the points has, [points, groups]."""
        return _find_columns(points, self.shape, self.tables, self.offsets)

    def draw_fastest(
        self, rng: np.random.Generator, count: int, points: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.integer]:
        """The fastest of `points` in each of `count` posterior draws, [count]."""
        deviation = self._draw_deviations(rng, count)
        drawn = np.repeat(self.predict().ravel()[points][:, np.newaxis], count, axis=1)
        for mine in self.find_columns(points).T:
            drawn += deviation[mine]
        fastest: npt.NDArray[np.integer] = points[drawn.round(6).argmin(axis=0)]
        return fastest


class JointEffects:
    """The priors of the effects of positions and of joint effects, over one window."""

    def __init__(
        self, axes: Sequence[npt.NDArray[np.integer]], settings: PriorSettings = RACE.prior
    ) -> None:
        """`axes` are each axis' dimensions, ascending: at least two."""
        self._settings = settings
        self._shape = tuple(map(len, axes))
        aligned = [_by_alignment(dims, settings) for dims in axes]
        stretched = [_by_stretch(len(dims), settings.joint_stretches) for dims in axes]
        self._tables: list[Table] = []
        for a, b in itertools.combinations(range(len(axes)), 2):
            for first, second in ((aligned[a], stretched[b]), (stretched[a], aligned[b])):
                covariance: F64 = np.asarray(np.kron(first[1], second[1]), dtype=np.float64)
                labels = (first[0], second[0])
                self._tables.append(Table(axes=(a, b), labels=labels, covariance=covariance))
        sizes = [*self._shape, *(len(table.covariance) for table in self._tables)]
        self._offsets = np.cumsum([0, *sizes])
        self._inverses = [np.linalg.inv(table.covariance) for table in self._tables]

    def fit(
        self, plain: StructureFit, batches: Sequence[Samples], levels: OwnLevels
    ) -> tuple[JointFit, JointFit] | None:
        """The fits with joint effects: to the samples of `batches`, and to the levels, too.

        None if there probably are no joint effects. `plain` is the fit to the same samples without
        them, `levels` are those of points that met in rounds. They also count in the probability.
        """
        point, log = join(batches)
        near = Neighbours.of_lengths([len(batch) for batch in batches])
        known, right = self.sum_samples(plain.prior, point, log, near, plain.noise)
        own = self.find_own_variances(plain.prior, known, right, levels)
        more, more_right = self.sum_levels(levels.points, levels.level, levels.covariance, own)
        shares = self.find_shares(plain.prior, known + more, right + more_right)
        if 1 - shares[0] < self._settings.joint_least:
            return None
        return (
            self.average(plain.prior, known, right, shares),
            self.average(plain.prior, known + more, right + more_right, shares),
        )

    def widen(self, plain: Prior, scale: float) -> Prior:
        """The prior of the effects of positions, and joint effects of this scale beside them."""
        size = int(self._offsets[-1])
        mean, precision = np.zeros(size), np.zeros((size, size))
        own = len(plain.mean)
        mean[:own], precision[:own, :own] = plain.mean, plain.precision
        starts = self._offsets[len(self._shape) :].tolist()
        for inverse, (a, b) in zip(self._inverses, itertools.pairwise(starts), strict=True):
            precision[a:b, a:b] = inverse / scale**2
        return Prior(mean=mean, precision=precision)

    def sum_samples(
        self,
        plain: Prior,
        point: npt.NDArray[np.integer],
        log_latency: F64,
        near: Neighbours,
        noise: float,
    ) -> tuple[F64, F64]:
        """What samples [samples] say of all effects: `known` and `right` of `trust.update`.

        The weights of the pairs are those of a fit with the largest joint effects that are
        expected: what contradicts a sum of rows and columns would count little by a fit without.
        `noise` is the relative scale of one sample's noise.
        """
        prior = self.widen(plain, max(self._settings.joint_scales))
        columns = self._find_columns(point)
        fitted = prior.mean[columns].sum(axis=1)
        known, right = np.zeros_like(prior.precision), np.zeros(len(prior.mean))
        for _ in range(_PASSES):
            residual = log_latency - fitted
            found = near.find_noise(residual)
            if found is None:
                break
            weight = near.weigh(residual, found.width)
            weight *= len(log_latency) / (2 * float(weight.sum()) * noise**2)
            known, right = sum_pairs(columns, self._offsets, near, weight, log_latency)
            effects = np.linalg.solve(known + prior.precision, right + prior.precision @ prior.mean)
            fitted = effects[columns].sum(axis=1)
        return known, right

    def find_own_variances(self, plain: Prior, known: F64, right: F64, levels: OwnLevels) -> F64:
        """Variances of what each point may have of its own, [points of the levels].

        A point that is fast alone is no switch. So these effects have the heavy tails of a
        standing's: one that the largest joint effects don't explain has a large variance, and
        says little of them. `known` and `right` are those of `sum_samples`.
        """
        prior = self.widen(plain, max(self._settings.joint_scales))
        columns = self._find_columns(levels.points)
        usual = self._settings.interaction**2
        variance: F64 = np.full(len(levels.points), usual)
        for _ in range(_PASSES):
            more = self.sum_levels(levels.points, levels.level, levels.covariance, variance)
            belief = update(prior, known + more[0], right + more[1])
            off = levels.level - belief.mean[columns].sum(axis=1)
            total = levels.covariance + np.diag(variance) + _ANY_LEVEL
            effect = variance * np.linalg.solve(total, off)
            variance = find_tail(usual, effect)
        return variance

    def sum_levels(
        self, points: npt.NDArray[np.integer], level: F64, covariance: F64, own: F64
    ) -> tuple[F64, F64]:
        """What levels [points], known up to a common one, say of all effects: as `sum_samples`.

        `own` are the variances of what each point has of its own.
        """
        of_points = np.zeros((len(level), int(self._offsets[-1])))
        for each in self._find_columns(points).T:
            of_points[np.arange(len(level)), each] += 1.0
        weight = np.linalg.inv(covariance + np.diag(own) + _ANY_LEVEL)
        return of_points.T @ weight @ of_points, of_points.T @ weight @ level

    def find_shares(self, plain: Prior, known: F64, right: F64) -> F64:
        """The probability that there are no joint effects, and that of each scale, given samples.

        Before the samples, all scales together have the odds `joint_odds`.
        """
        own = len(plain.mean)
        scales = self._settings.joint_scales
        beliefs = [
            update(plain, known[:own, :own], right[:own]),
            *(update(self.widen(plain, scale), known, right) for scale in scales),
        ]
        odds = np.array([1.0, *(self._settings.joint_odds / len(scales) for _ in scales)])
        shares: F64 = find_shares(beliefs) * odds
        shares = shares / shares.sum()
        return shares.round(4)

    def average(self, plain: Prior, known: F64, right: F64, shares: F64) -> JointFit:
        """The posterior given samples, by the mean and the covariance over all scales.

        `known` and `right` are sums of `sum_samples` and `sum_levels`, the shares those of
        `find_shares`.
        """
        beliefs: list[Belief] = [
            update(self.widen(plain, scale), known, right)
            for scale in (_NONE, *self._settings.joint_scales)
        ]
        mean, precision = average(beliefs, shares / shares.sum())
        return JointFit(
            interaction=self._settings.interaction,
            precision=precision,
            share=float(1 - shares[0]),
            effects=mean.round(6),
            offsets=self._offsets,
            shape=self._shape,
            tables=tuple(self._tables),
        )

    def _find_columns(self, points: npt.NDArray[np.integer]) -> Ints:
        return _find_columns(points, self._shape, self._tables, self._offsets)


def _by_alignment(dims: npt.NDArray[np.integer], settings: PriorSettings) -> tuple[Ints, F64]:
    """A label for each of the dims, and the covariance of the labels' effects.

    What multiples of one number have in common has the variance 1, for each such number.
    """
    found, label = np.unique(find_alignments(dims, settings.classes), return_inverse=True)
    divides = np.array([found % each == 0 for each in settings.classes], dtype=np.float64)
    return label.astype(np.intp), divides.T @ divides + _OWN * np.eye(len(found))


def _by_stretch(size: int, count: int) -> tuple[Ints, F64]:
    """A label for each position of an axis, and the covariance of the labels' effects.

    There are at most `count` stretches of equal length. An effect with a variance of 1 that changes
    at one place to another such effect has this covariance, if any place is equally probable: it is
    the probability that the place isn't between two stretches.
    """
    count = min(size, count)
    label: Ints = np.arange(size) * count // size
    stretch = np.arange(count)
    return label, 1 - np.abs(np.subtract.outer(stretch, stretch)) / count


def _find_columns(
    points: npt.NDArray[np.integer], shape: Sequence[int], tables: Sequence[Table], offsets: Ints
) -> Ints:
    positions = np.unravel_index(points, shape)
    columns = [*positions]
    for table in tables:
        first, second = (
            label[positions[axis]] for label, axis in zip(table.labels, table.axes, strict=True)
        )
        columns.append(first * table.width + second)
    found: Ints = np.stack(columns, axis=1) + offsets[:-1]
    return found


def _along(values: F64, axis: int, num_axes: int) -> F64:
    return np.expand_dims(values, tuple(each for each in range(num_axes) if each != axis))
