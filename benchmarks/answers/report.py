"""The report, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.answers.measuring import EXTRA_RULES, RULES, show
from benchmarks.answers.service import Failure
from benchmarks.answers.verdicts import Goal, Trial, mean_speeds


def table_of_trials(trials: Sequence[Trial]) -> list[str]:
    """A Markdown table: one line per query, speeds relative to the queried point."""
    rules = [f"up{rule}" for rule in (*RULES, *EXTRA_RULES)]
    heads = ["query", "µs", "answer", "answered in", "claimed speed", "measured speed"]
    heads += [f"×{rule[2:]}" for rule in rules] + ["control", "rounds"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for trial in trials:
        ratios, reply = trial.measurement.ratios, trial.reply
        answer = ratios["answer"]
        took = claimed = "—"
        if reply is not None:
            took = f"{reply.wall_s:.1f} s" + ("" if reply.cold else " (warm)")
            low, high = reply.claimed_interval
            claimed = f"{reply.claimed_speedup:.3f} [{low:.3f}, {high:.3f}]"
        cells = [
            show(trial.dims) + ("" if trial.random else " (fresh)"),
            f"{trial.measurement.latency_s * 1e6:.1f}",
            show(trial.answer) if trial.answer != trial.dims else "same",
            took,
            claimed,
            f"{answer.speed:.3f} [{1 / answer.high:.3f}, {1 / answer.low:.3f}]",
            *(f"{ratios[rule].speed:.3f}" for rule in rules),
            f"{ratios['control'].speed:.4f}",
            str(trial.measurement.num_rounds),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def summary(trials: Sequence[Trial], failures: Sequence[Failure]) -> list[str]:
    """Markdown list: mean speeds, query times, moves, coverage of the claimed intervals."""
    lines = [f"- No answer to {show(f.dims)} ({f.wall_s:.1f} s): {f.reason}" for f in failures]
    counted = [t for t in trials if t.random]
    if not counted:
        return lines
    speeds = mean_speeds(counted)
    named = ", ".join(f"×{rule} {speeds[f'up{rule}']:.4f}" for rule in (*RULES, *EXTRA_RULES))
    lines.append(f"- Mean speed: answers {speeds['answer']:.4f}; rounding up to {named}.")
    moved = [t for t in counted if t.answer != t.dims]
    lines.append(f"- Moved away from the queried point: {len(moved)} of {len(counted)} answers.")
    above = sum(t.measurement.ratios["answer"].low > 1 for t in moved)
    lines.append(f"- Moved answers whose interval lies wholly on the slower side: {above}.")
    holds = sum(
        t.measurement.ratios["control"].low <= 1 <= t.measurement.ratios["control"].high
        for t in trials
    )
    lines.append(f"- Control intervals that contain 1: {holds} of {len(trials)}.")
    replies = [t.reply for t in counted if t.reply is not None]
    cold = [reply.wall_s for reply in replies if reply.cold]
    if cold:
        lines.append(
            f"- Cold queries: {len(cold)} of {len(replies)}, median {np.median(cold):.1f} s,"
            f" longest {max(cold):.1f} s."
        )
    claims = [(t.reply, t.measurement.ratios["answer"]) for t in moved if t.reply is not None]
    if claims:
        points = overlaps = 0
        for reply, ratio in claims:
            low, high = reply.claimed_interval
            points += low <= ratio.speed <= high
            overlaps += low <= 1 / ratio.low and 1 / ratio.high <= high
        lines.append(
            f"- Claimed 95 % intervals of moved answers: {points} of {len(claims)} contain the"
            f" referee's estimate, {overlaps} overlap its interval."
        )
    return lines


def goal_table(goals: Sequence[Goal]) -> list[str]:
    """A Markdown table: one line per goal."""
    marks = {True: "yes", False: "**no**", None: "—"}
    return [
        "| goal | wanted | measured | met |",
        "| --- | --- | --- | --- |",
        *(f"| {g.name} | {g.wanted} | {g.measured} | {marks[g.met]} |" for g in goals),
    ]


def build_report(
    *,
    command: str,
    commit: str,
    machine: Mapping[str, str],
    notes: Sequence[str],
    goals: Sequence[Goal],
    trials: Sequence[Trial],
    failures: Sequence[Failure],
    date: str,
) -> str:
    """The whole report, Markdown."""
    lines = [
        f"# Answers, refereed: {date}",
        "",
        f"    {command}",
        "",
        f"- commit: {commit}",
        *(f"- {name}: {value}" for name, value in machine.items()),
        *(f"- {note}" for note in notes),
        "",
        "## Goals",
        "",
        *goal_table(goals),
        "",
        "## Summary",
        "",
        *summary(trials, failures),
        "",
        "## Queries",
        "",
        "Speeds are the queried point's latency over the candidate's: above 1 is faster. ×4 and"
        " so on: both dims rounded up to that multiple. Intervals: 95 %.",
        "",
        *table_of_trials(trials),
    ]
    return "\n".join(lines) + "\n"
