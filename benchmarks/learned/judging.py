"""The goals of a host that learns, and whether the measurements meet them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.answers.dims import RULES, Dims, round_up, show
from benchmarks.answers.service import Reply
from benchmarks.answers.statistics import F64, student_95
from benchmarks.answers.verdicts import SLOWER, Goal, find_regret, show_ratio, show_share
from benchmarks.learned.trials import LearnedTrial

SHARE_GOAL, REGRET_GOAL, COVERED_GOAL, TIME_GOAL = 0.75, 0.005, 0.9, 0.5
BEST_WITHIN, FIRST_BYTE_GOAL_S = 0.003, 0.005

Choose = Callable[[LearnedTrial], Dims]


def judge(
    trials: Sequence[LearnedTrial], first_byte_s: Sequence[tuple[float, float]]
) -> list[Goal]:
    """The goals with what was measured."""
    if not trials:
        return []
    return [
        _judge_predicted_gain(trials),
        _judge_above_rule(trials),
        _judge_coverage(trials),
        _judge_first_byte(first_byte_s),
        _judge_regret(trials),
        _judge_time(trials),
        _judge_gain(trials),
        _judge_slower(trials, "measured answers", lambda trial: trial.learned.answer),
        _judge_slower(trials, "predicted answers", lambda trial: trial.predicted.answer),
    ]


def find_gains(trials: Sequence[LearnedTrial], choose: Choose) -> F64:
    """The log ratios [trials] of what is chosen to the queried point: below 0 is faster."""
    return np.array([t.measurement.ratio(choose(t), t.dims).log for t in trials])


def show_mean(values: F64) -> str:
    """The mean gain of log ratios with its 95 % interval over queries, as text."""
    mean, half = _mean(values)
    return f"{mean:.2%} [{mean - half:.2%}, {mean + half:.2%}]"


def _mean(values: F64) -> tuple[float, float]:
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return float(values.mean()), student_95(max(len(values) - 1, 1)) * error


def find_best_rule(trials: Sequence[LearnedTrial]) -> int:
    """The rule of thumb with the largest mean gain."""
    return min(RULES, key=lambda rule: float(find_gains(trials, _by_rule(rule)).mean()))


def _by_rule(rule: int) -> Choose:
    return lambda trial: round_up(trial.dims, rule)


def _predicted(trial: LearnedTrial) -> Dims:
    return trial.predicted.answer


def _learned(trial: LearnedTrial) -> Dims:
    return trial.learned.answer


def _judge_predicted_gain(trials: Sequence[LearnedTrial]) -> Goal:
    predicted, measured = find_gains(trials, _predicted), find_gains(trials, _learned)
    candidate = find_gains(trials, lambda trial: trial.predicted.candidate)
    share = float(predicted.mean() / measured.mean())
    return Goal(
        name="predicted: mean change of latency, beside the measured answers'",
        wanted=f"≥ {SHARE_GOAL:.0%} of it",
        measured=f"{show_mean(predicted)}, measured {show_mean(measured)}: {share:.0%}; if every"
        f" candidate were taken, {show_mean(candidate)}",
        met=share >= SHARE_GOAL,
    )


def _judge_above_rule(trials: Sequence[LearnedTrial]) -> Goal:
    rule = find_best_rule(trials)
    ruled, predicted = find_gains(trials, _by_rule(rule)), find_gains(trials, _predicted)
    mean, half = _mean(predicted - ruled)
    others = ", ".join(f"×{each} {show_mean(find_gains(trials, _by_rule(each)))}" for each in RULES)
    return Goal(
        name="predicted: ahead of the best rule of thumb, with 95 %",
        wanted="mean difference surely below 0",
        measured=f"{mean:.2%} [{mean - half:.2%}, {mean + half:.2%}] against ×{rule} ({others})",
        met=mean + half < 0,
    )


def _judge_coverage(trials: Sequence[LearnedTrial]) -> Goal:
    widths, held, total = [], 0, 0
    for trial in trials:
        given = trial.predicted
        if given.interval is None or given.candidate == trial.dims:
            continue
        low, high = given.interval
        speedup = math.exp(-trial.measurement.ratio(given.candidate, trial.dims).log)
        total += 1
        held += low <= speedup <= high
        widths.append(math.log(high / low))
    standings = {s: sum(t.predicted.standing == s for t in trials) for s in _standings(trials)}
    same = sum(trial.predicted.candidate == trial.dims for trial in trials)
    return Goal(
        name="predicted: intervals that hold the referee's ratio",
        wanted=f"≥ {COVERED_GOAL:.0%} (they claim 95 %)",
        measured=(
            f"{show_share(held, total)}; whole width median {np.median(widths):.2%},"
            f" 95th percentile {np.quantile(widths, 0.95):.2%}"
            if total
            else "none had an interval"
        )
        + f"; {same} of {len(trials)} promise nothing larger; standing: {standings}",
        met=held >= COVERED_GOAL * total if total else None,
    )


def _standings(trials: Sequence[LearnedTrial]) -> list[str]:
    return sorted({trial.predicted.standing for trial in trials})


def _judge_first_byte(pairs: Sequence[tuple[float, float]]) -> Goal:
    beyond = 1e3 * np.array([predicted - bare for predicted, bare in pairs])
    bare_ms = 1e3 * float(np.median([bare for _, bare in pairs]))
    return Goal(
        name="predicted: whole reply, beyond that of a bare route",
        wanted=f"median ≤ {1e3 * FIRST_BYTE_GOAL_S:g} ms",
        measured=f"median {np.median(beyond):.2f} ms, 95th percentile"
        f" {np.quantile(beyond, 0.95):.2f} ms; bare {bare_ms:.2f} ms; {len(pairs)} fresh windows",
        met=float(np.median(beyond)) <= 1e3 * FIRST_BYTE_GOAL_S,
    )


def _judge_regret(trials: Sequence[LearnedTrial]) -> Goal:
    def p95(reply: Callable[[LearnedTrial], Reply]) -> tuple[float, str]:
        excess = [find_regret(t.measurement, t.dims, reply(t).answer).estimate - 1 for t in trials]
        value = float(np.quantile(excess, 0.95))
        return value, f"median {np.median(excess):.2%}, p95 {value:.2%}, largest {max(excess):.2%}"

    learned, said = p95(lambda trial: trial.learned)
    _, empty = p95(lambda trial: trial.empty)
    errors = [find_regret(t.measurement, t.dims, t.learned.answer).se for t in trials]
    return Goal(
        name="regret of measured answers, host that has learned",
        wanted=f"95th percentile ≤ {REGRET_GOAL:.1%}",
        measured=f"{said}; empty host: {empty}; standard error of one: median"
        f" {np.median(errors):.2%}, p95 {np.quantile(errors, 0.95):.2%}",
        met=learned <= REGRET_GOAL,
    )


def find_time(replies: Sequence[Reply], share: float) -> float:
    """The measuring seconds until this share of all answers is settled; infinite if never."""
    settled = sorted(r.measuring_s for r in replies if r.settled and r.measuring_s is not None)
    wanted = math.ceil(share * len(replies))
    return settled[wanted - 1] if 0 < wanted <= len(settled) else math.inf


def _judge_time(trials: Sequence[LearnedTrial]) -> Goal:
    learned, empty = [t.learned for t in trials], [t.empty for t in trials]
    shares = [sum(bool(r.settled) for r in replies) / len(trials) for replies in (learned, empty)]
    share = min(shares)
    times = [find_time(replies, share) for replies in (learned, empty)]
    halves = [find_time(replies, 0.5) for replies in (learned, empty)]
    medians = [float(np.median([r.measuring_s or 0 for r in each])) for each in (learned, empty)]
    means = [float(np.mean([r.measuring_s or 0 for r in each])) for each in (learned, empty)]
    walls = [float(np.median([r.wall_s for r in each])) for each in (learned, empty)]
    ratio = times[0] / times[1]
    return Goal(
        name="measuring time until the same share is settled, learned over empty",
        wanted=f"≤ {TIME_GOAL:g}",
        measured=f"{ratio:.2f}: {share:.0%} in {times[0]:.2f} s and {times[1]:.2f} s; half of them"
        f" in {halves[0]:.2f} s and {halves[1]:.2f} s. Settled {shares[0]:.0%} and {shares[1]:.0%};"
        f" measuring median {medians[0]:.2f} and {medians[1]:.2f} s, mean {means[0]:.2f} and"
        f" {means[1]:.2f} s; by the clock median {walls[0]:.2f} and {walls[1]:.2f} s",
        met=ratio <= TIME_GOAL,
    )


def _judge_gain(trials: Sequence[LearnedTrial]) -> Goal:
    learned, empty = (
        find_gains(trials, _learned),
        find_gains(trials, lambda trial: trial.empty.answer),
    )
    predicted = find_gains(trials, _predicted)
    best = min(float(empty.mean()), float(predicted.mean()))
    behind = float(learned.mean()) - best
    return Goal(
        name="mean change of latency, learned host, beside the best of raced and predicted",
        wanted=f"within {BEST_WITHIN:.1%}",
        measured=f"{show_mean(learned)}; raced on an empty host {show_mean(empty)}, predicted"
        f" {show_mean(predicted)}; moved in {sum(t.learned.answer != t.dims for t in trials)},"
        f" {sum(t.empty.answer != t.dims for t in trials)} and"
        f" {sum(t.predicted.answer != t.dims for t in trials)} of {len(trials)}",
        met=behind <= BEST_WITHIN,
    )


def _judge_slower(trials: Sequence[LearnedTrial], what: str, choose: Choose) -> Goal:
    found = [(t.measurement.ratio(choose(t), t.dims), t) for t in trials]
    slower = [each for each in found if each[0].low > SLOWER]
    worst, trial = max(found, key=lambda each: each[0].low)
    return Goal(
        name=f"{what} slower than asked by more than 0.5 %, by the referee's lower bound",
        wanted="none",
        measured=f"{len(slower)} of {len(found)}; worst {show(trial.dims)} →"
        f" {show(choose(trial))}: {show_ratio(worst)}",
        met=not slower,
    )
