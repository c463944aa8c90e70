"""Verdicts of the referees of races: the distance of an answer from the best known point.

Knows neither how a race decides nor how anything was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.answers.dims import EXTRA_RULES, RULES, Dims, show
from benchmarks.answers.verdicts import Goal

F64 = npt.NDArray[np.float64]
ALL_RULES = (*RULES, *EXTRA_RULES)
SLOWER_GOAL = 1.005
FEWEST_BLOCKS = 6
"""Fewest blocks that have a finite interval: see `median_interval`."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Latency of a candidate divided by that of the queried point, with a 95 % interval."""

    dims: Dims
    estimate: float
    low: float
    high: float

    @property
    def speed(self) -> float:
        """Latency of the queried point divided by the candidate's: above 1 is faster."""
        return 1 / self.estimate


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The referee's own interleaved measurement around one queried point."""

    ratios: Mapping[str, Ratio]
    """By name: `answer`, `control`, and `up4`, `up8`, … for the rounding rules."""
    latency_s: float
    """Median latency of a call at the queried point."""
    blocks: Mapping[str, list[float]]
    """By name, the median log ratio of each block. The intervals follow from these."""
    num_rounds: int
    seconds: float


def median_interval(values: Sequence[float] | npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval on the median by order statistics (the sign test, inverted).

    Assumes independent values, but no distribution. Fewer than six values give the infinite
    interval: even their extremes miss the median more often than one time in twenty.
    """
    n = len(values)
    # Largest k with P(Binomial(n, 1/2) < k) <= 2.5 %, in whole numbers: exact for any n.
    k, term, total = 0, 1, 0
    while 40 * (total + term) <= 1 << n:
        total += term
        term = term * (n - k) // (k + 1)
        k += 1
    if k == 0:
        return -math.inf, math.inf
    ordered = np.sort(values)
    return float(ordered[k - 1]), float(ordered[n - k])


def ratio_of_blocks(dims: Dims, blocks: Sequence[float]) -> Ratio:
    """The ratio that follows from the blocks' log ratios, and its interval."""
    low, high = median_interval(blocks)
    return Ratio(
        dims=dims,
        estimate=math.exp(float(np.median(blocks))),
        low=math.exp(low),
        high=math.exp(high),
    )


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

    def to_json(self) -> dict[str, object]:
        """The raw figures, JSON-ready; the blocks' log ratios to five places."""
        blocks = {
            name: [round(log, 5) for log in logs] for name, logs in self.measurement.blocks.items()
        }
        return asdict(self) | {
            "measurement": asdict(self.measurement) | {"blocks": blocks},
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
    difference, low, high = speed_difference(verdicts, best, seed=seed)
    return Goal(
        name="mean speed of the answers (1: as fast as the queried point)",
        wanted=f"≥ {speeds[best]:.4f} (best rule: multiples of {best[2:]})",
        measured=f"{speeds['answer']:.4f}, difference {difference:+.4f} [{low:+.4f}, {high:+.4f}]",
        met=difference >= 0,
    )


def speed_difference(
    verdicts: Sequence[RaceVerdict], rule: str, *, seed: int
) -> tuple[float, float, float]:
    """Mean speed of the answers minus that of `rule`, and its 95 % bootstrap interval.

    Resamples queries, keeping each query's pair together.
    """
    pairs = np.array(
        [v.measurement.ratios["answer"].speed - v.measurement.ratios[rule].speed for v in verdicts]
    )
    picks = np.random.default_rng(seed).integers(len(pairs), size=(10_000, len(pairs)))
    low, high = np.quantile(pairs[picks].mean(axis=1), [0.025, 0.975])
    return float(pairs.mean()), float(low), float(high)


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
