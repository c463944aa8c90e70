"""How far a race's own samples support each of several priors, and the average of what they say.

numpy only. Knows no window: priors are normal distributions of effects, and the samples' part is
given as normal equations. Derivation: docs/explanation/races.md, "Is the model right?".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiler_service.analysis.comparison import F64


@dataclass(frozen=True, kw_only=True, eq=False)
class Prior:
    """A normal distribution of all effects, one axis after the other."""

    mean: F64
    precision: F64
    """Inverse covariance."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Belief:
    """What is known of the effects after the samples."""

    mean: F64
    precision: F64
    """Inverse covariance."""
    log_evidence: float
    """Logarithm of the samples' density by the prior, up to a term that all priors share."""


def update(prior: Prior, known: F64, right: F64) -> Belief:
    """The prior after samples whose log density is -½ e' `known` e + e' `right` + anything.

    e are the effects; `known` may be singular. The density of the samples by the prior is the
    integral of both densities over e. With normal distributions, its logarithm is
    -½ log det(1 + K known) + ½ (b' P⁻¹ b - m' K⁻¹ m), with the prior's mean m and covariance K,
    P = K⁻¹ + known and b = K⁻¹ m + right.
    """
    precision = prior.precision + known
    # From the mean on, all terms are small: the difference of two large ones would be inexact.
    moved = right - known @ prior.mean
    step: F64 = np.asarray(np.linalg.solve(precision, moved), dtype=np.float64)
    spread = np.linalg.slogdet(precision)[1] - np.linalg.slogdet(prior.precision)[1]
    at_mean = float(right @ prior.mean - prior.mean @ known @ prior.mean / 2)
    return Belief(
        mean=prior.mean + step,
        precision=precision,
        log_evidence=at_mean + float(moved @ step - spread) / 2,
    )


def find_shares(beliefs: Sequence[Belief]) -> F64:
    """The probability [beliefs] of each prior after the samples, if all were equally likely."""
    log = np.array([belief.log_evidence for belief in beliefs])
    weight = np.exp(log - log.max())
    # Rounded, so that the last bits of a sum can't change a replay.
    rounded = (weight / weight.sum()).round(4)
    shares: F64 = rounded / rounded.sum()
    return shares


def weigh(beliefs: Sequence[Belief], others: Sequence[Belief], odds: float) -> float:
    """The probability of the first priors after the samples, against the others.

    Before the samples, it was `odds` to 1, and priors of one kind were equally likely.
    """
    shares = find_shares([*beliefs, *others])
    mine, theirs = odds * float(shares[: len(beliefs)].sum()), float(shares[len(beliefs) :].sum())
    return round(mine / (mine + theirs), 4)


def average(beliefs: Sequence[Belief], shares: F64) -> tuple[F64, F64]:
    """Mean and precision of the effects over all beliefs: the moments of their mixture."""
    mean: F64 = np.sum([s * each.mean for s, each in zip(shares, beliefs, strict=True)], axis=0)
    covariance = np.zeros_like(beliefs[0].precision)
    for share, each in zip(shares, beliefs, strict=True):
        if share > 0:
            off = each.mean - mean
            covariance += share * (np.linalg.inv(each.precision) + np.outer(off, off))
    precision: F64 = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
    return mean, (precision + precision.T) / 2
