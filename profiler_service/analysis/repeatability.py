"""How much log ratios of one pair differ from one measuring process to the next: τ.

numpy only. Derivation: docs/explanation/facts.md, "What differs between processes".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.facts import Confirmation, ConfirmedPair


@dataclass(frozen=True, kw_only=True)
class RepeatabilitySettings:
    """What is known of τ before a host has repeated anything."""

    prior_tau: float = 0.0025
    """A standard deviation. Measured with float32 products on a two-core virtual machine: ten
    points in each of twelve windows, in four processes; single windows had 0.1 to 0.6 %."""
    prior_repeats: float = 4.0
    """The prior counts as much as so many repeated pairs without noise."""
    least_tau: float = 0.0005
    """Processes are never taken to be more alike than that."""
    most_tau: float = 0.02
    """One repeated pair counts for no more than that: its host has changed in between."""


REPEATABILITY: Final = RepeatabilitySettings()


Repeat = tuple[Confirmation, Confirmation]
"""Two confirmations of the same pair, by different workers."""


def estimate_tau(
    repeats: Sequence[Repeat],
    *,
    between_arenas: float | None = None,
    settings: RepeatabilitySettings = REPEATABILITY,
) -> float:
    """τ, from repeated pairs and the prior; the prior alone if there are none.

    By the method of moments: the squared difference d² of two log ratios has the expectation
    n + c · τ². n is the noise of both, and what differs between their arenas: `between_arenas`, a
    standard deviation (None: the prior). c is 1/k + 1/k', with k and k' the numbers of processes.
    Each repeat gives (d² - n) / c, with a weight that falls with n, as the variance of d² grows
    with (n + c · τ²)².
    """
    prior = settings.prior_tau**2
    arenas = prior if between_arenas is None else between_arenas**2
    weighted, weights = settings.prior_repeats * prior, settings.prior_repeats
    for repeat in repeats:
        noise = sum(_find_noise(each, arenas) + arenas / each.pair.num_arenas for each in repeat)
        units = sum(1 / each.pair.num_children for each in repeat)
        difference = math.log(repeat[1].pair.ratio / repeat[0].pair.ratio)
        weight = (units * prior / (noise + units * prior)) ** 2
        weighted += weight * min((difference**2 - noise) / units, settings.most_tau**2)
        weights += weight
    return math.sqrt(max(weighted / weights, settings.least_tau**2))


@dataclass(frozen=True, kw_only=True, eq=False)
class ChildLevels:
    """What several measuring processes say of the same points."""

    level: F64
    """[processes, points] Log latencies, of which only differences within a process are meant."""
    covariance: F64
    """[processes, points, points] Their errors, but for what a process has of its own."""


def estimate_tau_within(groups: Sequence[ChildLevels], *, expected: float, weight: float) -> float:
    """τ, from what several processes of one race say of the same points, and what is expected.

    That is a standard deviation, which counts like `weight` differences without noise. With it for
    weights, a quadratic form of the differences between processes is unbiased for τ² (MINQUE: Rao,
    1971). Samples of much noise tell little, and leave τ as expected.
    """
    share = expected**2 / 2  # a ratio's variance has one such share for each of its points
    known = weight / share**2
    told, information = known * share, known
    for group in groups:
        num_processes, num_points = group.level.shape
        identity = np.eye(num_points)
        center = identity - 1 / num_points
        noise = np.stack([center @ each @ center for each in group.covariance])
        for number in range(1, num_processes):
            # Helmert's contrasts: each process with the mean of those before it.
            contrast = np.zeros(num_processes)
            contrast[:number], contrast[number] = 1.0, -number
            contrast /= math.sqrt(number * (number + 1))
            error: F64 = np.tensordot(contrast**2, noise, axes=1)
            inverse = np.linalg.inv(error + share * identity)
            total = inverse.sum(axis=1)
            root = inverse - np.outer(total, total) / total.sum()
            difference = root @ (contrast @ group.level)
            square = root @ root
            told += float(difference @ difference - np.sum(square * error))
            information += float(np.trace(square))
    return round(math.sqrt(max(2 * told / information, REPEATABILITY.least_tau**2)), 9)


def average_between_arenas(pairs: Sequence[ConfirmedPair]) -> float | None:
    """τ between the arenas of one confirmation, a standard deviation; None if no pair had several.

    The mean of `between_arenas`, weighted by degrees of freedom; 0 if that is negative.
    """
    found = [
        (pair.num_arenas - 1, pair.between_arenas)
        for pair in pairs
        if pair.between_arenas is not None and pair.num_arenas > 1
    ]
    if not found:
        return None
    mean = sum(freedom * value for freedom, value in found) / sum(freedom for freedom, _ in found)
    return math.sqrt(max(mean, 0.0))


def _find_noise(confirmation: Confirmation, arenas: float) -> float:
    """Variance of the log ratio from noise alone; from the interval if it wasn't kept."""
    pair = confirmation.pair
    if pair.noise is not None:
        return pair.noise**2
    between = confirmation.tau**2 / pair.num_children + arenas / pair.num_arenas
    return max(pair.log_sd**2 - between, 0.0)
