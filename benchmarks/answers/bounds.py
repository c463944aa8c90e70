"""What the noise of a machine allows: the smallest margins that medians of pairs could state."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from benchmarks.answers.statistics import (
    NORMAL_95,
    between_processes,
    processes_needed,
    resolvable_margin,
)
from benchmarks.answers.trials import Trial
from benchmarks.answers.verdicts import ALIKE_WITHIN, compare_answers

CALLS_A_PAIR = 4
"""Two visits, each with an untimed and a timed call."""
WANTED_MARGIN = 0.01
"""The goal for the median margin."""


def find_tau(trials: Sequence[Trial]) -> float:
    """τ from all points that the referee compared with a queried point: see
    `between_processes`."""
    pairs = [(t.refereed, t.dims, point) for t in trials for point in t.refereed.points[2:]]
    return between_processes(
        [measured.values(point, dims) for measured, dims, point in pairs],
        [measured.noise(point, dims) for measured, dims, point in pairs],
    )


def least_margins(trials: Sequence[Trial], tau: float) -> list[float]:
    """For each answer, the smallest margin that its measuring time could have shown.

    Derived as if all of the time had been spent on one pair of points: `seconds / (4 · latency)`
    pairs, each with the noise of single calls of equal points, taken by as many processes as the
    answer names. A race compares more than two points, and so needs more.
    """
    return [
        resolvable_margin(
            spread=trial.refereed.spread,
            pairs=max(1.0, reply.measuring_s / (CALLS_A_PAIR * trial.refereed.latency_s)),
            tau=tau,
            children=reply.children,
        )
        for trial in trials
        for reply in trial.answers
        if reply.measuring_s
    ]


def window_margins(trials: Sequence[Trial]) -> list[tuple[float, bool]]:
    """For each answer of a race, the margin that even visits of its window give; is it settled?

    All visits that fit into the race's budget are spread evenly over the rows and the columns, of
    which a window of N points has √N: so n visits are n / √N of each. Two rows then differ by
    noise of σ √(√N / n), with σ for a pair of single calls. Nothing is taken to be known of rows
    and columns beforehand, and no time goes to contest and final.
    """
    found = []
    for trial in trials:
        for reply in trial.answers:
            evidence = reply.body.get("evidence", {})
            if not evidence.get("candidates") or not evidence.get("budget_s"):
                continue
            visits = evidence["budget_s"] / (CALLS_A_PAIR / 2 * trial.refereed.latency_s)
            error = trial.refereed.spread * math.sqrt(math.sqrt(evidence["candidates"]) / visits)
            found.append((math.expm1(NORMAL_95 * error), bool(reply.settled)))
    return found


def describe_bounds(trials: Sequence[Trial]) -> list[str]:
    """Markdown list: the noise of this machine by the referee, and what it allows."""
    refereed = [trial for trial in trials if trial.measurement is not None]
    if not refereed:
        return []
    tau = find_tau(refereed)
    spreads = [trial.refereed.spread for trial in refereed]
    lines = [
        f"- Noise of a pair of single calls of equal points, σ: median {np.median(spreads):.2%},"
        f" 95th percentile {np.quantile(spreads, 0.95):.2%}.",
        f"- From process to process, log ratios differ by τ = {tau:.2%} beyond that noise."
        f" One process can't state less than 1.96 τ = {1.96 * tau:.2%}, however long it measures."
        f" To show that two equal points are within 0.5 % with 90 % power,"
        f" (3.24 τ / 0.5 %)² = {processes_needed(margin=0.005, tau=tau)} processes are needed.",
    ]
    margins = least_margins(refereed, tau)
    if margins:
        lines.append(
            "- Smallest margin that the measuring time of each answer could have shown,"
            " 1.96 √(1.57 σ² / n + τ² / k), with n pairs if all of the time went to one pair, and k"
            f" processes: median {np.median(margins):.2%}, 95th percentile"
            f" {np.quantile(margins, 0.95):.2%}."
        )
    if windows := window_margins(refereed):
        below = [settled for margin, settled in windows if margin <= WANTED_MARGIN]
        above = [settled for margin, settled in windows if margin > WANTED_MARGIN]
        margins = [margin for margin, _ in windows]
        lines.append(
            "- A race must find the best of all rows and columns. If it spread the visits of its"
            " whole time evenly over the √N rows of a window of N points, it would know the fastest"
            f" row up to 1.96 σ √(√N / visits): median {np.median(margins):.2%}, 95th percentile"
            f" {np.quantile(margins, 0.95):.2%}. Where that is at most {WANTED_MARGIN:.0%},"
            f" {sum(below)} of {len(below)} answers are settled; of the others, {sum(above)} of"
            f" {len(above)}."
        )
    errors = [t.refereed.control().se for t in refereed]
    blurred = sum(abs(math.expm1(t.refereed.control().log)) > ALIKE_WITHIN for t in refereed)
    lines.append(
        f"- The referee's standard error of a ratio (control): median {np.median(errors):.2%}, 95th"
        f" percentile {np.quantile(errors, 0.95):.2%}. Two copies of the same point seem to differ"
        f" by more than 0.5 % in {blurred} of {len(refereed)} queries."
    )
    pairs = [pair for trial in refereed if (pair := compare_answers(trial))]
    if pairs:
        chances = [1 - _within(ALIKE_WITHIN, pair.ratio.se) for pair in pairs if pair.ratio.se]
        lines.append(
            "- If all answers of other dims were exactly as fast as each other, the referee's own"
            f" error would still put {sum(chances):.1f} of {len(pairs)} beyond 0.5 %."
        )
    return lines


def _within(bound: float, se: float) -> float:
    """Probability that a normal error stays within the bound."""
    return math.erf(bound / se / math.sqrt(2))
