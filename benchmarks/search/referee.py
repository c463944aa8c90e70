"""The referee of a race: its own measurements of a window, once the race is over."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.benchmark import Timer

from benchmarks.answers.machine import measuring_conditions
from benchmarks.answers.measuring import BATCH, LINE_FLOATS, PAGE_LINES, Dims, measure, round_up
from benchmarks.contender import Race
from benchmarks.race_verdict import ALL_RULES, F64, RaceVerdict, window

AUTORANGE_POINTS = 12
SCREEN_ROUNDS = 5
SEMIFINAL_ROUNDS = 25
SEMIFINALISTS, OTHERS = 48, 16
FINALISTS = 10
FINAL_S = 4.0
"""The final measurement takes up to three times as long if it is too noisy."""


@dataclass(frozen=True, kw_only=True)
class Verdict(RaceVerdict):
    """One query: its races, and the referee's measurements.

    The `answer` in `measurement` is that of the first race, `again1` and so on are those of its
    repetitions.
    """

    races: tuple[Race, ...]
    each_once_s: float
    """Sum of one call at every point of the window."""
    autorange_s: float
    """The time that `blocked_autorange` with its defaults needs for the window, extrapolated."""

    @property
    def share_of_each_once(self) -> float:
        """Measuring time of the first race divided by that of calling each point once."""
        return self.races[0].measuring_s / self.each_once_s

    @property
    def times_autorange(self) -> float:
        """The time that PyTorch's timer would need, divided by the first race's measuring time."""
        return self.autorange_s / self.races[0].measuring_s


class Pool:
    """Memory for the operands of thousands of points, which are views at random cache lines."""

    def __init__(self, largest: Dims, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        room = PAGE_LINES * LINE_FLOATS
        self._rng = random.Random(seed)
        self._inputs = torch.randn(BATCH * largest[1] + room, generator=generator)
        self._weights = torch.randn(largest[0] * largest[1] + room, generator=generator)

    def place(self, dims: Dims) -> tuple[torch.Tensor, torch.Tensor]:
        """Input [BATCH, in] and weight [out, in] of the layer `dims`, newly placed."""
        return self._view(self._inputs, BATCH, dims[1]), self._view(self._weights, *dims)

    def _view(self, memory: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        start = self._rng.randrange(PAGE_LINES) * LINE_FLOATS
        return memory[start : start + rows * columns].view(rows, columns)


def time_round(points: Sequence[Dims], pool: Pool, rng: random.Random, untimed_calls: int) -> F64:
    """Seconds of one call at each point, visited in random order; float64 [points]."""
    linear, now = torch.nn.functional.linear, time.perf_counter
    times_s = np.empty(len(points))
    for index in rng.sample(range(len(points)), len(points)):
        x, weight = pool.place(points[index])
        for _ in range(untimed_calls):
            linear(x, weight)
        start = now()
        linear(x, weight)
        times_s[index] = now() - start
    return times_s


def find_fastest(points: Sequence[Dims], times_s: F64, count: int) -> list[Dims]:
    """The `count` points of smallest median over the rounds, fastest first.

    `times_s` is float64 [rounds, points].
    """
    order = np.argsort(np.median(times_s, axis=0), kind="stable")
    return [points[index] for index in order[:count]]


def find_rivals(
    dims: Dims, side: int, answers: Sequence[Dims], pool: Pool, rng: random.Random
) -> list[Dims]:
    """The referee's own fastest points of the window, fastest first.

    All points are measured in a few rounds. Then the best of them, the answers, the queried point
    and some others drawn at random are measured in many rounds.
    """

    def times_of(points: Sequence[Dims], rounds: int) -> F64:
        return np.array([time_round(points, pool, rng, 1) for _ in range(rounds)])

    points = window(dims, side)
    field = find_fastest(points, times_of(points, SCREEN_ROUNDS), SEMIFINALISTS)
    field += [*answers, dims]
    rest = sorted(set(points) - set(field))
    field = list(dict.fromkeys(field)) + rng.sample(rest, min(OTHERS, len(rest)))
    return find_fastest(field, times_of(field, SEMIFINAL_ROUNDS), FINALISTS)


def autorange_seconds(
    points: Sequence[Dims], pool: Pool, rng: random.Random, *, threads: int
) -> float:
    """The time of `blocked_autorange` with its defaults for all points, from a sample of them."""
    sample = rng.sample(points, min(AUTORANGE_POINTS, len(points)))
    spent_s = 0.0
    for dims in sample:
        x, weight = pool.place(dims)
        names = {"linear": torch.nn.functional.linear, "x": x, "weight": weight}
        timer = Timer("linear(x, weight)", globals=names, num_threads=threads)
        start = time.perf_counter()
        timer.blocked_autorange()
        spent_s += time.perf_counter() - start
    return spent_s / len(sample) * len(points)


def name_candidates(dims: Dims, answers: Sequence[Dims], rivals: Sequence[Dims]) -> dict[str, Dims]:
    """The candidates of the final measurement, by name: see `Verdict`."""
    candidates = {"answer": answers[0], "control": dims}
    candidates |= {f"rival{n}": rival for n, rival in enumerate(rivals, start=1)}
    candidates |= {f"again{n}": answer for n, answer in enumerate(answers[1:], start=1)}
    return candidates | {f"up{rule}": round_up(dims, rule) for rule in ALL_RULES}


def judge_query(
    dims: Dims, races: Sequence[Race], *, side: int, seed: int, threads: int, cpus: int
) -> Verdict:
    """The referee's measurements of one query."""
    answers = [race.answer for race in races]
    points = window(dims, side)
    rng = random.Random(seed)
    pool = Pool(points[-1], seed)
    with measuring_conditions(threads=threads, cpus=cpus):
        # Warms up the process. This must not count as calling each point.
        for _ in range(3):
            time_round(points[:1], pool, rng, 0)
        each_once_s = float(time_round(points, pool, rng, 0).sum())
        autorange_s = autorange_seconds(points, pool, rng, threads=threads)
        rivals = find_rivals(dims, side, answers, pool, rng)
    measurement = measure(
        dims,
        name_candidates(dims, answers, rivals),
        watch=["answer", "rival1", "control"],
        max_seconds=FINAL_S,
        seed=seed,
        threads=threads,
        cpus=cpus,
    )
    return Verdict(
        dims=dims,
        races=tuple(races),
        each_once_s=each_once_s,
        autorange_s=autorange_s,
        measurement=measurement,
    )
