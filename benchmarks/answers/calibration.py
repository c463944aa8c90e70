"""Whether the published intervals are right: each with the referee's estimate of the same ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.answers.service import Reply
from benchmarks.answers.statistics import NORMAL_95, student_95
from benchmarks.answers.trials import Trial
from benchmarks.answers.verdicts import Goal, show_share

INSIDE_GOAL = 0.93
INSIDE, OUTSIDE, REFEREE = "#0067a8", "#d1478c", "#828a98"
SHOWN = 0.05
"""Differences are drawn up to this, log ratio."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A published interval and the referee's estimate of the same ratio, both as log speedups."""

    low: float
    high: float
    estimate: float
    refereed: float
    referee_se: float
    processes: int

    @property
    def is_inside(self) -> bool:
        """Whether the interval holds the referee's estimate, as it is."""
        return self.low <= self.refereed <= self.high

    @property
    def claimed_se(self) -> float:
        """Standard error that the interval claims, on the side where the referee's estimate is."""
        side = self.high - self.estimate
        if self.refereed < self.estimate:
            side = self.estimate - self.low
        return max(side, 0.0) / NORMAL_95

    @property
    def is_inside_without_error(self) -> bool:
        """The same with the referee's own error taken out.

        The difference is compared with the error of a difference: both standard errors together,
        with Welch's degrees of freedom. (The claim counts as exactly known; so if claims were
        right, 95 % would be inside, however large the referee's error is.)
        """
        difference = abs(self.estimate - self.refereed)
        variance = self.claimed_se**2 + self.referee_se**2
        if self.referee_se == 0:
            return difference <= NORMAL_95 * self.claimed_se
        degrees = (self.processes - 1) * (variance / self.referee_se**2) ** 2
        return difference <= student_95(degrees) * math.sqrt(variance)


def read_claim(trial: Trial, reply: Reply) -> Claim:
    """The claim about an answer that isn't the queried point itself."""
    ratio = trial.refereed.ratio(trial.dims, reply.answer)
    low, high = reply.claimed_interval
    return Claim(
        low=math.log(low),
        high=math.log(high),
        estimate=math.log(reply.claimed_speedup),
        refereed=ratio.log,
        referee_se=ratio.se,
        processes=ratio.processes,
    )


def read_claims(trials: Sequence[Trial]) -> list[Claim]:
    """The claims of all answers but those that are the queried point."""
    return [
        read_claim(trial, reply)
        for trial in trials
        for reply in trial.answers
        if reply.answer != trial.dims
    ]


def judge_calibration(claims: Sequence[Claim]) -> list[Goal]:
    """Whether the published intervals hold what the referee finds."""
    if not claims:
        return []
    raw = sum(claim.is_inside for claim in claims)
    fair = sum(claim.is_inside_without_error for claim in claims)
    off, claimed, own = (
        math.sqrt(float(np.mean(np.square(values))))
        for values in (
            [claim.estimate - claim.refereed for claim in claims],
            [claim.claimed_se for claim in claims],
            [claim.referee_se for claim in claims],
        )
    )
    return [
        Goal(
            name="published 95 % intervals that hold the referee's estimate, its own error taken"
            " out",
            wanted=f"≥ {INSIDE_GOAL:.0%}",
            measured=f"{show_share(fair, len(claims))}; with its error left in"
            f" {show_share(raw, len(claims))}; root mean square of the differences {off:.2%}, of"
            f" the standard errors claimed {claimed:.2%}, of the referee's {own:.2%}",
            met=fair >= INSIDE_GOAL * len(claims),
        )
    ]


# --- Picture --------------------------------------------------------------------------------


def draw(claims: Sequence[Claim], path: Path) -> None:
    """Draws each claimed interval beside the referee's estimate, the narrowest first."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ranked = sorted(claims, key=lambda claim: claim.high - claim.low)
    place = np.arange(len(ranked))
    own = np.array([student_95(c.processes - 1) * c.referee_se for c in ranked])
    estimate, low, high = (
        np.array([getattr(claim, name) - claim.refereed for claim in ranked])
        for name in ("estimate", "low", "high")
    )
    is_inside = np.array([claim.is_inside_without_error for claim in ranked])
    figure = Figure(figsize=(10, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.fill_between(
        place,
        -100 * own,
        100 * own,
        step="mid",
        color=REFEREE,
        alpha=0.3,
        linewidth=0,
        label="the referee's own 95 % interval",
    )
    for chosen, colour, label in (
        (is_inside, INSIDE, "agrees with the referee"),
        (~is_inside, OUTSIDE, "doesn't, even with the referee's error taken out"),
    ):
        axes.vlines(place[chosen], 100 * low[chosen], 100 * high[chosen], color=colour)
        axes.plot(
            place[chosen],
            100 * estimate[chosen],
            ".",
            color=colour,
            label=f"{label}: {int(chosen.sum())}",
        )
    axes.axhline(0, color="#111111", linewidth=1)
    reach = 100 * min(SHOWN, float(np.max(np.abs([low, high]))) * 1.05)
    axes.set(
        title="Published 95 % intervals on the speed-up, less the referee's estimate",
        xlabel="answers, the narrowest interval first",
        ylabel="difference, %",
        ylim=(-reach, reach),
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)
