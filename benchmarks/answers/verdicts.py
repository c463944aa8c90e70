"""The goals, and whether the measurements meet them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.answers.dims import Dims, growth, show, window_end
from benchmarks.answers.processes import Measurement
from benchmarks.answers.service import Reply
from benchmarks.answers.statistics import F64, Ratio, highest_share, share_interval
from benchmarks.answers.trials import Trial

ALIKE_GOAL, ALIKE_WITHIN, MARGIN_GOAL = 0.95, 0.005, 0.01
REGRET_GOALS = (0.0025, 0.008, 0.02)
"""Of the median, the 95th percentile and the largest."""
SLOWER = 1.005
PREFER_GOAL_S = 5.0
CLEAR_GAIN = 0.01
"""A gain that no answer should miss: twice the finest margin that a race states."""
SETTLED_GOAL, MEDIAN_GOAL_S, LONGEST_GOAL_S = 0.9, 2.0, 5.0
CONTROL_WITHIN = 0.005


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A goal, the measurement, and whether it meets the goal (None: not checked in this run)."""

    name: str
    wanted: str
    measured: str
    met: bool | None


def show_share(count: int, total: int) -> str:
    """A share with its exact 95 % interval, as text."""
    low, high = share_interval(count, total)
    return f"{count} of {total} = {count / total:.1%} [{low:.1%}, {high:.1%}]"


def show_ratio(ratio: Ratio) -> str:
    """The estimate and its interval, as text."""
    return f"{ratio.estimate:.4f} [{ratio.low:.4f}, {ratio.high:.4f}]"


# --- Agreement ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The two answers to one query, compared by the referee."""

    trial: Trial
    ratio: Ratio
    """Latency of the first answer divided by that of the second."""
    allowed: float
    """The larger of ALIKE_WITHIN and both answers' margins."""

    @property
    def agrees(self) -> bool:
        """Whether the latencies are within what is allowed. Equal dims always are."""
        return abs(math.expm1(self.ratio.log)) <= self.allowed

    @property
    def agrees_closely(self) -> bool:
        """Whether they are within ALIKE_WITHIN."""
        return abs(math.expm1(self.ratio.log)) <= ALIKE_WITHIN

    @property
    def surely_differs(self) -> bool:
        """Whether the referee's whole interval lies outside of what is allowed."""
        return self.ratio.low > 1 + self.allowed or self.ratio.high < 1 - self.allowed


def compare_answers(trial: Trial) -> Agreement | None:
    """The comparison; None unless both services answered."""
    if len(trial.answers) < 2:
        return None
    first, second = trial.answers
    return Agreement(
        trial=trial,
        ratio=trial.refereed.ratio(first.answer, second.answer),
        allowed=max(ALIKE_WITHIN, first.margin or 0.0, second.margin or 0.0),
    )


def judge_agreement(trials: Sequence[Trial]) -> list[Goal]:
    """Whether two services that know nothing give the same answers, and how closely they say."""
    if not trials:
        return []
    pairs = [pair for trial in trials if (pair := compare_answers(trial))]
    count = sum(pair.agrees for pair in pairs)
    same = sum(pair.trial.answers[0].answer == pair.trial.answers[1].answer for pair in pairs)
    closely = sum(pair.agrees_closely for pair in pairs)
    surely = sum(pair.surely_differs for pair in pairs)
    goals = [
        Goal(
            name="the same query from two empty services: same dims, or within the larger of"
            " 0.5 % and both margins",
            wanted=f"≥ {ALIKE_GOAL:.0%}",
            measured=f"{show_share(count, len(trials))}; same dims {same}, within 0.5 %:"
            f" {show_share(closely, len(trials))}; surely outside, by the referee: {surely}",
            met=count >= ALIKE_GOAL * len(trials),
        )
    ]
    margins = [r.margin for trial in trials for r in trial.answers if r.margin is not None]
    goals.append(
        Goal(
            name="median margin of these answers",
            wanted=f"≤ {MARGIN_GOAL:.0%}",
            measured=f"{np.median(margins):.2%} (95th percentile {np.quantile(margins, 0.95):.2%},"
            f" {len(margins)} answers have one)"
            if margins
            else "no answer has one",
            met=bool(np.median(margins) <= MARGIN_GOAL) if margins else None,
        )
    )
    return goals


# --- Regret and slower answers --------------------------------------------------------------


def find_regret(measurement: Measurement, dims: Dims, answer: Dims) -> Ratio:
    """Latency of the answer divided by that of the best point of the window, by the referee.

    The best is chosen by all processes but one and timed by that one, for each in turn. So the
    estimate doesn't favour the best, and may be below 1. Every point measured may be the best if it
    lies in the window.
    """
    last = window_end(dims)
    inside = [p for p in measurement.points if all(a <= b for a, b in zip(p, last, strict=True))]
    values = np.array([measurement.values(point, dims) for point in dict.fromkeys(inside)])
    own = measurement.values(answer, dims)
    regrets: F64 = np.empty(len(own))
    for process in range(len(own)):
        best = int(np.argmin(np.delete(values, process, axis=1).mean(axis=1)))
        regrets[process] = own[process] - values[best, process]
    # Not independent, as they choose by each other: the error is that of the difference itself.
    return Ratio(
        log=float(regrets.mean()),
        se=float(regrets.std(ddof=1)) / math.sqrt(len(own)),
        processes=len(own),
    )


def judge_regret(trials: Sequence[Trial]) -> list[Goal]:
    """How much slower the answers are than the best of their windows."""
    found = [
        (find_regret(trial.refereed, trial.dims, reply.answer), trial, reply)
        for trial in trials
        for reply in trial.answers
    ]
    if not found:
        return []
    excess = [ratio.estimate - 1 for ratio, *_ in found]
    errors = [ratio.se for ratio, *_ in found]
    values = (float(np.median(excess)), float(np.quantile(excess, 0.95)), max(excess))
    worst, trial, reply = found[int(np.argmax(excess))]
    wanted = ", ".join(
        f"{name} {sign} {goal:.2%}"
        for name, sign, goal in zip(
            ("median", "95th percentile", "largest"), "<≤≤", REGRET_GOALS, strict=True
        )
    )
    return [
        Goal(
            name="regret against the window's best (chosen on other processes than it is timed on)",
            wanted=wanted,
            measured=f"median {values[0]:.2%}, 95th percentile {values[1]:.2%}, largest"
            f" {values[2]:.2%} ({show(trial.dims)} → {show(reply.answer)}:"
            f" {show_ratio(worst)}); {len(excess)} answers, standard error of one: median"
            f" {np.median(errors):.2%}, 95th percentile {np.quantile(errors, 0.95):.2%}",
            met=values[0] < REGRET_GOALS[0]
            and values[1] <= REGRET_GOALS[1]
            and values[2] <= REGRET_GOALS[2],
        )
    ]


def judge_slower(trials: Sequence[Trial]) -> list[Goal]:
    """Whether any answer is surely slower than the point that was asked for."""
    found = [
        (trial.refereed.ratio(reply.answer, trial.dims), trial, reply)
        for trial in trials
        for reply in trial.answers
    ]
    if not found:
        return []
    slower = [each for each in found if each[0].low > SLOWER]
    worst, trial, reply = max(found, key=lambda each: each[0].low)
    return [
        Goal(
            name="answers slower than asked by more than 0.5 %, by the referee's lower bound",
            wanted="none",
            measured=f"{len(slower)} of {len(found)}, so less than"
            f" {highest_share(len(slower), len(found)):.1%} (95 %); worst"
            f" {show(trial.dims)} → {show(reply.answer)}: {show_ratio(worst)}",
            met=not slower,
        )
    ]


# --- Preferences ----------------------------------------------------------------------------


def find_nearer(trial: Trial, reply: Reply) -> Dims | None:
    """A point of less growth than the answer that is surely faster than asked by CLEAR_GAIN.

    If the answer is the queried point, any such point of the window counts: it was missed.
    """
    limit = growth(trial.dims, reply.answer) if reply.answer != trial.dims else math.inf
    for point in trial.refereed.points[2:]:
        if growth(trial.dims, point) < limit:
            ratio = trial.refereed.ratio(point, trial.dims)
            if ratio.high < 1 - CLEAR_GAIN:
                return point
    return None


def judge_preferences(trials: Sequence[Trial]) -> list[Goal]:
    """Whether `nearest` and `largest` are answered in seconds, and rightly."""
    goals = []
    for prefer in ("nearest", "largest"):
        mine = [trial for trial in trials if trial.prefer == prefer]
        if not mine:
            continue
        times = [reply.wall_s for trial in mine for reply in trial.replies]
        found = [(trial, reply) for trial in mine for reply in trial.answers]
        goals.append(
            Goal(
                name=f"`prefer={prefer}`, two axes, cold: median by the clock",
                wanted=f"≤ {PREFER_GOAL_S:g} s",
                measured=f"{np.median(times):.1f} s (95th percentile"
                f" {np.quantile(times, 0.95):.1f} s, longest {max(times):.1f} s);"
                f" {len(found)} of {len(mine)} answered,"
                f" {sum(reply.answer != trial.dims for trial, reply in found)} larger than asked",
                met=float(np.median(times)) <= PREFER_GOAL_S and len(found) == len(mine),
            )
        )
        slower = [
            f"{show(trial.dims)} → {show(reply.answer)}: {show_ratio(ratio)}"
            for trial, reply in found
            if (ratio := trial.refereed.ratio(reply.answer, trial.dims)).low
            > max(SLOWER, 1 + (reply.slack or 0.0))
        ]
        goals.append(
            Goal(
                name=f"`prefer={prefer}`: answers surely slower than asked by more than the slack"
                " (0.5 % at least)",
                wanted="none",
                measured=f"{len(slower)} of {len(found)}" + "".join(f"; {s}" for s in slower),
                met=not slower,
            )
        )
        missed = [
            f"{show(trial.dims)} → {show(reply.answer)}, but {show(nearer)}"
            for trial, reply in found
            if (prefer == "nearest" or reply.answer == trial.dims)
            and (nearer := find_nearer(trial, reply))
        ]
        what = "a smaller point" if prefer == "nearest" else "nothing larger found, but a point"
        goals.append(
            Goal(
                name=f"`prefer={prefer}`: {what} is surely faster than asked by {CLEAR_GAIN:.0%}",
                wanted="none",
                measured=f"{len(missed)} of {len(found)}" + "".join(f"; {m}" for m in missed),
                met=not missed,
            )
        )
    return goals


# --- Cold answers and the referee itself ----------------------------------------------------


def judge_cold(trials: Sequence[Trial]) -> list[Goal]:
    """Whether cold answers settle, and how long they take."""
    replies = [reply for trial in trials for reply in trial.answers if reply.cold]
    if not replies:
        return []
    times = [reply.wall_s for reply in replies]
    settled = sum(reply.settled is True for reply in replies)
    measuring = [r.measuring_s for r in replies if r.measuring_s is not None]
    answers = sum(len(trial.replies) for trial in trials)
    return [
        Goal(
            name="cold answers that are settled",
            wanted=f"≥ {SETTLED_GOAL:.0%}",
            measured=f"{show_share(settled, len(replies))}; {answers - len(replies)} of {answers}"
            " replies were not cold, or no answers",
            met=settled >= SETTLED_GOAL * len(replies),
        ),
        Goal(
            name="cold answer, by the clock",
            wanted=f"median ≤ {MEDIAN_GOAL_S:g} s, longest ≤ {LONGEST_GOAL_S:g} s",
            measured=f"median {np.median(times):.2f} s, 95th percentile"
            f" {np.quantile(times, 0.95):.2f} s, longest {max(times):.2f} s"
            + (
                f"; measuring: median {np.median(measuring):.2f} s, longest {max(measuring):.2f} s"
                if measuring
                else ""
            ),
            met=float(np.median(times)) <= MEDIAN_GOAL_S and max(times) <= LONGEST_GOAL_S,
        ),
    ]


def judge_control(trials: Sequence[Trial]) -> list[Goal]:
    """Whether the referee's own error is small enough to judge with."""
    controls = [t.refereed.control() for t in trials if t.measurement is not None]
    if not controls:
        return []
    within = sum(abs(math.expm1(control.log)) <= CONTROL_WITHIN for control in controls)
    holds = sum(control.low <= 1 <= control.high for control in controls)
    estimates = [control.estimate for control in controls]
    return [
        Goal(
            name="the referee's control: a second copy of the queried point over the first",
            wanted=f"1 ± {CONTROL_WITHIN:.3f} in ≥ {ALIKE_GOAL:.0%}",
            measured=f"{show_share(within, len(controls))}; {min(estimates):.4f} to"
            f" {max(estimates):.4f}; its 95 % interval holds 1 in {holds}",
            met=within >= ALIKE_GOAL * len(controls),
        )
    ]
