"""The goals, and whether the measurements meet them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.answers.measuring import RULES, Dims, Measurement, measure, show
from benchmarks.answers.service import Failure, Reply

FRESH_QUERY: Dims = (1197, 317)
COLD_GOAL_S = 15.0
SLOWER_GOAL = 1.01
CONTROL_GOAL = 0.01
"""Largest error of the referee with which it can still judge a difference of 1 %."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One refereed query. `reply` is None in a self-check, which asks no service."""

    dims: Dims
    answer: Dims
    measurement: Measurement
    reply: Reply | None
    random: bool = True
    """False for the fixed first query, which doesn't enter the means."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A goal, the measurement, and whether it meets the goal (None: not checked in this run)."""

    name: str
    wanted: str
    measured: str
    met: bool | None


def mean_speeds(trials: Sequence[Trial]) -> dict[str, float]:
    """For each candidate, its mean speed over the queries, relative to the queried point."""
    names = trials[0].measurement.ratios
    return {
        name: float(np.mean([t.measurement.ratios[name].speed for t in trials])) for name in names
    }


def speed_difference(
    trials: Sequence[Trial], rule: str, *, seed: int
) -> tuple[float, float, float]:
    """Mean speed of the answers minus that of `rule`, and its 95 % bootstrap interval.

    Resamples queries, keeping each query's pair together.
    """
    pairs = np.array(
        [t.measurement.ratios["answer"].speed - t.measurement.ratios[rule].speed for t in trials]
    )
    picks = np.random.default_rng(seed).integers(len(pairs), size=(10_000, len(pairs)))
    low, high = np.quantile(pairs[picks].mean(axis=1), [0.025, 0.975])
    return float(pairs.mean()), float(low), float(high)


def judge(
    trials: Sequence[Trial],
    failures: Sequence[Failure],
    *,
    fresh: Reply | Failure | None,
    seed: int,
) -> list[Goal]:
    """The goals with what was measured. `fresh` is the first query of a fresh service.

    The slowest answer is that of all trials. The means are those of the random queries.
    """
    goals = []
    if fresh is None:
        measured, met = "not checked: no fresh service", None
    elif isinstance(fresh, Failure):
        measured, met = f"no answer: {fresh.reason}", False
    else:
        measured = f"{fresh.wall_s:.1f} s" + ("" if fresh.cold else " (not cold)")
        met = fresh.cold and fresh.wall_s < COLD_GOAL_S
    goals.append(
        Goal(
            name=f"cold answer to {show(FRESH_QUERY)}, from ready",
            wanted=f"< {COLD_GOAL_S:.0f} s",
            measured=measured,
            met=met,
        )
    )
    if failures:
        goals.append(
            Goal(
                name="queries answered",
                wanted="all",
                measured=f"{len(failures)} not: {failures[0].reason}",
                met=False,
            )
        )
    counted = [t for t in trials if t.random]
    if not counted:
        return goals
    worst = max(trials, key=lambda t: t.measurement.ratios["answer"].estimate)
    ratio = worst.measurement.ratios["answer"]
    goals.append(
        Goal(
            name="slowest answer, latency over its queried point's",
            wanted=f"≤ {SLOWER_GOAL:.2f}",
            measured=f"{ratio.estimate:.4f} [{ratio.low:.4f}, {ratio.high:.4f}]"
            f" ({show(worst.dims)} → {show(worst.answer)})",
            met=ratio.estimate <= SLOWER_GOAL,
        )
    )
    speeds = mean_speeds(counted)
    best = max((f"up{rule}" for rule in RULES), key=lambda rule: speeds[rule])
    difference, low, high = speed_difference(counted, best, seed=seed)
    goals.append(
        Goal(
            name="mean speed of the answers",
            wanted=f"≥ {speeds[best]:.4f} (best rule: multiples of {best[2:]})",
            measured=f"{speeds['answer']:.4f}, difference {difference:+.4f}"
            f" [{low:+.4f}, {high:+.4f}]",
            met=difference >= 0,
        )
    )
    goals.append(judge_control(trials))
    return goals


def judge_control(trials: Sequence[Trial]) -> Goal:
    """Whether the referee's own error is small enough to judge with."""
    controls = [t.measurement.ratios["control"].estimate for t in trials]
    return Goal(
        name="control: a second copy of the queried point over the first",
        wanted=f"1 ± {CONTROL_GOAL:.2f}, each",
        measured=f"{min(controls):.4f} to {max(controls):.4f},"
        f" median {float(np.median(controls)):.4f}",
        met=all(abs(control - 1) <= CONTROL_GOAL for control in controls),
    )


def judge_known_effect(*, max_seconds: float, seed: int, threads: int, cpus: int) -> Goal:
    """Whether the referee sees a known effect: 64 more output features on 512 × 512."""
    base, larger = (512, 512), (576, 512)
    found = measure(
        base,
        {"larger": larger},
        watch=["larger"],
        max_seconds=max_seconds,
        seed=seed,
        threads=threads,
        cpus=cpus,
    ).ratios["larger"]
    extra = larger[0] / base[0] - 1
    # Between half and one and a half times the extra work: fixed costs, caches and tiles keep
    # latency from being just proportional to the number of operations.
    low, high = 1 + 0.5 * extra, 1 + 1.5 * extra
    return Goal(
        name=f"known effect: {show(larger)} over {show(base)}, {1 + extra:.3f} times the FLOP",
        wanted=f"{low:.3f} to {high:.3f}, interval above 1",
        measured=f"{found.estimate:.4f} [{found.low:.4f}, {found.high:.4f}]",
        met=low <= found.estimate <= high and found.low > 1,
    )
