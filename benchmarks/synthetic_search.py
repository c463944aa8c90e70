"""How good and how fast a race is on simulated networks, whose true latencies are known.

    python -m benchmarks.synthetic_search --out docs/results        # some minutes
    python -m benchmarks.synthetic_search --windows 3               # a quick look

Each window has 48 × 48 points of 10 to 60 ms and one of two shapes. `stairs` is like torch.nn.LSTM
on the machine on which these benchmarks were written. Latency grows by 6 to 10 % after each
multiple of 16 of the hidden size, is constant up to the next multiple, and grows smoothly with the
input size. There, the queried point is nearly the fastest. In `multiples` it isn't: latency grows
smoothly along both axes, and every hidden size that isn't a multiple of 16 costs 6 to 10 % more. In
both, single points deviate from their row and column. The noise of calls has heavy tails, some
calls take far longer, the first call of a shape takes 5 % longer, and everything drifts slowly.

Shares no code with the service but the planner itself, which `benchmarks.synthetic_device` runs.
Measures nothing: any machine gives the same figures.

Exit code: 0 if every goal is met, 1 if one is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.answers.dims import Dims, show
from benchmarks.answers.verdicts import Goal
from benchmarks.contender import Race
from benchmarks.networks_search.referee import SIDE
from benchmarks.networks_search.report import REGRET_GOAL, SHARE_GOAL
from benchmarks.provenance import heading
from benchmarks.race_verdict import F64, SLOWER_GOAL
from benchmarks.report import opening, publish
from benchmarks.synthetic_device import Device, Noise, race_on

OFFSETS = (1, 6, 11, 16)
"""How far the queried hidden size lies above a multiple of STAIR."""
STAIR = 16
STEP = (0.06, 0.10)
GROWTH = 0.7
INTERACTION = 0.003
FASTEST_S, SLOWEST_S = 0.010, 0.060
"""Latencies that queried points may have."""

NOISE = Noise()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One race in a window whose true latencies are known."""

    shape: str
    offset: int
    dims: Dims
    answer: Dims
    share_of_calls: float
    """Calls of the race divided by the number of points."""
    share_of_time: float
    """Measuring time of the race divided by that of calling each point once."""
    regret: float
    """True latency of the answer divided by the window's smallest one, minus 1."""
    over_queried: float
    """True latency of the answer divided by the queried point's."""
    stay_regret: float
    """The regret of the queried point itself."""


# --- Windows --------------------------------------------------------------------------------


def stairs(dims: Dims, rng: np.random.Generator) -> F64:
    """Log effects of the window's hidden sizes [SIDE]: a step after each multiple of STAIR."""
    stair = (dims[0] + np.arange(SIDE) - 1) // STAIR
    steps = np.log1p(rng.uniform(*STEP, size=SIDE))
    effects: F64 = np.concatenate([[0.0], np.cumsum(steps)])[stair - stair[0]]
    return effects


def multiples(dims: Dims, rng: np.random.Generator) -> F64:
    """Log effects of the window's hidden sizes [SIDE]: growth, and less at multiples of STAIR."""
    hidden = dims[0] + np.arange(SIDE)
    slower = np.log1p(rng.uniform(*STEP))
    growth: F64 = GROWTH * np.log(hidden / dims[0])
    return growth + np.where(hidden % STAIR == 0, 0.0, slower)


SHAPES: Mapping[str, Callable[[Dims, np.random.Generator], F64]] = {
    "stairs": stairs,
    "multiples": multiples,
}


def draw_window(shape: str, offset: int, rng: np.random.Generator) -> tuple[Dims, F64]:
    """A queried point, and the true latencies of the points above it, [points] row-major."""
    hidden = STAIR * int(rng.integers(7, 31)) + offset
    dims = (hidden, int(rng.integers(100, 501)))
    columns = GROWTH * np.log((dims[1] + np.arange(SIDE)) / dims[1])
    log = np.add.outer(SHAPES[shape](dims, rng), columns)
    log += INTERACTION * rng.standard_normal(log.shape)
    truth: F64 = np.exp(log - log[0, 0]).ravel()
    return dims, truth * rng.uniform(FASTEST_S, SLOWEST_S)


def try_window(shape: str, offset: int, seed: int) -> Trial:
    """One race in a window drawn from the seed, and its verdict."""
    rng = np.random.default_rng([seed, offset, list(SHAPES).index(shape)])
    dims, truth_s = draw_window(shape, offset, rng)
    device = Device(truth_s, NOISE, seed=int(rng.integers(1 << 32)))
    race = race_on(device, "lstm", dims, SIDE, seed)
    return judge_race(shape, offset, dims, truth_s, race)


def judge_race(shape: str, offset: int, dims: Dims, truth_s: F64, race: Race) -> Trial:
    """The verdict on a race's answer, by the true latencies."""
    answer_s = truth_s.reshape(SIDE, SIDE)[race.answer[0] - dims[0], race.answer[1] - dims[1]]
    return Trial(
        shape=shape,
        offset=offset,
        dims=dims,
        answer=race.answer,
        share_of_calls=race.num_calls / len(truth_s),
        share_of_time=race.measuring_s / float(truth_s.sum() * (1 + NOISE.first_call)),
        regret=float(answer_s / truth_s.min() - 1),
        over_queried=float(answer_s / truth_s[0]),
        stay_regret=float(truth_s[0] / truth_s.min() - 1),
    )


# --- Report ---------------------------------------------------------------------------------


def judge(trials: Sequence[Trial]) -> list[Goal]:
    """The goals with what was found, for each shape."""
    goals = []
    for shape in SHAPES:
        mine = [trial for trial in trials if trial.shape == shape]
        calls, times = [t.share_of_calls for t in mine], [t.share_of_time for t in mine]
        regrets = [t.regret for t in mine]
        within = sum(regret <= REGRET_GOAL for regret in regrets)
        p95 = float(np.quantile(regrets, 0.95))
        worst = max(mine, key=lambda t: t.over_queried)
        goals += [
            Goal(
                name=f"`{shape}`: time over that of calling each point once",
                wanted=f"≤ {SHARE_GOAL:.0%}, each",
                measured=f"median {np.median(times):.2%}, largest {max(times):.2%}",
                met=max(times) <= SHARE_GOAL,
            ),
            Goal(
                name=f"`{shape}`: calls over the number of points",
                wanted=f"≤ {SHARE_GOAL:.0%}, each",
                measured=f"median {np.median(calls):.2%}, largest {max(calls):.2%}",
                met=max(calls) <= SHARE_GOAL,
            ),
            Goal(
                name=f"`{shape}`: regret, 95th percentile",
                wanted=f"≤ {REGRET_GOAL:.0%}",
                measured=f"{p95:.2%} (median {np.median(regrets):.2%}, largest"
                f" {max(regrets):.2%}; within {REGRET_GOAL:.0%}: {within} of {len(mine)})",
                met=p95 <= REGRET_GOAL,
            ),
            Goal(
                name=f"`{shape}`: slowest answer, latency over its queried point's",
                wanted=f"≤ {SLOWER_GOAL:.3f}",
                measured=f"{worst.over_queried:.4f} ({show(worst.dims)} → {show(worst.answer)})",
                met=worst.over_queried <= SLOWER_GOAL,
            ),
        ]
    return goals


def table(trials: Sequence[Trial]) -> list[str]:
    """A Markdown table: one line for each shape and offset."""
    heads = ["shape", "offset", "windows", "time, median", "time, largest", "calls, median"]
    heads += ["regret, median", "95th percentile", "largest", "within 1 %", "moved"]
    heads += ["largest over queried", "regret of staying, median", "its 95th percentile"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for shape, offset in dict.fromkeys((t.shape, t.offset) for t in trials):
        mine = [t for t in trials if (t.shape, t.offset) == (shape, offset)]
        times, regrets = [t.share_of_time for t in mine], [t.regret for t in mine]
        stays = [t.stay_regret for t in mine]
        cells = [
            shape,
            str(offset),
            str(len(mine)),
            f"{np.median(times):.2%}",
            f"{max(times):.2%}",
            f"{np.median([t.share_of_calls for t in mine]):.2%}",
            f"{np.median(regrets):.2%}",
            f"{np.quantile(regrets, 0.95):.2%}",
            f"{max(regrets):.2%}",
            f"{sum(regret <= REGRET_GOAL for regret in regrets)} of {len(mine)}",
            str(sum(t.answer != t.dims for t in mine)),
            f"{max(t.over_queried for t in mine):.4f}",
            f"{np.median(stays):.2%}",
            f"{np.quantile(stays, 0.95):.2%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def build_report(
    *, header: Sequence[str], notes: Sequence[str], goals: Sequence[Goal], trials: Sequence[Trial]
) -> str:
    """The whole report, Markdown."""
    lines = [
        *opening(header, notes, goals),
        "## By shape and offset",
        "",
        f"*Offset*: how far the queried hidden size lies above a multiple of {STAIR}. *Regret*:"
        " true latency of the answer over the window's least, minus 1; *of staying*: that of the"
        " queried point itself. *Moved*: answers other than the queried point.",
        "",
        *table(trials),
    ]
    return "\n".join(lines) + "\n"


# --- Main -----------------------------------------------------------------------------------


def run(*, windows: int, seed: int) -> list[Trial]:
    """Races in `windows` windows of each shape and offset."""
    trials = []
    for shape in SHAPES:
        for offset in OFFSETS:
            trials += [try_window(shape, offset, seed + number) for number in range(windows)]
            regrets = [t.regret for t in trials[-windows:]]
            print(
                f"{shape} + {offset}: regret median {np.median(regrets):.2%},"
                f" largest {max(regrets):.2%}",
                file=sys.stderr,
                flush=True,
            )
    return trials


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code, after printing the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=40, help="of each shape and offset")
    parser.add_argument("--seed", type=int, default=0, help="of the first window")
    parser.add_argument("--out", type=Path, help="folder for the report and the raw figures")
    options = parser.parse_args(arguments)
    if options.windows < 1 or options.seed < 0:
        parser.error("--windows from 1, --seed from 0")
    title = "Races with long calls: known latencies"
    header = heading(title, "benchmarks.synthetic_search", "numpy")
    started = time.perf_counter()
    trials = run(windows=options.windows, seed=options.seed)
    goals = judge(trials)
    notes = [
        f"{options.windows} windows of {SIDE} × {SIDE} points for each shape and offset, seeds"
        f" from {options.seed}; took {(time.perf_counter() - started) / 60:.1f} minutes",
        f"noise {NOISE.scale:.1%} (Student's t, 3 degrees of freedom), {NOISE.spikes:.0%} of calls"
        f" prolonged by {NOISE.spike[0]:.0%} to {NOISE.spike[1]:.0%}, first calls"
        f" {NOISE.first_call:.0%} slower, drift ± {NOISE.drift:.0%}; single points deviate by"
        f" {INTERACTION:.1%}",
    ]
    report = build_report(header=header, notes=notes, goals=goals, trials=trials)
    return publish(
        options.out,
        "networks-search-synthetic",
        report,
        header=header,
        notes=notes,
        goals=goals,
        trials=[asdict(trial) for trial in trials],
    )


if __name__ == "__main__":
    sys.exit(main())
