"""The report, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.answers.bounds import describe_bounds
from benchmarks.answers.calibration import judge_calibration, read_claim, read_claims
from benchmarks.answers.dims import RULES, round_up, show
from benchmarks.answers.service import Failure, Reply
from benchmarks.answers.simulated import Outcome, judge_noise
from benchmarks.answers.trials import Findings, Trial
from benchmarks.answers.verdicts import (
    Goal,
    compare_answers,
    find_regret,
    judge_agreement,
    judge_cold,
    judge_control,
    judge_preferences,
    judge_regret,
    judge_slower,
    show_ratio,
)

MARKS: Mapping[bool | None, str] = {True: "yes", False: "**no**", None: "—"}


def judge(findings: Findings) -> list[Goal]:
    """The goals with what was measured, of the parts that were run."""
    asked = findings.of("fastest")
    return [
        *judge_agreement(asked),
        *judge_regret(asked),
        *judge_slower(asked),
        *judge_calibration(read_claims(asked)),
        *judge_preferences(findings.of("nearest", "largest")),
        *judge_cold(asked),
        *judge_noise({k: [Outcome(**o) for o in v] for k, v in findings.noise.items()}),
        *judge_control(findings.trials),
    ]


def goal_table(goals: Sequence[Goal]) -> list[str]:
    """A Markdown table: one line per goal."""
    return [
        "| goal | wanted | measured | met |",
        "| --- | --- | --- | --- |",
        *(f"| {g.name} | {g.wanted} | {g.measured} | {MARKS[g.met]} |" for g in goals),
    ]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    lines = [list(heads), ["---"] * len(heads), *map(list, rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _show_answer(trial: Trial, reply: Reply | Failure) -> list[str]:
    """Cells: answer, wall seconds, measuring seconds, settled, margin."""
    if isinstance(reply, Failure):
        return [f"none: {reply.reason}", f"{reply.wall_s:.2f}", "—", "—", "—"]
    return [
        show(reply.answer) if reply.answer != trial.dims else "same",
        f"{reply.wall_s:.2f}" + ("" if reply.cold else " (warm)"),
        "—" if reply.measuring_s is None else f"{reply.measuring_s:.2f}",
        {True: "yes", False: "no", None: "—"}[reply.settled],
        "—" if reply.margin is None else f"{reply.margin:.2%}",
    ]


def table_of_queries(trials: Sequence[Trial]) -> list[str]:
    """A Markdown table: one line for each query asked of two services."""
    each = ["answer", "s", "measuring s", "settled", "margin"]
    heads = ["query", "µs", *(f"{h} {n}" for n in (1, 2) for h in each), "1 over 2", "agree"]
    heads += [f"{h} {n}" for n in (1, 2) for h in ("over asked", "claimed", "regret")]
    rows = []
    for trial in trials:
        row = [show(trial.dims)]
        row += [f"{trial.refereed.latency_s * 1e6:.1f}" if trial.measurement else "—"]
        for reply in trial.replies:
            row += _show_answer(trial, reply)
        pair = compare_answers(trial)
        row += ["—", "no"] if pair is None else [show_ratio(pair.ratio), MARKS[pair.agrees]]
        for reply in trial.replies:
            row += _show_verdict(trial, reply)
        rows.append(row)
    return table(heads, rows)


def _show_verdict(trial: Trial, reply: Reply | Failure) -> list[str]:
    """Cells: the answer over the queried point by the referee, as claimed, and its regret."""
    if isinstance(reply, Failure):
        return ["—"] * 3
    regret = find_regret(trial.refereed, trial.dims, reply.answer)
    if reply.answer == trial.dims:
        return ["1", "—", f"{regret.estimate - 1:.2%}"]
    low, high = reply.claimed_interval
    claimed = f"{1 / reply.claimed_speedup:.4f} [{1 / high:.4f}, {1 / low:.4f}]"
    if not read_claim(trial, reply).is_inside_without_error:
        claimed = f"**{claimed}**"
    measured = trial.refereed.ratio(reply.answer, trial.dims)
    return [show_ratio(measured), claimed, f"{regret.estimate - 1:.2%}"]


def table_of_preferences(trials: Sequence[Trial]) -> list[str]:
    """A Markdown table: one line for each query with a preference."""
    heads = ["query", "prefer", "answer", "s", "measuring s", "settled", "margin", "over asked"]
    rows = []
    for trial in trials:
        for reply in trial.replies:
            measured = "—"
            if isinstance(reply, Reply):
                measured = show_ratio(trial.refereed.ratio(reply.answer, trial.dims))
            rows.append([show(trial.dims), trial.prefer, *_show_answer(trial, reply), measured])
    return table(heads, rows)


def compare_rules(trials: Sequence[Trial]) -> list[str]:
    """Markdown list: mean speeds of the answers and of rounding up, over the queries."""
    asked = [trial for trial in trials if trial.answers]
    if not asked:
        return []
    speeds = np.mean(
        [
            [1 / t.refereed.ratio(round_up(t.dims, rule), t.dims).estimate for rule in RULES]
            for t in asked
        ],
        axis=0,
    )
    own = [
        1 / t.refereed.ratio(reply.answer, t.dims).estimate for t in asked for reply in t.answers
    ]
    rules = ", ".join(f"×{rule} {speed:.4f}" for rule, speed in zip(RULES, speeds, strict=True))
    moved = sum(reply.answer != t.dims for t in asked for reply in t.answers)
    return [
        f"- Mean speed (1: as fast as asked): answers {np.mean(own):.4f}; rounding up to {rules}.",
        f"- Answers other than the queried point: {moved} of {len(own)}.",
    ]


def build_report(findings: Findings, goals: Sequence[Goal], picture: str | None) -> str:
    """The whole report, Markdown. `picture` is the name of the calibration's file."""
    asked, preferences = findings.of("fastest"), findings.of("nearest", "largest")
    missed = [goal.name for goal in goals if goal.met is False]
    lines = [
        *findings.heading,
        *(f"- {note}" for note in findings.notes),
        "",
        "## Goals",
        "",
        *goal_table(goals),
        "",
        f"Missed: {'; '.join(missed)}." if missed else "None is missed.",
        "",
        "Intervals are 95 %: of shares exact (Clopper and Pearson), of ratios over the referee's"
        " processes (Student's t).",
        "",
    ]
    if findings.trials:
        lines += ["## What this machine's noise allows", "", *describe_bounds(findings.trials), ""]
        lines += ["## Beside rules of thumb", "", *compare_rules(asked), ""] if asked else []
    if picture:
        lines += ["## Calibration", "", f"![Published intervals, less the referee's]({picture})"]
        lines += [""]
    if asked:
        lines += [
            "## Queries",
            "",
            "*1* and *2*: the two services. *Over asked*: the answer's latency over the queried"
            " point's, by the referee; *claimed*: by the service, bold if the two don't agree,"
            " the referee's error taken out. *Regret*: how much longer the answer takes than the"
            " best point that the referee knows.",
            "",
            *table_of_queries(asked),
            "",
        ]
    if preferences:
        lines += ["## Preferences", "", *table_of_preferences(preferences), ""]
    return "\n".join(lines).rstrip() + "\n"
