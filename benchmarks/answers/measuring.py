"""The referee's own measuring: ratios of latencies, interleaved, with their intervals."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.answers.machine import measuring_conditions

Dims = tuple[int, int]
"""(out_features, in_features) of a linear layer."""

BATCH = 16
FIRST_DIM, LAST_DIM = 100, 1300
RULES = (4, 8, 16, 32)
"""Rounding rules that are compared with the answers: both dims up to a multiple of this."""
EXTRA_RULES = (64,)
"""Rules that are measured and reported, but not part of a goal."""

ROUNDS_PER_BLOCK = 5
MIN_BLOCKS = 30
"""Fewest seconds before a narrow interval may end a measurement."""
FEWEST_BLOCKS = 6
"""Fewest blocks that have a finite interval: see `median_interval`."""
MIN_SECONDS = 1.0
HALF_WIDTH = 0.002
"""A measurement ends early when half the watched interval is this narrow, in log ratio."""
USABLE_HALF_WIDTH = 0.005
"""A wider interval can't tell 1 % from 0: the measurement goes on, up to LONGEST times as long."""
LONGEST = 3
UNTIMED_CALLS, TIMED_CALLS = 2, 3
LINE_FLOATS = 16
"""float32 elements in a cache line of 64 bytes."""
PAGE_LINES = 64


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


def show(dims: Dims) -> str:
    """`dims` as people write them."""
    return f"{dims[0]},{dims[1]}"


def draw_queries(count: int, seed: int) -> list[Dims]:
    """`count` queries, both dims uniform from FIRST_DIM to LAST_DIM inclusive."""
    rng = random.Random(seed)
    return [
        (rng.randint(FIRST_DIM, LAST_DIM), rng.randint(FIRST_DIM, LAST_DIM)) for _ in range(count)
    ]


def round_up(dims: Dims, multiple: int) -> Dims:
    """`dims`, each raised to the next multiple of `multiple`."""
    out_features, in_features = (-(-dim // multiple) * multiple for dim in dims)
    return out_features, in_features


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


def measure(
    dims: Dims,
    candidates: Mapping[str, Dims],
    *,
    watch: Sequence[str],
    max_seconds: float,
    seed: int,
    threads: int,
    cpus: int,
) -> Measurement:
    """Ratios of all candidates to `dims`, from rounds that visit each once in random order.

    Every block of rounds has newly placed operands, so that placement averages out. For the
    statistics, a block is one value, because its rounds share their placement. Ends when the
    intervals of the candidates `watch` are narrow, or after `max_seconds`, or after LONGEST times
    that if the intervals are still too wide to be useful. Candidates of equal dims share one
    measurement, and those equal to `dims` are 1 by definition. Only `control` is always a separate
    copy.
    """
    rng = random.Random(seed)
    # Points to visit: `dims` first, then each distinct candidate.
    points = [dims]
    position: dict[str, int] = {}
    for name, candidate in candidates.items():
        if name == "control" or candidate not in points:
            points.append(candidate)
            position[name] = len(points) - 1
        else:
            position[name] = points.index(candidate)
    watched = [position[name] for name in watch]
    largest = max(out * inner for out, inner in [*points, *((BATCH, p[1]) for p in points)])
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(largest, generator=generator)

    block_logs: list[npt.NDArray[np.float64]] = []
    own_times_ns: list[int] = []
    operands: list[tuple[torch.Tensor, torch.Tensor]] = []
    with measuring_conditions(threads=threads, cpus=cpus):
        started = time.perf_counter()
        next_check_s = min(MIN_SECONDS, max_seconds)
        while True:
            # The old operands exist until the new ones are made, so they can't be at the same
            # place.
            placed = {}
            for index in rng.sample(range(len(points)), len(points)):
                out_features, in_features = points[index]
                placed[index] = (
                    _placed(values, (BATCH, in_features), rng),
                    _placed(values, (out_features, in_features), rng),
                )
            operands = [placed[index] for index in range(len(points))]
            times_ns = np.empty((ROUNDS_PER_BLOCK, len(points)))
            for row in times_ns:
                for index in rng.sample(range(len(points)), len(points)):
                    row[index] = _visit(*operands[index])
            own_times_ns.extend(int(t) for t in times_ns[:, 0])
            logs = np.log(times_ns)
            block_logs.append(np.median(logs - logs[:, :1], axis=0))

            elapsed = time.perf_counter() - started
            if elapsed < next_check_s or len(block_logs) < FEWEST_BLOCKS:
                continue
            next_check_s = elapsed + 0.25
            width = max(_half_width(block_logs, index) for index in watched)
            if elapsed >= max_seconds:
                if width < USABLE_HALF_WIDTH or elapsed >= LONGEST * max_seconds:
                    break
            elif len(block_logs) >= MIN_BLOCKS and width < HALF_WIDTH:
                break
    columns = np.array(block_logs)
    blocks = {name: [float(v) for v in columns[:, i]] for name, i in position.items()}
    return Measurement(
        ratios={name: ratio_of_blocks(candidates[name], blocks[name]) for name in candidates},
        latency_s=float(np.median(own_times_ns)) * 1e-9,
        blocks=blocks,
        num_rounds=len(own_times_ns),
        seconds=elapsed,
    )


def referee(
    dims: Dims, answer: Dims, *, max_seconds: float, seed: int, threads: int, cpus: int
) -> Measurement:
    """The ratios of the answer, of every rounding rule and of a second copy of `dims`."""
    candidates = {"answer": answer, "control": dims}
    candidates |= {f"up{rule}": round_up(dims, rule) for rule in (*RULES, *EXTRA_RULES)}
    return measure(
        dims,
        candidates,
        watch=["answer", "control"],
        max_seconds=max_seconds,
        seed=seed,
        threads=threads,
        cpus=cpus,
    )


def _placed(values: torch.Tensor, shape: Dims, rng: random.Random) -> torch.Tensor:
    """A new tensor of `shape`, starting at a random cache line of a page."""
    size = shape[0] * shape[1]
    place = rng.randrange(PAGE_LINES) * LINE_FLOATS
    room = torch.empty(size + PAGE_LINES * LINE_FLOATS)
    return room[place : place + size].copy_(values[:size]).view(shape)


def _visit(x: torch.Tensor, weight: torch.Tensor) -> int:
    """Median time of the timed calls, nanoseconds."""
    linear, now = torch.nn.functional.linear, time.perf_counter_ns
    for _ in range(UNTIMED_CALLS):
        linear(x, weight)
    times = []
    for _ in range(TIMED_CALLS):
        start = now()
        linear(x, weight)
        times.append(now() - start)
    return sorted(times)[TIMED_CALLS // 2]


def _half_width(block_logs: Sequence[npt.NDArray[np.float64]], index: int) -> float:
    low, high = median_interval([float(block[index]) for block in block_logs])
    return (high - low) / 2
