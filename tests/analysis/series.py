"""Simulated series of visits to a few points, on a host that jumps between states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.neighbours import Ints, Levels, NearPair, Neighbours, fit_levels

TRUTH = 0.03
"""The log ratio of point 0 to any other point in simulated series."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """Visits in order of time; arrays [samples]. Every round has every point of a field once."""

    point: Ints
    round_number: Ints
    batch: Ints
    value: F64

    def pair(self, first: int, second: int) -> NearPair:
        """Both points alone; the visits to others lie between theirs."""
        visit = np.flatnonzero(np.isin(self.point, [first, second]))
        return NearPair(
            self.value[visit],
            self.point[visit] == first,
            self.round_number[visit],
            Neighbours(self.batch[visit], visit),
        )

    def ratios(self, first: int, second: int) -> F64:
        """The log ratio of each round."""
        ratios: F64 = self.value[self.point == first] - self.value[self.point == second]
        return ratios

    def levels(self) -> Levels:
        near = Neighbours(self.batch, np.arange(len(self.batch)))
        return fit_levels(self.value, self.point, self.round_number, near)


def order_rounds(fields: Sequence[Sequence[int]], rng: np.random.Generator) -> Series:
    """One round of each field, all of one batch, without any noise or effect."""
    point = np.concatenate([rng.permutation(field) for field in fields])
    return Series(
        point=point.astype(np.intp),
        round_number=np.repeat(np.arange(len(fields)), [len(field) for field in fields]),
        batch=np.zeros(len(point), dtype=np.intp),
        value=np.zeros(len(point)),
    )


def draw_states(
    count: int, rng: np.random.Generator, *, visits: tuple[int, int], correlation: float
) -> F64:
    """Levels of ± 20 % that the host jumps between, each for so many visits."""
    lengths = rng.integers(visits[0], visits[1] + 1, count)
    states, state = [], 0.0
    for fresh in rng.uniform(-0.2, 0.2, count).tolist():
        state = correlation * state + math.sqrt(1 - correlation**2) * fresh
        states.append(state)
    drawn: F64 = np.repeat(states, lengths)[:count]
    return drawn


def simulate(
    seed: int,
    *,
    points: int = 3,
    rounds: int = 40,
    visits: tuple[int, int] = (5, 40),
    correlation: float = 0.0,
    noise: float = 0.01,
) -> Series:
    """Noise of 1 %, three spikes in a hundred visits, and a host that jumps between states."""
    rng = np.random.default_rng(seed)
    series = order_rounds([range(points)] * rounds, rng)
    count = len(series.point)
    value = np.where(series.point == 0, TRUTH, 0.0) + noise * rng.standard_normal(count)
    value += draw_states(count, rng, visits=visits, correlation=correlation)
    value += rng.uniform(0.1, 0.6, count) * (rng.random(count) < 0.03)
    return replace(series, value=value)


def rms(errors: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))
