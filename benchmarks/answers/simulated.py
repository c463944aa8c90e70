"""Verdicts on simulated races, whose truth is known: see `benchmarks.synthetic_settling`."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.answers.machine import RefereeError, redact
from benchmarks.answers.statistics import highest_share
from benchmarks.answers.verdicts import Goal, show_share

FALSE_MOVES_GOAL, FALSE_SETTLED_GOAL = 0.01, 0.05
NOISES = ("independent", "drift", "processes")
TRUTHS = ("equal", "rows", "few", "lone")
"""All points equally fast; a sixteenth of the rows a little faster; one point a little faster, of
few points or of many."""
SCENARIOS = tuple(f"{truth}, {noise}" for truth in TRUTHS for noise in NOISES)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One simulated race."""

    seed: int
    gain: float
    """How much faster the planted points are than all others; 0 if none are planted."""
    moved: bool
    """Whether the answer isn't the queried point."""
    over_best: float
    """True latency of the answer divided by that of the fastest point, minus 1."""
    settled: bool | None
    margin: float | None
    unseen_risk: float | None
    seconds: float

    @property
    def claims_less(self) -> bool:
        """Whether it says that nothing larger is faster by as little as the planted gain."""
        return self.settled is True and self.margin is not None and self.margin < self.gain

    @property
    def is_false(self) -> bool:
        """Whether it says so, and the answer is slower than the best by more than its margin."""
        return self.claims_less and self.margin is not None and self.over_best > self.margin


def judge_noise(outcomes: Mapping[str, Sequence[Outcome]]) -> list[Goal]:
    """Whether noise alone moves answers, and whether settled races are right."""
    return [_judge(name, found) for name, found in outcomes.items() if found]


def _judge(name: str, found: Sequence[Outcome]) -> Goal:
    truth, noise = name.split(", ")
    settled = sum(outcome.settled is True for outcome in found)
    if truth == "equal":
        moved = sum(outcome.moved for outcome in found)
        return Goal(
            name=f"simulated, noise only ({noise}): false moves",
            wanted=f"≤ {FALSE_MOVES_GOAL:.0%}",
            measured=f"{show_share(moved, len(found))}, so less than"
            f" {highest_share(moved, len(found)):.1%}; {settled} settled",
            met=moved <= FALSE_MOVES_GOAL * len(found),
        )
    claims = [outcome for outcome in found if outcome.claims_less]
    false = sum(outcome.is_false for outcome in claims)
    best = sum(outcome.over_best == 0 for outcome in found)
    measured = (
        f"{show_share(false, len(claims))} of those that said so"
        if claims
        else f"none of {len(found)} said so"
    )
    risks = [outcome.unseen_risk for outcome in claims if outcome.unseen_risk is not None]
    if risks:
        measured += f" (they name a risk of {np.mean(risks):.1%} for points never compared)"
    return Goal(
        name=f"simulated, {truth} 0.6 to 1.0 % faster ({noise}): settled at a smaller margin,"
        " falsely",
        wanted=f"≤ {FALSE_SETTLED_GOAL:.0%}",
        measured=f"{measured}; {settled} of {len(found)} settled, {best} found the best",
        # A lone point is seldom visited: that is what the named risk is for.
        met=None if truth == "lone" or not claims else false <= FALSE_SETTLED_GOAL * len(claims),
    )


def simulate(scenario: str, seeds: range) -> list[dict[str, Any]]:
    """The outcomes of these races, from processes of their own, which run the service's planner.

    Raises RefereeError if one fails.
    """
    parts = len(os.sched_getaffinity(0))
    bounds = np.linspace(seeds.start, seeds.stop, parts + 1).astype(int).tolist()
    with ThreadPoolExecutor(parts) as pool:
        found = pool.map(lambda part: _simulate(scenario, *part), itertools.pairwise(bounds))
        return list(itertools.chain(*found))


def _simulate(scenario: str, first: int, stop: int) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.synthetic_settling", scenario, str(first), str(stop)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RefereeError(f"the simulation failed:\n{redact(done.stderr[-2000:])}")
    outcomes: list[dict[str, Any]] = json.loads(done.stdout)
    return outcomes
