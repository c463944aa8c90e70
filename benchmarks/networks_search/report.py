"""The goals, whether the races met them, and the report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.answers.dims import show
from benchmarks.answers.verdicts import Goal
from benchmarks.contender import HOSTS
from benchmarks.networks_search.referee import SAMPLED, Verdict
from benchmarks.race_verdict import (
    ALL_RULES,
    judge_rules,
    judge_slowest,
    mean_speeds,
    show_ratio,
    show_regret,
)
from benchmarks.report import opening

SHARE_GOAL, REGRET_GOAL, CONTROL_GOAL = 0.05, 0.01, 0.01
BUDGET_SHARE = 0.048
"""What a race gets of the time of calling each point once, so that the batch under way when that
time is up may still end within SHARE_GOAL."""


def judge(verdicts: Sequence[Verdict], *, seed: int) -> list[Goal]:
    """The goals with what was measured, for each host, and of the referee's control."""
    goals = []
    for host in HOSTS:
        mine = [verdict for verdict in verdicts if verdict.host == host]
        if mine:
            found = _judge_host(mine, seed=seed)
            goals += [replace(goal, name=f"{host} host: {goal.name}") for goal in found]
    controls = [v.measurement.ratios["control"].estimate for v in verdicts]
    return [
        *goals,
        Goal(
            name="control: a second copy of the queried point over the first",
            wanted=f"1 ± {CONTROL_GOAL:.2f}, each",
            measured=f"{min(controls):.4f} to {max(controls):.4f}",
            met=all(abs(control - 1) <= CONTROL_GOAL for control in controls),
        ),
    ]


def _judge_host(verdicts: Sequence[Verdict], *, seed: int) -> list[Goal]:
    shares = [verdict.share for verdict in verdicts]
    regrets = [verdict.regret.excess for verdict in verdicts]
    p95 = float(np.quantile(regrets, 0.95))
    return [
        Goal(
            name="measuring time over that of calling each point once",
            wanted=f"≤ {SHARE_GOAL:.0%}, each",
            measured=f"median {np.median(shares):.2%}, largest {max(shares):.2%}",
            met=max(shares) <= SHARE_GOAL,
        ),
        Goal(
            name="regret (latency over the best known point's), 95th percentile",
            wanted=f"≤ {REGRET_GOAL:.0%}",
            measured=f"{p95:.2%} (median {np.median(regrets):.2%}, largest {max(regrets):.2%})",
            met=p95 <= REGRET_GOAL,
        ),
        judge_slowest(verdicts),
        judge_rules(verdicts, seed=seed),
    ]


def summary(verdicts: Sequence[Verdict]) -> list[str]:
    """Markdown list: further figures."""
    speeds = mean_speeds(verdicts)
    rules = ", ".join(f"×{rule} {speeds[f'up{rule}']:.4f}" for rule in ALL_RULES)
    splits = [verdict.regret.split - 1 for verdict in verdicts]
    moved = [v for v in verdicts if v.race.answer != v.dims]
    stays = [
        v.regret.over_best.estimate / v.measurement.ratios["answer"].estimate - 1 for v in verdicts
    ]
    return [
        f"- Regret with the best chosen on one half of the rounds and timed on the other: median"
        f" {np.median(splits):.2%}, largest {max(splits):.2%}. (The regret above takes the best"
        " of the very rounds that time it, so it leans against the answers.)",
        f"- Regret of staying at the queried point: median {np.median(stays):.2%}, largest"
        f" {max(stays):.2%}.",
        f"- Moved away from the queried point: {len(moved)} of {len(verdicts)} answers.",
        f"- Mean speed: answers {speeds['answer']:.4f}; rounding up to {rules}.",
    ]


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """A Markdown table: one line per query."""
    heads = [
        "query",
        "host",
        "ms",
        "answer",
        "calls",
        "discarded",
        "measuring s",
        "each once s",
        "share",
        "regret",
    ]
    heads += ["best", "over queried", "claimed", *(f"×{rule}" for rule in ALL_RULES)]
    heads += ["control", "rounds"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for verdict in verdicts:
        race, ratios, regret = verdict.race, verdict.measurement.ratios, verdict.regret
        each_once = verdict.each_once
        cells = [
            show(verdict.dims),
            verdict.host,
            f"{verdict.measurement.latency_s * 1e3:.1f}",
            show(race.answer) if race.answer != verdict.dims else "same",
            str(race.num_calls),
            str(race.num_discarded),
            f"{race.measuring_s:.2f}",
            f"{each_once.seconds:.1f} ± {1.96 * each_once.error_s:.1f}",
            f"{verdict.share:.2%}",
            show_regret(regret),
            show(regret.best) if regret.best != race.answer else "the answer",
            show_ratio(ratios["answer"]),
            "{:.4f} [{:.4f}, {:.4f}]".format(*race.claimed),
            *(f"{ratios[f'up{rule}'].speed:.3f}" for rule in ALL_RULES),
            f"{ratios['control'].estimate:.4f}",
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
        *(
            line
            for host in HOSTS
            if (mine := [verdict for verdict in verdicts if verdict.host == host])
            for line in (f"The {host} host:", "", *summary(mine), "")
        ),
        "## Queries",
        "",
        f"*Each once*: time of calling each point once, from {SAMPLED} random points called for"
        " the first time. *Discarded*: calls that were disturbed and made again, on top of the"
        " others. *Share*: the race's measuring time over it. *Regret*: how much longer"
        " the answer takes than the best of the points known: both races' last contestants, the"
        " queried point, the sampled points, and the rounded ones within the window. *Over"
        " queried*: the answer's latency over the queried point's, by the referee; *claimed*:"
        " the best rival's over the queried point's, by the race. ×4 and so on: speed of both"
        " dims rounded up to that multiple, above 1 is faster than the queried point."
        " Intervals: 95 %.",
        "",
        *table(verdicts),
        "",
        "## Stages of the races",
        "",
        *stage_lines(verdicts),
    ]
    return "\n".join(lines) + "\n"


def stage_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """Markdown list: the visits of each race by stage."""
    lines = []
    for verdict in verdicts:
        parts = [
            f"{stage.name} {'×'.join(map(str, stage.field_size))} →"
            f" {'×'.join(map(str, stage.kept_size))} ({stage.num_visits} visits)"
            for stage in verdict.race.stages
        ]
        lines.append(f"- {show(verdict.dims)}, {verdict.host} host: {'; '.join(parts)}.")
    return lines
