"""How good and how fast a race is on simulated networks, whose true latencies are known.

    python -m benchmarks.synthetic_search --out docs/results        # 15 minutes
    python -m benchmarks.synthetic_search --windows 3               # a quick look

Each window has 48 × 48 points of 10 to 60 ms and one of two shapes. `stairs` is like torch.nn.LSTM
on the machine on which these benchmarks were written. Latency grows by 6 to 10 % after each
multiple of 16 of the hidden size, is constant up to the next multiple, and grows smoothly with the
input size. There, the queried point is nearly the fastest. In `multiples` it isn't: latency grows
smoothly along both axes, and every hidden size that isn't a multiple of 16 costs 6 to 10 % more. In
both, single points deviate from their row and column. The noise of calls has heavy tails, some
calls take far longer, the first call of a shape takes 5 % longer, and everything drifts slowly.

Every race has a budget of 4.8 % of the time of calling each point once, as a caller gives it who
has no more time than 5 %: the batch under way may end a little later. Two hosts race in each
window. An *empty* one knows nothing. A *learned* one has made races in other windows of the same
shape before, with the same budget, and starts from what it has learned of them. Each window's steps
are drawn anew, so it can learn which sizes are slower, but not exactly by how much.

Shares no code with the service but the planner and the model of a host that learns.
Measures nothing: any machine gives the same figures.

Exit code: 0 if every goal is met, 1 if one is missed.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.answers.dims import Dims, show
from benchmarks.answers.verdicts import Goal
from benchmarks.contender import HOSTS, HostName, Race
from benchmarks.learning_host import LearningHost
from benchmarks.networks_search.referee import SIDE
from benchmarks.networks_search.report import BUDGET_SHARE, SHARE_GOAL
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

REGRET_GOALS: Mapping[str, float] = {"stairs": 0.01, "multiples": 0.015}
"""Of the 95th percentile, by shape."""
CLOSE = 0.01
"""Regrets up to this are counted."""
EARLIER = 12
"""Races that a learned host has made before."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One race in a window whose true latencies are known."""

    shape: str
    host: HostName
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


def race_drawn(
    shape: str, offset: int, key: Sequence[int], seed: int, host: LearningHost | None
) -> tuple[Dims, F64, Race]:
    """A race in a window drawn from the key: the queried point, the true latencies, the race."""
    rng = np.random.default_rng(key)
    dims, truth_s = draw_window(shape, offset, rng)
    device = Device(truth_s, NOISE, seed=int(rng.integers(1 << 32)))
    budget_s = BUDGET_SHARE * each_once(truth_s)
    race = race_on(device, "lstm", dims, SIDE, seed, budget_s=budget_s, host=host)
    return dims, truth_s, race


def each_once(truth_s: F64) -> float:
    """Seconds of calling each point of a window once."""
    return float(truth_s.sum() * (1 + NOISE.first_call))


def teach(shape: str, seed: int, earlier: int) -> LearningHost:
    """A host with so many races behind it, in windows of that shape drawn from the seed."""
    host, index = LearningHost(num_axes=2), list(SHAPES).index(shape)
    for number in range(earlier):
        # Other keys than those of the windows that are judged.
        key = [seed, index, STAIR + 1 + number]
        offset = 1 + int(np.random.default_rng(key).integers(STAIR))
        race_drawn(shape, offset, key, seed, host)
    return host


def try_window(shape: str, offset: int, seed: int, host: LearningHost | None) -> Trial:
    """One race in a window drawn from the seed, and its verdict; None is an empty host."""
    key = [seed, offset, list(SHAPES).index(shape)]
    dims, truth_s, race = race_drawn(shape, offset, key, seed, host)
    name: HostName = "empty" if host is None else "learned"
    return judge_race(shape, name, offset, dims, truth_s, race)


def judge_race(
    shape: str, host: HostName, offset: int, dims: Dims, truth_s: F64, race: Race
) -> Trial:
    """The verdict on a race's answer, by the true latencies."""
    answer_s = truth_s.reshape(SIDE, SIDE)[race.answer[0] - dims[0], race.answer[1] - dims[1]]
    return Trial(
        shape=shape,
        host=host,
        offset=offset,
        dims=dims,
        answer=race.answer,
        share_of_calls=race.num_calls / len(truth_s),
        share_of_time=race.measuring_s / each_once(truth_s),
        regret=float(answer_s / truth_s.min() - 1),
        over_queried=float(answer_s / truth_s[0]),
        stay_regret=float(truth_s[0] / truth_s.min() - 1),
    )


# --- Report ---------------------------------------------------------------------------------


def judge(trials: Sequence[Trial]) -> list[Goal]:
    """The goals with what was found, for each shape and host."""
    goals = []
    for shape, host in itertools.product(SHAPES, HOSTS):
        mine = [trial for trial in trials if (trial.shape, trial.host) == (shape, host)]
        name, goal = f"`{shape}`, {host} host", REGRET_GOALS[shape]
        calls, times = [t.share_of_calls for t in mine], [t.share_of_time for t in mine]
        regrets = [t.regret for t in mine]
        close = sum(regret <= CLOSE for regret in regrets)
        p95 = float(np.quantile(regrets, 0.95))
        worst = max(mine, key=lambda t: t.over_queried)
        goals += [
            Goal(
                name=f"{name}: time over that of calling each point once",
                wanted=f"≤ {SHARE_GOAL:.0%}, each",
                measured=f"median {np.median(times):.2%}, largest {max(times):.2%}",
                met=max(times) <= SHARE_GOAL,
            ),
            Goal(
                name=f"{name}: calls over the number of points",
                wanted=f"≤ {SHARE_GOAL:.0%}, each",
                measured=f"median {np.median(calls):.2%}, largest {max(calls):.2%}",
                met=max(calls) <= SHARE_GOAL,
            ),
            Goal(
                name=f"{name}: regret, 95th percentile",
                wanted=f"≤ {goal:.1%}",
                measured=f"{p95:.2%} (median {np.median(regrets):.2%}, largest"
                f" {max(regrets):.2%}; within {CLOSE:.0%}: {close} of {len(mine)})",
                met=p95 <= goal,
            ),
            Goal(
                name=f"{name}: slowest answer, latency over its queried point's",
                wanted=f"≤ {SLOWER_GOAL:.3f}",
                measured=f"{worst.over_queried:.4f} ({show(worst.dims)} → {show(worst.answer)})",
                met=worst.over_queried <= SLOWER_GOAL,
            ),
        ]
    return goals


def table(trials: Sequence[Trial]) -> list[str]:
    """A Markdown table: one line for each shape, host and offset."""
    heads = ["shape", "host", "offset", "windows", "time, median", "time, largest", "calls, median"]
    heads += ["regret, median", "95th percentile", "largest", "within 1 %", "moved"]
    heads += ["largest over queried", "regret of staying, median", "its 95th percentile"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for which in dict.fromkeys((t.shape, t.host, t.offset) for t in trials):
        mine = [t for t in trials if (t.shape, t.host, t.offset) == which]
        times, regrets = [t.share_of_time for t in mine], [t.regret for t in mine]
        stays = [t.stay_regret for t in mine]
        cells = [
            *map(str, which),
            str(len(mine)),
            f"{np.median(times):.2%}",
            f"{max(times):.2%}",
            f"{np.median([t.share_of_calls for t in mine]):.2%}",
            f"{np.median(regrets):.2%}",
            f"{np.quantile(regrets, 0.95):.2%}",
            f"{max(regrets):.2%}",
            f"{sum(regret <= CLOSE for regret in regrets)} of {len(mine)}",
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
        "## By shape, host and offset",
        "",
        f"*Offset*: how far the queried hidden size lies above a multiple of {STAIR}. *Regret*:"
        " true latency of the answer over the window's least, minus 1; *of staying*: that of the"
        " queried point itself. *Moved*: answers other than the queried point.",
        "",
        *table(trials),
    ]
    return "\n".join(lines) + "\n"


# --- Main -----------------------------------------------------------------------------------


def run(*, windows: int, seed: int, earlier: int) -> list[Trial]:
    """Races of both hosts in `windows` windows of each shape and offset."""
    trials = []
    for shape, name in itertools.product(SHAPES, HOSTS):
        found = []
        for number in range(seed, seed + windows):
            host = teach(shape, number, earlier) if name == "learned" else None
            found += [try_window(shape, offset, number, host) for offset in OFFSETS]
        regrets = [trial.regret for trial in found]
        print(
            f"{shape}, {name} host: regret median {np.median(regrets):.2%},"
            f" 95th percentile {np.quantile(regrets, 0.95):.2%}",
            file=sys.stderr,
            flush=True,
        )
        trials += sorted(found, key=lambda trial: trial.offset)
    return trials


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code, after printing the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=40, help="of each shape and offset")
    parser.add_argument("--seed", type=int, default=0, help="of the first window")
    parser.add_argument(
        "--earlier", type=int, default=EARLIER, help="races that a learned host made before"
    )
    parser.add_argument("--out", type=Path, help="folder for the report and the raw figures")
    options = parser.parse_args(arguments)
    if options.windows < 1 or options.seed < 0 or options.earlier < 1:
        parser.error("--windows and --earlier from 1, --seed from 0")
    title = "Races with long calls: known latencies"
    header = heading(title, "benchmarks.synthetic_search", "numpy")
    started = time.perf_counter()
    trials = run(windows=options.windows, seed=options.seed, earlier=options.earlier)
    goals = judge(trials)
    notes = [
        f"{options.windows} windows of {SIDE} × {SIDE} points for each shape and offset, seeds"
        f" from {options.seed}; took {(time.perf_counter() - started) / 60:.1f} minutes",
        f"every race had a budget of {BUDGET_SHARE:.1%} of the time of calling each point once",
        f"learned hosts had made {options.earlier} races before, and learned from each one; every"
        f" seed has a host of its own",
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
