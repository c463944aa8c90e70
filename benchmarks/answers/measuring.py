"""What one process of the referee measures: interleaved rounds, and a search of its own.

Torch only. The processes are started in `benchmarks.answers.processes`.
"""

from __future__ import annotations

import mmap
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.answers.dims import BATCH, Dims, growth, round_up
from benchmarks.answers.machine import measuring_conditions

F64 = npt.NDArray[np.float64]

ROUNDS_PER_BLOCK = 3
FEWEST_BLOCKS = 2
"""Of one turn of a process, however short its time is."""
UNTIMED_CALLS, TIMED_CALLS = 2, 3
LINE_FLOATS = 16
"""float32 elements in a cache line of 64 bytes."""
PAGE_LINES = 64

CHOICES = 30
"""Most rows, and most columns, that the search looks at."""
PARTNERS = 4
"""Columns that the search visits each row with, and rows that it visits each column with."""
ODD_CHOICES = 3
"""Rows and columns that are drawn at random, besides the multiples."""
PREDICTED, SEEN, SEMIFINALISTS = 24, 8, 10
FEWEST_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one process measured in one turn."""

    logs: list[list[float]]
    """[blocks, points]: each block's median log ratio to the first point."""
    latency_s: float
    """Median latency of a call of the first point."""
    spread: float
    """Standard deviation of the log ratio of single calls of the first and of the second point,
    from the median absolute deviation."""


def measure_turn(
    points: Sequence[Dims], *, seconds: float, seed: int, threads: int, cpus: int
) -> Turn:
    """Blocks of rounds, each round visiting every point once in random order.

    Every block has newly mapped memory for all operands: a ratio depends on their pages, too. For
    the statistics a block is one value, because its rounds share their pages. Points may be equal;
    each has operands of its own. The second point must be a copy of the first.
    """
    rng = random.Random(seed)
    values = torch.randn(max(max(p[0], BATCH) * p[1] for p in points))
    logs: list[F64] = []
    latencies_s: list[float] = []
    singles: list[float] = []
    with measuring_conditions(threads=threads, cpus=cpus):
        started = time.perf_counter()
        while time.perf_counter() - started < seconds or len(logs) < FEWEST_BLOCKS:
            operands = [(_map(values, (BATCH, p[1]), rng), _map(values, p, rng)) for p in points]
            times_s = np.empty((ROUNDS_PER_BLOCK, len(points), TIMED_CALLS))
            for visits in times_s:
                for index in rng.sample(range(len(points)), len(points)):
                    visits[index] = _visit(*operands[index])
            medians = np.log(np.median(times_s, axis=2))
            logs.append(np.median(medians - medians[:, :1], axis=0))
            latencies_s.extend(np.exp(medians[:, 0]))
            singles.extend(np.log(times_s[:, 1, 0] / times_s[:, 0, 0]))
    return Turn(
        logs=[[round(float(log), 6) for log in block] for block in logs],
        latency_s=float(np.median(latencies_s)),
        spread=1.4826 * float(np.median(np.abs(np.array(singles) - np.median(singles)))),
    )


def _map(values: torch.Tensor, shape: Dims, rng: random.Random) -> torch.Tensor:
    """A new tensor in pages of its own, starting at a random cache line of the first."""
    size, place = shape[0] * shape[1], rng.randrange(PAGE_LINES) * LINE_FLOATS
    pages = torch.frombuffer(mmap.mmap(-1, 4 * (place + size)), dtype=torch.float32)
    return pages[place:].view(shape).copy_(values[:size].view(shape))


def _visit(x: torch.Tensor, weight: torch.Tensor) -> list[float]:
    """Seconds of each timed call."""
    linear, now = torch.nn.functional.linear, time.perf_counter
    for _ in range(UNTIMED_CALLS):
        linear(x, weight)
    times_s = []
    for _ in range(TIMED_CALLS):
        start = now()
        linear(x, weight)
        times_s.append(now() - start)
    return times_s


# --- The search -----------------------------------------------------------------------------


class Pool:
    """Memory for the operands of thousands of points, which are views at random cache lines."""

    def __init__(self, largest: Dims, rng: random.Random) -> None:
        room = PAGE_LINES * LINE_FLOATS
        self._rng = rng
        self._inputs = torch.randn(BATCH * largest[1] + room)
        self._weights = torch.randn(largest[0] * largest[1] + room)

    def place(self, dims: Dims) -> tuple[torch.Tensor, torch.Tensor]:
        """Input [BATCH, in] and weight [out, in] of the layer `dims`, newly placed."""
        return self._view(self._inputs, (BATCH, dims[1])), self._view(self._weights, dims)

    def _view(self, memory: torch.Tensor, shape: Dims) -> torch.Tensor:
        start = self._rng.randrange(PAGE_LINES) * LINE_FLOATS
        return memory[start : start + shape[0] * shape[1]].view(shape)


def time_round(points: Sequence[Dims], pool: Pool, rng: random.Random) -> F64:
    """Seconds of one call at each point, visited in random order; float64 [points]."""
    linear, now = torch.nn.functional.linear, time.perf_counter
    times_s = np.empty(len(points))
    for index in rng.sample(range(len(points)), len(points)):
        x, weight = pool.place(points[index])
        linear(x, weight)
        start = now()
        linear(x, weight)
        times_s[index] = now() - start
    return times_s


def choose_positions(first: int, last: int, rng: random.Random) -> list[int]:
    """The dims of one axis that the search looks at, ascending, at most CHOICES.

    The first, its next multiples of powers of two, further multiples of eight, and some others.
    """
    near = {first, *(round_up((first, first), 2**power)[0] for power in range(1, 7))}
    near |= {rng.randint(first, last) for _ in range(ODD_CHOICES)}
    near = {dim for dim in near if dim <= last}
    eights = sorted({*range(-(-first // 8) * 8, last + 1, 8)} - near)
    return sorted({*near, *rng.sample(eights, min(len(eights), CHOICES - len(near)))})


def predict(points: Sequence[Dims], logs: F64, among: Sequence[Dims]) -> F64:
    """Log latencies of the points `among`, from a fit with one effect a row and one a column.

    `logs` [points] are what was seen. Every row and column of `among` must be among them.
    """
    rows = {row: index for index, row in enumerate(sorted({p[0] for p in points}))}
    columns = {c: index + len(rows) for index, c in enumerate(sorted({p[1] for p in points}))}

    def design(chosen: Sequence[Dims]) -> F64:
        matrix = np.zeros((len(chosen), len(rows) + len(columns)))
        for line, (row, column) in zip(matrix, chosen, strict=True):
            line[[rows[row], columns[column]]] = 1
        return matrix

    effects = np.linalg.lstsq(design(points), logs, rcond=None)[0]
    found: F64 = design(among) @ effects
    return found


def find_fastest(points: Sequence[Dims], logs: F64, count: int) -> list[Dims]:
    """The `count` points of smallest log latency [points], fastest first."""
    return [points[index] for index in np.argsort(logs, kind="stable")[:count]]


def find_rivals(
    asked: Dims,
    last: Dims,
    *,
    count: int,
    seconds: float,
    seed: int,
    threads: int,
    cpus: int,
    below: float = np.inf,
) -> list[Dims]:
    """The referee's own fastest points from `asked` to `last`, fastest first, without `asked`.

    Only points whose growth is smaller than `below`. A third of the time each for: some points of
    every promising row and column; those that an additive fit of these ranks first, and the fastest
    seen; the best of these.
    """
    rng = random.Random(seed)
    rows, columns = (choose_positions(a, b, rng) for a, b in zip(asked, last, strict=True))
    every = [(r, c) for r in rows for c in columns if 0 < growth(asked, (r, c)) < below]
    if len(every) <= count:
        return every
    sampled = {point for r in rows for point in _sample(every, 0, r, rng)}
    sampled |= {point for c in columns for point in _sample(every, 1, c, rng)}
    field = sorted(sampled)
    with measuring_conditions(threads=threads, cpus=cpus):
        pool = Pool(last, rng)

        def look(points: Sequence[Dims]) -> F64:
            """Median log latencies; float64 [points]."""
            started = time.perf_counter()
            rounds: list[F64] = []
            while time.perf_counter() - started < seconds / 3 or len(rounds) < FEWEST_ROUNDS:
                rounds.append(time_round(points, pool, rng))
            return np.log(np.median(rounds, axis=0))

        time_round(field[:1], pool, rng)
        logs = look(field)
        field = list(
            dict.fromkeys(
                [
                    *find_fastest(every, predict(field, logs, every), PREDICTED),
                    *find_fastest(field, logs, SEEN),
                ]
            )
        )
        field = find_fastest(field, look(field), SEMIFINALISTS)
        return find_fastest(field, look(field), count)


def _sample(points: Sequence[Dims], axis: int, position: int, rng: random.Random) -> list[Dims]:
    """PARTNERS points at this position of the axis."""
    there = [point for point in points if point[axis] == position]
    return rng.sample(there, min(PARTNERS, len(there)))
