"""How much faster than the answer anything else in the window may be.

numpy only. The finalists have bounds of their own (`settle`). Here are those of the points that
left the contest, which their own visits bound, and of those that were never compared, of which only
the model says something.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from profiler_service.analysis.comparison import F64
from profiler_service.plan.base import Points
from profiler_service.plan.race.standing import Standing


def bound_leads(
    standing: Standing, answer: int, judged: Collection[int], *, error: float, between: F64
) -> tuple[Points, F64]:
    """The points not `judged` otherwise, and by how much each may be faster than the answer.

    That is a share, 0 if it surely isn't faster. All bounds hold together, but for a probability
    of `error` (Bonferroni). `between`, for each point of the standing, is half the width, in log,
    of an interval for what differs between the processes and arenas in which it was visited.
    """
    lead, deviation = standing.find_lead(answer)
    is_left = ~np.isin(standing.points, [answer, *judged])
    if not is_left.any():
        return standing.points[:0], np.zeros(0)
    z = statistics.NormalDist().inv_cdf(1 - error / np.count_nonzero(is_left))
    most = lead[is_left] + np.hypot(z * deviation[is_left], between[is_left])
    leads: F64 = 1 - np.exp(-np.maximum(most, 0.0))
    return standing.points[is_left], leads.round(6)


@dataclass(frozen=True, kw_only=True)
class UnseenLead:
    """The model's distribution of how much faster than the answer the fastest unseen point is."""

    leads: F64
    """A share in each draw from the model, descending; 0 if nothing unseen is faster."""

    def exceeded_with(self, risk: float) -> float:
        """The share that the lead exceeds with this probability at most."""
        return float(self.leads[int(risk * len(self.leads))])

    def find_risk(self, margin: float) -> float:
        """The probability that something unseen is faster than the answer by more than `margin`."""
        return float(np.mean(self.leads > margin))


def find_unseen_lead(
    standing: Standing, answer: int, expected: F64, smallest: F64, rng: np.random.Generator
) -> UnseenLead:
    """From the `smallest` log latency of any unseen point in each draw.

    `expected` [points] are the model's log latencies of the points that stand. The usual difference
    from their levels is the drift since the model's samples were taken. Each draw also has an error
    of the answer's level among theirs.
    """
    at = standing.points.tolist().index(answer)
    level = standing.level[at] + float(np.median(expected - standing.level))
    among = np.full(len(expected), -1 / len(expected))
    among[at] += 1
    error = math.sqrt(max(float(among @ standing.covariance @ among), 0.0))
    drawn = level + error * rng.standard_normal(len(smallest)) - smallest
    leads = np.sort(1 - np.exp(-np.maximum(drawn, 0.0)))[::-1]
    return UnseenLead(leads=leads.round(6))
