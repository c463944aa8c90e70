"""Verdicts of the referees of races: the distance of an answer from the best known point.

Knows neither how a race decides nor how anything was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.answers.measuring import (
    EXTRA_RULES,
    RULES,
    Dims,
    Measurement,
    Ratio,
    ratio_of_blocks,
    show,
)
from benchmarks.answers.verdicts import Goal, Trial, speed_difference
from benchmarks.report import measurement_to_json

F64 = npt.NDArray[np.float64]
ALL_RULES = (*RULES, *EXTRA_RULES)
SLOWER_GOAL = 1.005


@dataclass(frozen=True, kw_only=True)
class Regret:
    """How much slower the answer is than the best point that the referee knows."""

    best: Dims
    over_best: Ratio
    """Latency of the answer divided by the best point's. The best point was chosen in the same
    blocks, so its latency is too small on average, and the true ratio is usually smaller."""
    split: float
    """The same ratio without that bias: the best is chosen on one half of the blocks and timed on
    the other, both ways, averaged. It may be below 1."""

    @property
    def excess(self) -> float:
        """0 if the answer is the best point; 0.01 if it is 1 % slower."""
        return self.over_best.estimate - 1


@dataclass(frozen=True, kw_only=True)
class RaceVerdict:
    """One query, with its referee's measurements.

    `measurement` holds ratios to the queried point: the race's `answer`, `up4` and so on, `rival1`
    to the last of the referee's own best points, and `control`, a second copy of the queried
    point.
    """

    dims: Dims
    measurement: Measurement

    @property
    def regret(self) -> Regret:
        """The answer's regret among all that took part."""
        return find_regret(self.measurement, self.dims)

    def as_trial(self) -> Trial:
        """The answer as `benchmarks.answers` judges it."""
        answer = self.measurement.ratios["answer"].dims
        return Trial(dims=self.dims, answer=answer, measurement=self.measurement, reply=None)

    def to_json(self) -> dict[str, object]:
        """The raw figures, JSON-ready; the blocks' log ratios to five places."""
        return asdict(self) | {
            "measurement": measurement_to_json(self.measurement),
            "regret": asdict(self.regret),
        }


def window(dims: Dims, side: int) -> list[Dims]:
    """All points from `dims` to `side - 1` above it on both axes."""
    return [(dims[0] + i, dims[1] + j) for i in range(side) for j in range(side)]


def find_regret(measurement: Measurement, dims: Dims) -> Regret:
    """The regret of `answer` in a measurement around `dims`, paired within its blocks.

    Every candidate may be the best, also the rounding rules' points and the queried point. Only the
    control can't, which is the queried point once more.
    """
    blocks = {name: np.array(b) for name, b in measurement.blocks.items() if name != "control"}
    blocks["queried"] = np.zeros(len(blocks["answer"]))

    def best_of(part: slice) -> str:
        return min(blocks, key=lambda name: float(np.median(blocks[name][part])))

    halves = (slice(0, None, 2), slice(1, None, 2))
    split = [
        float(np.median((blocks["answer"] - blocks[best_of(chosen)])[timed]))
        for chosen, timed in (halves, halves[::-1])
    ]
    best = best_of(slice(None))
    return Regret(
        best=dims if best == "queried" else measurement.ratios[best].dims,
        over_best=ratio_of_blocks(
            measurement.ratios["answer"].dims, [*(blocks["answer"] - blocks[best])]
        ),
        split=float(np.exp(np.mean(split))),
    )


def judge_slowest(verdicts: Sequence[RaceVerdict]) -> Goal:
    """Whether no answer is slower than its queried point."""
    worst = max(verdicts, key=lambda v: v.measurement.ratios["answer"].estimate)
    slowest = worst.measurement.ratios["answer"]
    return Goal(
        name="slowest answer, latency over its queried point's",
        wanted=f"≤ {SLOWER_GOAL:.3f}",
        measured=f"{show_ratio(slowest)} ({show(worst.dims)} → {show(slowest.dims)})",
        met=slowest.estimate <= SLOWER_GOAL,
    )


def judge_rules(verdicts: Sequence[RaceVerdict], *, seed: int) -> Goal:
    """Whether the answers are at least as fast as the best rule of thumb, on average."""
    speeds = mean_speeds(verdicts)
    best = max((f"up{rule}" for rule in ALL_RULES), key=lambda rule: speeds[rule])
    trials = [verdict.as_trial() for verdict in verdicts]
    difference, low, high = speed_difference(trials, best, seed=seed)
    return Goal(
        name="mean speed of the answers (1: as fast as the queried point)",
        wanted=f"≥ {speeds[best]:.4f} (best rule: multiples of {best[2:]})",
        measured=f"{speeds['answer']:.4f}, difference {difference:+.4f} [{low:+.4f}, {high:+.4f}]",
        met=difference >= 0,
    )


def mean_speeds(verdicts: Sequence[RaceVerdict]) -> dict[str, float]:
    """Mean speed, relative to the queried points, of the answers and of each rule."""
    return {
        name: float(np.mean([v.measurement.ratios[name].speed for v in verdicts]))
        for name in ("answer", *(f"up{rule}" for rule in ALL_RULES))
    }


def show_ratio(ratio: Ratio) -> str:
    """The estimate and its interval, as text."""
    return f"{ratio.estimate:.4f} [{ratio.low:.4f}, {ratio.high:.4f}]"


def show_regret(regret: Regret) -> str:
    """The regret and its interval, as text."""
    over = regret.over_best
    return f"{over.estimate - 1:.2%} [{over.low - 1:.2%}, {over.high - 1:.2%}]"
