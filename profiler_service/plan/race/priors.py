"""What is expected of the effects of an axis' positions before a race has samples.

numpy only. Derivation: docs/explanation/races.md, "The model".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64
from profiler_service.plan.race.prior_settings import PriorSettings
from profiler_service.plan.race.settings import RACE


def find_alignments(
    dims: npt.NDArray[np.integer], multiples: Sequence[int] = RACE.prior.classes
) -> npt.NDArray[np.int64]:
    """The largest of the multiples that divides each of the dims, or 1: [n]. They are ascending."""
    found: npt.NDArray[np.int64] = np.ones(len(dims), dtype=np.int64)
    for multiple in multiples:
        found[dims % multiple == 0] = multiple
    return found


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
        is_aligned = dims % multiple == 0
        covariance += settings.alignment_spread**2 * np.logical_and.outer(is_aligned, is_aligned)
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


def learned_prior(
    dims: npt.NDArray[np.integer],
    effects: F64,
    spread: float,
    settings: PriorSettings = RACE.prior,
    *,
    holds: bool = True,
) -> tuple[F64, F64]:
    """`position_prior` with the effects [n] that the host's model has learned.

    The window is expected to show them, growth included, ± all of what is beyond growth: it may
    show nothing of them. What a position, a block or an alignment may have of its own is this
    share, `spread`, of what it is without a model. If the model doesn't hold, the same without what
    is beyond growth.
    """
    smaller = replace(
        settings,
        growth_spread=spread * settings.growth_spread,
        class_spread=settings.learned_class * settings.class_spread,
        alignment_spread=spread * settings.alignment_spread,
        block_spread=spread * settings.block_spread,
        own_spread=spread * settings.own_spread,
    )
    _, covariance = position_prior(dims, smaller)
    log: F64 = np.log(dims.astype(np.float64))
    trend = np.polynomial.Polynomial.fit(log, effects, 1)(log) if len(dims) > 1 else effects
    if not holds:
        return trend - trend.mean(), covariance
    beyond = effects - trend
    mean = trend - trend.mean() + settings.learned_share * beyond
    return mean, covariance + settings.learned_doubt**2 * np.outer(beyond, beyond)
