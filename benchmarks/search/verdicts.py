"""The goals, and whether the races met them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from benchmarks.answers.verdicts import Goal
from benchmarks.race_verdict import judge_rules, judge_slowest
from benchmarks.search.referee import Verdict

MEDIAN_REGRET_GOAL, P95_REGRET_GOAL = 0.003, 0.01
AUTORANGE_GOAL = 500
"""How many times as fast as PyTorch's timer a race must be."""
ALIKE_GOAL, ALIKE_WITHIN = 0.95, 0.005
CONTROL_GOAL = 0.005


def count_alike(verdict: Verdict) -> tuple[int, int]:
    """How many pairs of races of one query agree, and how many pairs there are.

    They agree if their dims are equal, or their latencies within ALIKE_WITHIN by the referee.
    """
    names = ["answer", *(f"again{n}" for n in range(1, len(verdict.races)))]
    blocks = [np.array(verdict.measurement.blocks[name]) for name in names]
    pairs = list(itertools.combinations(blocks, 2))
    # Equal dims share one measurement: their difference is zero.
    alike = sum(abs(np.expm1(np.median(one - other))) <= ALIKE_WITHIN for one, other in pairs)
    return int(alike), len(pairs)


def quartiles(values: Sequence[float], form: str) -> str:
    """Median, quartiles and extremes, as text."""
    low, first, median, third, high = (
        format(float(value), form) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    )
    return f"median {median} (quartiles {first} to {third}, all {low} to {high})"


def judge(verdicts: Sequence[Verdict], *, seed: int) -> list[Goal]:
    """The goals with what was measured."""
    regrets = [verdict.regret.excess for verdict in verdicts]
    median, p95 = float(np.median(regrets)), float(np.quantile(regrets, 0.95))
    times = [verdict.times_autorange for verdict in verdicts]
    shares = [verdict.share_of_each_once for verdict in verdicts]
    return [
        Goal(
            name="regret (latency over the best point's), median",
            wanted=f"≤ {MEDIAN_REGRET_GOAL:.1%}",
            measured=f"{median:.2%}",
            met=median <= MEDIAN_REGRET_GOAL,
        ),
        Goal(
            name="regret, 95th percentile",
            wanted=f"≤ {P95_REGRET_GOAL:.0%}",
            measured=f"{p95:.2%} (largest {max(regrets):.2%})",
            met=p95 <= P95_REGRET_GOAL,
        ),
        judge_slowest(verdicts),
        Goal(
            name="`blocked_autorange` on every point, times the measuring time",
            wanted=f"≥ {AUTORANGE_GOAL}, each",
            measured=quartiles(times, ".0f"),
            met=min(times) >= AUTORANGE_GOAL,
        ),
        Goal(
            name="measuring time over that of calling each point once, median",
            wanted="< 1 (aim: 0.25)",
            measured=f"{quartiles(shares, '.2f')};"
            f" below 1: {sum(share < 1 for share in shares)} of {len(shares)}",
            met=float(np.median(shares)) < 1,
        ),
        judge_rules(verdicts, seed=seed),
        judge_repeatability(verdicts),
        judge_control(verdicts),
    ]


def judge_repeatability(verdicts: Sequence[Verdict]) -> Goal:
    """Whether races of one query from scratch agree."""
    counts = [count_alike(verdict) for verdict in verdicts]
    alike, pairs = sum(a for a, _ in counts), sum(p for _, p in counts)
    queries = sum(p > 0 for _, p in counts)
    return Goal(
        name=f"repeated races with equal dims, or latencies within {ALIKE_WITHIN:.1%}",
        wanted=f"≥ {ALIKE_GOAL:.0%} of pairs",
        measured=f"{alike / pairs:.1%} ({alike} of {pairs} pairs, {queries} queries)"
        if pairs
        else "not checked: nothing was repeated",
        met=alike >= ALIKE_GOAL * pairs if pairs else None,
    )


def judge_control(verdicts: Sequence[Verdict]) -> Goal:
    """Whether the referee's own error is small enough to judge with."""
    controls = [v.measurement.ratios["control"].estimate for v in verdicts]
    return Goal(
        name="control: a second copy of the queried point over the first",
        wanted=f"1 ± {CONTROL_GOAL:.3f}, each",
        measured=quartiles(controls, ".4f"),
        met=all(abs(control - 1) <= CONTROL_GOAL for control in controls),
    )
