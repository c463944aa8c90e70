"""How much log ratios of one pair differ from one measuring process to the next: τ.

Pure. Derivation: docs/explanation/facts.md, "What differs between processes".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from profiler_service.analysis.facts import ConfirmedPair


@dataclass(frozen=True, kw_only=True)
class RepeatabilitySettings:
    """What is known of τ before a host has repeated anything."""

    prior_tau: float = 0.004
    """A standard deviation. Measured with float32 products on a two-core virtual machine."""
    prior_repeats: float = 4.0
    """The prior counts as much as so many repeated pairs without noise."""
    least_tau: float = 0.0005
    """Processes are never taken to be more alike than that."""
    most_tau: float = 0.02
    """One repeated pair counts for no more than that: its host has changed in between."""


REPEATABILITY: Final = RepeatabilitySettings()


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """Two confirmations of the same pair, by different races."""

    earlier: ConfirmedPair
    later: ConfirmedPair
    earlier_tau: float | None
    """The τ that the interval of `earlier` includes; None: that of the settings."""
    later_tau: float | None


def estimate_tau(
    repeats: Sequence[Repeat], settings: RepeatabilitySettings = REPEATABILITY
) -> float:
    """τ, from repeated pairs and the prior; the prior alone if there are none.

    By the method of moments: the squared difference d² of two log ratios has the expectation
    n + c · τ². n is the noise of both: what their intervals have beyond τ. c is 1/k + 1/k', with k
    and k' the numbers of processes or arenas. Each repeat gives (d² - n) / c, with a weight that
    falls with its noise, as the variance of d² grows with (n + c · τ²)².
    """
    prior = settings.prior_tau**2
    weighted, weights = settings.prior_repeats * prior, settings.prior_repeats
    for repeat in repeats:
        pairs = ((repeat.earlier, repeat.earlier_tau), (repeat.later, repeat.later_tau))
        noise = sum(_noise(pair, settings.prior_tau if tau is None else tau) for pair, tau in pairs)
        units = sum(1 / pair.num_units for pair, _ in pairs)
        difference = math.log(repeat.later.ratio / repeat.earlier.ratio)
        weight = (units * prior / (noise + units * prior)) ** 2
        weighted += weight * min((difference**2 - noise) / units, settings.most_tau**2)
        weights += weight
    return math.sqrt(max(weighted / weights, settings.least_tau**2))


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


def _noise(pair: ConfirmedPair, tau: float) -> float:
    """Variance of the log ratio without what differs between processes."""
    return max(pair.log_sd**2 - tau**2 / pair.num_units, 0.0)
