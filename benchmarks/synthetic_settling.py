"""Simulated races of short calls: do noise and drift move answers, and is "settled" right?

    python -m benchmarks.synthetic_settling "rows, processes" 0 20

Prints the outcomes of the races of seeds 0 to 19 as JSON. `python -m benchmarks.answers` runs all
scenarios and judges them. A scenario is a truth and a kind of noise.

Truths, over windows of 48 × 48 points of 20 to 500 µs: `equal`, all points are equally fast;
`rows`, every multiple of 16 of the first dim is 0.6 to 1.0 % faster; `lone`, one point is; `few`,
one point is in a window of 8 × 8, where every point can be visited often. Noises:
`independent`, of heavy tails (1.7 %), with spikes; `drift`, with a slow wave of 3 % besides;
`processes`, where a ratio of latencies also differs by 0.4 % (one standard deviation) between two
measuring processes on different pages.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np

from benchmarks.answers.dims import FIRST_DIM, LAST_DIM, Dims
from benchmarks.answers.simulated import SCENARIOS, Outcome
from benchmarks.race_verdict import F64
from benchmarks.synthetic_device import Device, Noise, race_on

SIDE, FEW = 48, 8
LATENCY_S = (20e-6, 500e-6)
GAIN = (0.006, 0.010)
STEP = 16
QUIET = Noise(scale=0.01, spikes=0.02, first_call=0.0, drift=0.0)
NOISES: Mapping[str, Noise] = {
    "independent": QUIET,
    "drift": replace(QUIET, drift=0.03, drift_period_s=0.7),
    # Four independent effects on a ratio: 0.2 % · √4 = 0.4 %.
    "processes": replace(QUIET, process=0.002, pages=0.002),
}


def side_of(truth: str) -> int:
    """Points of the window on each axis."""
    return FEW if truth == "few" else SIDE


def plant(truth: str, dims: Dims, gain: float, rng: np.random.Generator) -> F64:
    """True latencies of the window, [points] row-major, relative to those that aren't planted."""
    side = side_of(truth)
    is_fast = np.zeros((side, side), dtype=np.bool_)
    if truth == "rows":
        is_fast[(dims[0] + np.arange(SIDE)) % STEP == 0] = True
    elif truth != "equal":
        is_fast[tuple(rng.integers(1, side, size=2))] = True
    latency: F64 = np.where(is_fast, 1 / (1 + gain), 1.0).ravel()
    return latency


def try_race(scenario: str, seed: int) -> Outcome:
    """One race of a scenario, judged by the true latencies."""
    truth, noise = scenario.split(", ")
    rng = np.random.default_rng([seed, SCENARIOS.index(scenario)])
    # Never a multiple of STEP, which would be the fastest itself.
    first = int(rng.integers(FIRST_DIM, LAST_DIM)) // STEP * STEP + int(rng.integers(1, STEP))
    dims = (first, int(rng.integers(FIRST_DIM, LAST_DIM)))
    gain = 0.0 if truth == "equal" else float(rng.uniform(*GAIN))
    relative = plant(truth, dims, gain, rng)
    latency_s = float(np.exp(rng.uniform(*np.log(LATENCY_S))))
    device = Device(relative * latency_s, NOISES[noise], seed=int(rng.integers(1 << 32)))
    side = side_of(truth)
    race = race_on(device, "linear", dims, side, seed)
    answer = relative.reshape(side, side)[race.answer[0] - dims[0], race.answer[1] - dims[1]]
    return Outcome(
        seed=seed,
        gain=gain,
        moved=race.answer != dims,
        over_best=float(answer / relative.min() - 1),
        settled=race.settled,
        margin=race.margin,
        unseen_risk=race.unseen_risk,
        seconds=race.measuring_s,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code, after printing the outcomes."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) != 3 or given[0] not in SCENARIOS:
        print(f"{__doc__}\nscenarios: {SCENARIOS}", file=sys.stderr)
        return 2
    outcomes = [try_race(given[0], seed) for seed in range(int(given[1]), int(given[2]))]
    print(json.dumps([asdict(outcome) for outcome in outcomes]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
