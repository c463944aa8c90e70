"""How much faster than the answer anything else in the window may be.

numpy only. The finalists have bounds of their own (`settle`). Here are those of the points that
left the contest, which their own visits bound, and of those that were never compared, of which only
the model says something.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np

from profiler_service.analysis.comparison import F64
from profiler_service.plan.race.seen import Standing


@dataclass(frozen=True, kw_only=True)
class Level:
    """The log latency of the answer, and its standard error."""

    log_latency: float
    error: float

    @classmethod
    def of(cls, standing: Standing, point: int) -> Level:
        """The level of one of the points that stand."""
        number = standing.points.tolist().index(point)
        return cls(log_latency=float(standing.level[number]), error=float(standing.error[number]))


def bound_leads(answer: Level, others: Standing, *, error: float, between: float) -> F64:
    """By how much each of the other points may be faster than the answer: shares, 0 if surely not.

    All bounds hold together, but for a probability of `error` (Bonferroni). `between` is half the
    width, in log, of an interval for what differs between processes.
    """
    if not len(others.points):
        return np.zeros(0)
    z = statistics.NormalDist().inv_cdf(1 - error / len(others.points))
    doubt = np.hypot(z * np.hypot(others.error, answer.error), between)
    leads: F64 = 1 - np.exp(-np.maximum(answer.log_latency - others.level + doubt, 0.0))
    return leads.round(6)


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
    answer: Level, standing: Standing, predicted: F64, smallest: F64
) -> UnseenLead:
    """From the `smallest` log latency of any unseen point in each draw, ascending.

    `predicted` [points] are the model's log latencies of the points that stand. Their own visits
    were made later than the model's, so the usual difference between the two is the drift since.
    """
    level = answer.log_latency + float(np.median(predicted - standing.level))
    leads = 1 - np.exp(-np.maximum(level - smallest, 0.0))
    return UnseenLead(leads=leads.round(6))
