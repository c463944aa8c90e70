"""How much ratios differ between the processes and arenas of a race, and the margin from that.

Pure. Derivation: docs/explanation/races.md.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace

from profiler_service.plan.race.settings import SettleSettings

_ERROR = 0.025
"""Of each end of an interval for what differs between processes and arenas."""


@dataclass(frozen=True, kw_only=True)
class Repeatability:
    """How much the log of a ratio differs beyond noise: standard deviations."""

    children: float
    """Between measuring processes."""
    arenas: float
    """Between arenas of one process, as expected before anything is measured."""
    least: float = 0.0
    """Neither is taken to be smaller than this."""

    def half_width(self, num_children: float, num_arenas: float, *, chosen_from: int = 1) -> float:
        """Half of the 95 % interval, in log, of the mean over so many of both.

        The best of many points owes that in part to what the processes and arenas have of their own
        that found it the best. If they judge it, too, the interval must hold for all of the
        `chosen_from` points that the choice was made from (Bonferroni).
        """
        z = statistics.NormalDist().inv_cdf(1 - _ERROR / chosen_from)
        return z * math.hypot(
            self.children / math.sqrt(num_children), self.arenas / math.sqrt(num_arenas)
        )

    def at_least(self, expected: Repeatability) -> Repeatability:
        """The same, but no less than `expected` between processes."""
        return replace(self, children=max(self.children, expected.children))


def expect_repeatability(
    settings: SettleSettings, *, tau: float | None, is_compiled: bool
) -> Repeatability:
    """What is expected here, if `tau` is what the host has learned about its processes."""
    least = settings.compiled_tau if is_compiled else 0.0
    children = settings.tau if tau is None else tau
    return Repeatability(
        children=max(children, least), arenas=max(settings.tau_of_arenas, least), least=least
    )


def choose_margin(
    settings: SettleSettings,
    repeatability: Repeatability,
    asked: float | None,
    *,
    chosen_from: int,
) -> float:
    """The margin to aim at: the caller's, or what this host can resolve with two processes."""
    if asked is not None:
        return asked
    least = repeatability.half_width(2, settings.least_arenas, chosen_from=chosen_from)
    return max(settings.least_margin, settings.resolved_at * (1 - math.exp(-least)))
