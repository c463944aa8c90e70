"""Simulated races that start from right and from wrong models: are they faster, and still right?

    python -m benchmarks.synthetic_models --windows 100 --out DIR       # some 5 minutes
    python -m benchmarks.synthetic_models --windows 5                   # a quick look

Windows have 48 × 48 points, whose true latencies are known. In `classes`, multiples of 16 are
1 to 4 % faster on each axis, and multiples of 8 half as much; every position and every point
differs a little from that, and latency grows with both dims. In `switch`, rows that are multiples
of 16 also have a kernel of their own from some column on, which is 4 to 8 % faster there: no sum
of effects of rows and columns is that.

In every window, a race with no model is compared with races that start from a model. A model is
made from the truth's mean of each row and each column:

- `right`: these, each off by 0.4 % (one standard deviation);
- `partly`: half of them beyond growth, and on each axis a third of the residues modulo 16 have the
  values of others;
- `permuted`: each axis' values beyond growth in another order;
- `opposite`: each axis' values beyond growth with the other sign;
- `smooth`: growth alone.

A race is *falsely settled* if it says so, and its answer is truly slower than the window's fastest
point by more than the margin that it states. Measures nothing: any machine gives the same figures.

Exit code: 0 if every goal is met, 1 if one is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.answers.dims import FIRST_DIM, LAST_DIM, Dims
from benchmarks.answers.statistics import highest_share
from benchmarks.answers.verdicts import Goal, show_share
from benchmarks.contender import Race
from benchmarks.learning_host import ToldHost
from benchmarks.provenance import heading
from benchmarks.race_verdict import F64
from benchmarks.report import opening, publish
from benchmarks.synthetic_device import Device, Noise, race_on

SIDE, STEP = 48, 16
GROWTH = (0.0, 0.4)
CLASS_GAIN, SWITCH_GAIN = (0.01, 0.04), (0.04, 0.08)
OWN, INTERACTION, ERROR = 0.004, 0.003, 0.004
LATENCY_S = (50e-6, 500e-6)
NOISE = Noise(scale=0.009, spikes=0.02, first_call=0.0, drift=0.01, process=0.002, pages=0.002)
"""Student's t with three degrees of freedom: 1.6 % is one standard deviation."""

TRUTHS = ("classes", "switch")
NO_MODEL = "none"
MODELS = (NO_MODEL, "right", "partly", "permuted", "opposite", "smooth")
FALSE_GOAL, TIME_GOAL, SLOWDOWN_GOAL = 0.05, 0.5, 1.1


@dataclass(frozen=True, kw_only=True)
class ModelTrial:
    """One race in a window whose true latencies are known."""

    truth: str
    model: str
    seed: int
    settled: bool
    margin: float | None
    regret: float
    """True latency of the answer divided by the window's smallest one, minus 1."""
    over_queried: float
    """True latency of the answer divided by the queried point's."""
    seconds: float
    seconds_by_stage: Mapping[str, float]

    @property
    def is_false(self) -> bool:
        """Whether it is settled at a margin that some point beats by more."""
        return self.settled and self.margin is not None and self.regret > self.margin


# --- Windows and models ---------------------------------------------------------------------


def draw_truth(truth: str, rng: np.random.Generator) -> tuple[Dims, F64]:
    """A queried point, and the log latencies [SIDE, SIDE] of the points above it, less its own."""
    first, second = (int(each) for each in rng.integers(FIRST_DIM, LAST_DIM, 2))
    dims = (first + (first % STEP == 0), second + (second % STEP == 0))
    effects = []
    for dim in dims:
        at = dim + np.arange(SIDE)
        gain = rng.uniform(*CLASS_GAIN)
        effect = rng.uniform(*GROWTH) * np.log(at / dim) + OWN * rng.standard_normal(SIDE)
        effects.append(effect - gain * (at % STEP == 0) - gain / 2 * (at % (STEP // 2) == 0))
    log: F64 = np.add.outer(*effects) + INTERACTION * rng.standard_normal((SIDE, SIDE))
    if truth == "switch":
        is_fast = (dims[0] + np.arange(SIDE)) % STEP == 0
        column = int(rng.integers(SIDE // 4, 3 * SIDE // 4))
        log[is_fast, column:] -= rng.uniform(*SWITCH_GAIN)
    return dims, log - log[0, 0]


def model_of(model: str, dims: Dims, log: F64, rng: np.random.Generator) -> list[F64]:
    """What a host's model says of each axis' positions, around 0: see the module's description."""
    effects = []
    for axis in range(2):
        exact = log.mean(axis=1 - axis)
        at = dims[axis] + np.arange(SIDE)
        trend = np.polynomial.Polynomial.fit(np.log(at), exact, 1)(np.log(at))
        beyond = exact - trend
        if model == "right":
            said = beyond + ERROR * rng.standard_normal(SIDE)
        elif model == "partly":
            said = 0.5 * beyond
            wrong = rng.choice(STEP, STEP // 3 + 1, replace=False)
            classes = np.arange(STEP)
            classes[wrong] = np.roll(wrong, 1)
            mean = np.array([beyond[at % STEP == each].mean() for each in range(STEP)])
            said += 0.5 * (mean[classes] - mean)[at % STEP]
        elif model == "permuted":
            said = rng.permutation(beyond)
        elif model == "opposite":
            said = -beyond
        else:
            said = np.zeros(SIDE)
        effects.append(trend - trend.mean() + said)
    return effects


def try_race(truth: str, model: str, seed: int) -> ModelTrial:
    """One race, judged by the true latencies. All models meet the same window and noise."""
    rng = np.random.default_rng([seed, TRUTHS.index(truth)])
    dims, log = draw_truth(truth, rng)
    true_s = (np.exp(log) * np.exp(rng.uniform(*np.log(LATENCY_S)))).ravel()
    device = Device(true_s, NOISE, seed=int(rng.integers(1 << 32)))
    host = None if model == NO_MODEL else ToldHost(model_of(model, dims, log, rng))
    race = race_on(device, "linear", dims, SIDE, seed, host=host)
    return judge_race(truth, model, seed, dims, true_s, race)


def judge_race(
    truth: str, model: str, seed: int, dims: Dims, true_s: F64, race: Race
) -> ModelTrial:
    """The verdict on a race by the true latencies [points]."""
    answer_s = true_s.reshape(SIDE, SIDE)[race.answer[0] - dims[0], race.answer[1] - dims[1]]
    by_stage: dict[str, float] = {}
    for stage in race.stages:
        by_stage[stage.name] = by_stage.get(stage.name, 0.0) + stage.seconds
    return ModelTrial(
        truth=truth,
        model=model,
        seed=seed,
        settled=race.settled is True,
        margin=race.margin,
        regret=float(answer_s / true_s.min() - 1),
        over_queried=float(answer_s / true_s[0]),
        seconds=race.measuring_s,
        seconds_by_stage=by_stage,
    )


# --- Report ---------------------------------------------------------------------------------


def judge(trials: Sequence[ModelTrial]) -> list[Goal]:
    """The goals with what was found, for each truth and model."""
    goals = []
    for truth in dict.fromkeys(trial.truth for trial in trials):
        for model in dict.fromkeys(trial.model for trial in trials):
            mine = _select(trials, truth, model)
            settled = [trial for trial in mine if trial.settled]
            false = sum(trial.is_false for trial in settled)
            goals.append(
                Goal(
                    name=f"`{truth}`, `{model}`: falsely settled",
                    wanted=f"≤ {FALSE_GOAL:.0%}",
                    measured=f"{show_share(false, len(settled))}, so less than"
                    f" {highest_share(false, len(settled)):.1%}"
                    if settled
                    else "none settled",
                    met=false <= FALSE_GOAL * len(settled),
                )
            )
            if model == NO_MODEL:
                continue
            empty = _select(trials, truth, NO_MODEL)
            ratio, each = _find_time_ratio(mine, empty), _find_median_ratio(mine, empty)
            wanted = TIME_GOAL if model == "right" else SLOWDOWN_GOAL
            goals.append(
                Goal(
                    name=f"`{truth}`, `{model}`: measuring time over that with no model",
                    wanted=f"≤ {wanted:g}",
                    measured=f"median of windows {each:.2f}, of means {ratio:.2f}",
                    # A mean depends on the few races that last for seconds.
                    met=each <= wanted,
                )
            )
    return goals


def table(trials: Sequence[ModelTrial]) -> list[str]:
    """A Markdown table: one line for each truth and model."""
    heads = ["truth", "model", "races", "settled", "falsely", "regret, mean", "95th percentile"]
    heads += ["slowest over queried", "time, median", "mean", "ratio of means", "ratio, median"]
    stages = ["narrow", "contest", "confirm"]
    heads += [f"{stage}, mean" for stage in stages]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for truth, model in dict.fromkeys((trial.truth, trial.model) for trial in trials):
        mine, empty = _select(trials, truth, model), _select(trials, truth, NO_MODEL)
        regrets, seconds = [t.regret for t in mine], [t.seconds for t in mine]
        cells = [truth, model, str(len(mine)), f"{np.mean([t.settled for t in mine]):.0%}"]
        cells += [str(sum(t.is_false for t in mine)), f"{np.mean(regrets):.2%}"]
        cells += [f"{np.quantile(regrets, 0.95):.2%}"]
        cells += [f"{max(t.over_queried for t in mine):.3f}"]
        cells += [f"{np.median(seconds):.2f} s", f"{np.mean(seconds):.2f} s"]
        cells += [f"{_find_time_ratio(mine, empty):.2f}", f"{_find_median_ratio(mine, empty):.2f}"]
        cells += [
            f"{np.mean([t.seconds_by_stage.get(stage, 0.0) for t in mine]):.2f} s"
            for stage in stages
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _select(trials: Sequence[ModelTrial], truth: str, model: str) -> list[ModelTrial]:
    return [trial for trial in trials if (trial.truth, trial.model) == (truth, model)]


def _find_time_ratio(mine: Sequence[ModelTrial], empty: Sequence[ModelTrial]) -> float:
    return float(np.mean([t.seconds for t in mine]) / np.mean([t.seconds for t in empty]))


def _find_median_ratio(mine: Sequence[ModelTrial], empty: Sequence[ModelTrial]) -> float:
    return float(np.median([a.seconds / b.seconds for a, b in zip(mine, empty, strict=True)]))


# --- Main -----------------------------------------------------------------------------------


def run(
    windows: range, truths: Iterable[str], models: Iterable[str], processes: int
) -> list[ModelTrial]:
    """The races of these models in the windows with these seeds, for each truth."""
    tasks = [(t, model, seed) for t in truths for model in models for seed in windows]
    if processes == 1:
        return [try_race(*task) for task in tasks]
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(try_race, *zip(*tasks, strict=True), chunksize=4))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code, after printing the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=100, help="of each truth")
    parser.add_argument("--seed", type=int, default=0, help="of the first window")
    parser.add_argument("--truths", nargs="+", choices=TRUTHS, default=TRUTHS)
    parser.add_argument("--models", nargs="+", choices=MODELS[1:], default=MODELS[1:])
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, help="folder for the report and the raw figures")
    options = parser.parse_args(arguments)
    if options.windows < 1 or options.seed < 0 or options.processes < 1:
        parser.error("--windows and --processes from 1, --seed from 0")
    header = heading(
        "Races that start from right and wrong models", "benchmarks.synthetic_models", "numpy"
    )
    started = time.perf_counter()
    windows = range(options.seed, options.seed + options.windows)
    trials = run(windows, options.truths, [NO_MODEL, *options.models], options.processes)
    goals = judge(trials)
    notes = [
        f"{options.windows} windows of {SIDE} × {SIDE} points for each truth, seeds from"
        f" {options.seed}; took {(time.perf_counter() - started) / 60:.1f} minutes",
        f"noise {NOISE.scale:.1%} (Student's t, 3 degrees of freedom), {NOISE.spikes:.0%} of calls"
        f" prolonged by {NOISE.spike[0]:.0%} to {NOISE.spike[1]:.0%}, drift ± {NOISE.drift:.0%};"
        f" points differ by {NOISE.process:.1%} from process to process and from page to page",
    ]
    lines = [
        *opening(header, notes, goals),
        "## By truth and model",
        "",
        "*Regret*: true latency of the answer over the window's least, minus 1. *Falsely*: settled"
        " at a margin that is smaller than the regret. *Ratio*: measuring time over that of the"
        " race with no model in the same window. Times of stages are means.",
        "",
        *table(trials),
    ]
    return publish(
        options.out,
        "learned-models-synthetic",
        "\n".join(lines) + "\n",
        header=header,
        notes=notes,
        goals=goals,
        trials=[asdict(trial) for trial in trials],
    )


if __name__ == "__main__":
    sys.exit(main())
