"""How probable it is, by the fit, that a point of the window is no slower than the queried one.

numpy only. Knows neither budgets nor how points are measured. The probabilities choose what is
visited and tried. They never judge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64, grouped_medians
from profiler_service.plan.base import Points
from profiler_service.plan.race.structure import StructureFit
from profiler_service.plan.race.visits import QUERIED

_CREDIBLE_VISITS = 4
"""From so many visits on, a point whose own samples contradict the fit is taken for an exception.
Fewer may all have been disturbed."""
_CHUNK = 1024
"""So many points are looked at together in all draws: this bounds the memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ratios:
    """What the fit says of each point's log latency ratio to the queried point: arrays [points]."""

    mean: F64
    deviation: F64
    """Standard deviation of what the fit doesn't know."""
    own_mean: F64
    """The part of `mean` that only this point has, beyond its positions."""
    own_deviation: F64

    def score(self, bar: float) -> F64:
        """By how many standard deviations each point is expected to lie below the log ratio `bar`.

        The probability that it lies below is the normal distribution function of that.
        """
        score: F64 = ((bar - self.mean) / self.deviation).round(6)
        score[QUERIED] = -np.inf
        return score


def find_ratios(fit: StructureFit, point: npt.NDArray[np.integer]) -> Ratios:
    """The ratios, by the fit to samples of `point` [samples].

    The effects of positions have the fit's posterior. Beyond them, each point has an effect of its
    own: it is known for points with many visits, and the usual one for the others.
    """
    predicted = fit.predict().ravel()
    own_mean = np.zeros(len(predicted))
    own_variance = np.full(len(predicted), fit.interaction**2)
    seen, median, count = grouped_medians(point, fit.residual)
    own = median - np.median(fit.residual)
    error = fit.noise**2 / count
    prior = np.full(len(seen), fit.interaction**2)
    is_credible = count >= _CREDIBLE_VISITS
    prior[is_credible] = np.maximum(prior, own**2 - 9 * error)[is_credible]
    own_mean[seen] = own * prior / (prior + error)
    own_variance[seen] = prior * error / (prior + error)
    mean = predicted - predicted[QUERIED] + own_mean - own_mean[QUERIED]
    variance = fit.find_variances().ravel() + own_variance + own_variance[QUERIED]
    return Ratios(
        mean=mean,
        deviation=np.sqrt(variance),
        own_mean=own_mean,
        own_deviation=np.sqrt(own_variance),
    )


def draw_preferred(
    fit: StructureFit,
    preferred: Points,
    bar: float,
    rng: np.random.Generator,
    count: int,
    *,
    ratios: Ratios | None = None,
) -> Points:
    """The first of `preferred` whose log ratio is at most `bar`, in each of `count` draws [count].

    -1 where there is none. With `ratios`, the effect that each point has of its own is drawn, too.
    """
    drawn = fit.draw_effects(rng, count)
    relative = [effects - effects[:1] for effects in drawn]
    shape = tuple(map(len, drawn))
    chosen = np.full(count, -1, dtype=np.int32)
    open_draws = np.arange(count)
    queried = np.zeros(count)
    if ratios is not None:
        queried = rng.normal(ratios.own_mean[QUERIED], ratios.own_deviation[QUERIED], count)
    for start in range(0, len(preferred), _CHUNK):
        part = preferred[start : start + _CHUNK]
        total = np.zeros((len(part), len(open_draws))) - queried[open_draws]
        for effects, position in zip(relative, np.unravel_index(part, shape), strict=True):
            total += effects[np.ix_(position, open_draws)]
        if ratios is not None:
            mean, deviation = ratios.own_mean[part], ratios.own_deviation[part]
            total += rng.normal(mean[:, np.newaxis], deviation[:, np.newaxis], total.shape)
        is_below = total.round(6) <= bar
        found = is_below.any(axis=0)
        chosen[open_draws[found]] = part[is_below.argmax(axis=0)[found]]
        open_draws = open_draws[~found]
        if not len(open_draws):
            break
    return chosen


@dataclass(frozen=True, kw_only=True, eq=False)
class PreferredDraw:
    """Draws points in proportion to the probability that they are the preferred one.

    Takes the place of a fit's posterior in `narrow`: there, the preferred point is the fastest.
    """

    fit: StructureFit
    preferred: Points
    """Points in the order of preference."""
    bar: float
    """A point counts as no slower if its log ratio to the queried point is at most this."""

    def draw_fastest(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.intp]:
        """Positions [count, axes] of the preferred point that is no slower, in each of the draws.

        Where none is, the fastest point of a draw.
        """
        chosen = draw_preferred(self.fit, self.preferred, self.bar, rng, count)
        shape = tuple(map(len, self.fit.effects))
        positions = np.stack(np.unravel_index(np.maximum(chosen, 0), shape), axis=1)
        nowhere = chosen < 0
        positions[nowhere] = self.fit.draw_fastest(rng, int(nowhere.sum()))
        return positions
