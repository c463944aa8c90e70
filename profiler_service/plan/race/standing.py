"""How the points of a contest stand: what the model expects, corrected by their own visits.

numpy only. Knows neither budgets nor how points are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.neighbours import Levels, Neighbours, fit_levels, number_rounds
from profiler_service.analysis.repeatability import ChildLevels
from profiler_service.analysis.samples import Samples
from profiler_service.plan.base import Points
from profiler_service.plan.race.effects import EffectsFit
from profiler_service.plan.race.seen import join

_PASSES = 4
_ANY_LEVEL = 1.0
"""Variance of the difference between the levels of the model and of the contest: any."""
_FREEDOM = 3.0
"""Effects of single points have the heavy tails of Student's t with so many degrees of freedom."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Standing:
    """The log latencies of some points; all arrays [points]."""

    points: Points
    level: F64
    """Posterior mean, given the model and the points' own visits."""
    covariance: F64
    """[points, points] Its errors."""
    visits: npt.NDArray[np.int64]
    noise: float
    """Relative scale of one visit's noise."""

    def find_lead(self, leader: int) -> tuple[F64, F64]:
        """How much longer the point `leader` takes than each of the points, and the error of that.

        Both are in log: positive if the other point is faster.
        """
        at = self.points.tolist().index(leader)
        variance = np.diag(self.covariance)
        error = np.sqrt(np.maximum(variance + variance[at] - 2 * self.covariance[at], 0.0))
        return (self.level[at] - self.level).round(6), error.round(6)


def find_standing(batches: Sequence[Samples], points: Points, fit: EffectsFit) -> Standing:
    """How the points stand, from samples of rounds and the model's `fit` to earlier samples.

    A point's latency is the model's, plus an effect of its own with heavy tails. Its visits show
    both. With few visits the model decides, with many the visits do, and if they contradict it
    clearly, they do at once (Source: ours; the weights of Student's t are those of Lange, Little
    and Taylor, 1989).
    """
    own = _find_own_levels(batches, points)
    expected, model = fit.believe(points)
    known = own.visits > 0
    surprise = np.where(known, own.level - expected, 0.0)
    surprise -= np.median(surprise[known]) if known.any() else 0.0
    effect_variance = np.full(len(points), fit.interaction**2)
    for _ in range(_PASSES):
        prior = model + np.diag(effect_variance) + _ANY_LEVEL
        total = prior + own.covariance
        gain = np.linalg.solve(total, prior).T
        effect = effect_variance * np.linalg.solve(total, surprise)
        effect_variance = find_tail(fit.interaction**2, effect)
    return Standing(
        points=points,
        level=(expected + gain @ surprise).round(6),
        covariance=prior - gain @ prior,
        visits=own.visits,
        noise=own.noise,
    )


def find_tail(usual: float, effect: F64) -> F64:
    """The variances of effects of single points, with heavy tails, after these effects were seen.

    `usual` is the variance of most of them, and the least.
    """
    tail: F64 = np.maximum((_FREEDOM * usual + effect**2) / (_FREEDOM + 1), usual)
    return tail


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnLevels:
    """What the samples of rounds say by themselves; arrays [samples], and [points]."""

    point: npt.NDArray[np.int64]
    log_latency: F64
    """Log latencies without the states that the host was in."""
    noise: float
    """Relative scale of one sample's noise."""
    points: npt.NDArray[np.int64]
    """The points that were visited, ascending."""
    level: F64
    """Their log latencies, of which only differences are meant."""
    covariance: F64
    """[points, points] The errors of differences of levels."""


def fit_own_levels(batches: Sequence[Samples]) -> OwnLevels:
    """The levels of the points that these rounds visited: see `neighbours.fit_levels`."""
    point, log = join(batches)
    points, group = np.unique(point, return_inverse=True)
    near, fitted = _fit_levels(batches, group, log)
    usual = float(np.median(fitted.residual)) if len(log) else 0.0
    return OwnLevels(
        point=point,
        log_latency=fitted.level[group] + usual + near.remove_states(fitted.residual),
        noise=fitted.noise.deviation,
        points=points,
        level=fitted.level,
        covariance=fitted.covariance,
    )


def _fit_levels(
    batches: Sequence[Samples], group: npt.NDArray[np.int64], log: F64
) -> tuple[Neighbours, Levels]:
    lengths = [len(batch) for batch in batches]
    rounds = np.concatenate([np.zeros(0, dtype=np.int64), *(batch.round for batch in batches)])
    rounds = number_rounds(np.repeat(np.arange(len(batches)), lengths), rounds)
    near = Neighbours.of_lengths(lengths)
    return near, fit_levels(log, group, rounds, near)


def _find_own_levels(batches: Sequence[Samples], points: Points) -> Standing:
    """How the points stand by their visits alone. Those without visits have any level."""
    fitted = fit_own_levels(batches)
    is_seen = np.isin(points, fitted.points)
    at = np.searchsorted(fitted.points, points[is_seen])
    level = np.zeros(len(points))
    level[is_seen] = fitted.level[at]
    covariance = np.diag(np.where(is_seen, 0.0, 1e6))
    covariance[np.ix_(is_seen, is_seen)] = fitted.covariance[np.ix_(at, at)]
    visits = np.zeros(len(points), dtype=np.int64)
    visits[is_seen] = np.unique(fitted.point, return_counts=True)[1][at]
    return Standing(
        points=points, level=level, covariance=covariance, visits=visits, noise=fitted.noise
    )


def find_child_levels(batches: Sequence[Samples], points: Points) -> ChildLevels | None:
    """What each process that measured these batches says of the points that all of them visited.

    Only `points` count. None if there are less than two such points or processes.
    """
    children = sorted({batch.child for batch in batches if len(batch)})
    parts = [[batch for batch in batches if batch.child == child] for child in children]
    common = np.sort(points)
    for part in parts:
        common = common[np.isin(common, np.concatenate([batch.point for batch in part]))]
    if len(children) < 2 or len(common) < 2:
        return None
    levels, covariances = [], []
    for part in parts:
        point, log = join(part)
        visited, group = np.unique(point, return_inverse=True)
        _, fitted = _fit_levels(part, group, log)
        at = np.searchsorted(visited, common)
        levels.append(fitted.level[at])
        covariances.append(fitted.covariance[np.ix_(at, at)])
    return ChildLevels(level=np.stack(levels), covariance=np.stack(covariances))


def count_choices(earlier: Sequence[Samples], now: Sequence[Samples]) -> int:
    """The number of points that the processes of the batches `now` have visited, earlier or now.

    Samples of these processes may have preferred some of these points to others.
    """
    children = {batch.child for batch in now}
    points = [batch.point for batch in (*earlier, *now) if batch.child in children]
    return len(np.unique(np.concatenate([np.zeros(0, dtype=np.int32), *points])))


def count_origins(
    batches: Sequence[Samples], points: Points
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """In how many processes, and in how many arenas, each of the points was visited: [points]."""
    arenas = np.zeros(len(points), dtype=np.int64)
    by_child: dict[int, npt.NDArray[np.bool_]] = {}
    for batch in batches:
        is_there = np.isin(points, batch.point)
        arenas += is_there
        by_child[batch.child] = by_child.get(batch.child, np.zeros(len(points), bool)) | is_there
    return np.sum([*by_child.values()], axis=0, dtype=np.int64), arenas
