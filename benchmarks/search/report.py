"""The report, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.answers.measuring import show
from benchmarks.answers.verdicts import Goal
from benchmarks.race_verdict import ALL_RULES, mean_speeds, show_ratio, show_regret
from benchmarks.report import opening
from benchmarks.search.referee import Verdict
from benchmarks.search.verdicts import count_alike, quartiles

HALF_WIDTH = 0.0025
"""Half the width of the interval on the regret that is narrow enough."""


def summary(verdicts: Sequence[Verdict]) -> list[str]:
    """Markdown list: further figures."""
    races = [race for verdict in verdicts for race in verdict.races]
    firsts = [verdict.races[0] for verdict in verdicts]
    regrets = [verdict.regret for verdict in verdicts]
    narrow = sum((r.over_best.high - r.over_best.low) / 2 <= HALF_WIDTH for r in regrets)
    splits = [regret.split - 1 for regret in regrets]
    speeds = mean_speeds(verdicts)
    rules = ", ".join(f"×{rule} {speeds[f'up{rule}']:.4f}" for rule in ALL_RULES)
    moved = [v for v in verdicts if v.races[0].answer != v.dims]
    overlaps = 0
    for verdict in moved:
        ratio, (_, low, high) = verdict.measurement.ratios["answer"], verdict.races[0].claimed
        overlaps += low <= ratio.high and ratio.low <= high
    return [
        f"- First races, wall seconds: {quartiles([r.wall_s for r in firsts], '.2f')}.",
        f"- First races, measuring seconds: {quartiles([r.measuring_s for r in firsts], '.2f')}.",
        f"- All {len(races)} races, calls: {quartiles([r.num_calls for r in races], '.0f')}.",
        "- Seconds of calling each point once:"
        f" {quartiles([v.each_once_s for v in verdicts], '.2f')}.",
        f"- Regret with the best chosen on one half of the blocks and timed on the other:"
        f" median {np.median(splits):.2%}, 95th percentile {np.quantile(splits, 0.95):.2%}. (The"
        " regret above takes the best of the very blocks that time it, so it leans against"
        " the answers.)",
        f"- Intervals on the regret within ± {HALF_WIDTH:.2%}: {narrow} of {len(regrets)}.",
        f"- Answers that are the referee's best point:"
        f" {sum(regret.over_best.dims == regret.best for regret in regrets)} of {len(regrets)}.",
        f"- Moved away from the queried point: {len(moved)} of {len(verdicts)} answers; the"
        f" interval claimed overlaps the referee's in {overlaps}.",
        f"- Mean speed: answers {speeds['answer']:.4f}; rounding up to {rules}.",
    ]


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """A Markdown table: one line per query."""
    heads = ["query", "µs", "answer", "wall s", "measuring s", "calls", "of each once"]
    heads += ["autorange over it", "regret", "best", "over queried", "claimed"]
    heads += [*(f"×{rule}" for rule in ALL_RULES), "control", "alike", "rounds"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for verdict in verdicts:
        race, ratios, regret = verdict.races[0], verdict.measurement.ratios, verdict.regret
        alike, pairs = count_alike(verdict)
        cells = [
            show(verdict.dims),
            f"{verdict.measurement.latency_s * 1e6:.1f}",
            show(race.answer) if race.answer != verdict.dims else "same",
            f"{race.wall_s:.2f}",
            f"{race.measuring_s:.2f}",
            str(race.num_calls),
            f"{verdict.share_of_each_once:.2f}",
            f"{verdict.times_autorange:.0f}",
            show_regret(regret),
            show(regret.best) if regret.best != race.answer else "the answer",
            show_ratio(ratios["answer"]),
            "{:.4f} [{:.4f}, {:.4f}]".format(*race.claimed),
            *(f"{ratios[f'up{rule}'].speed:.3f}" for rule in ALL_RULES),
            f"{ratios['control'].estimate:.4f}",
            f"{alike} of {pairs}" if pairs else "—",
            str(verdict.measurement.num_rounds),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def build_report(
    *,
    header: Sequence[str],
    notes: Sequence[str],
    goals: Sequence[Goal],
    verdicts: Sequence[Verdict],
) -> str:
    """The whole report, Markdown."""
    lines = [
        *opening(header, notes, goals),
        "## Summary",
        "",
        *summary(verdicts),
        "",
        "## Queries",
        "",
        "Of a query's first race. *Regret*: how much longer the answer takes than the best point"
        " that the referee knows. *Over queried*: the answer's latency over the queried point's,"
        " by the referee; *claimed*: the best rival's over the queried point's, by the race. ×4"
        " and so on: speed of both dims rounded up to that multiple, above 1 is faster than the"
        " queried point. *Alike*: pairs of repeated races that agree. Intervals: 95 %.",
        "",
        *table(verdicts),
    ]
    return "\n".join(lines) + "\n"
