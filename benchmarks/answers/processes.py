"""The referee's measurement of a query: several processes, one at a time.

Pages and layout differ from process to process, and with them a ratio of latencies. So each process
gives one value, and the referee's error comes from the spread of these values.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from typing import Any, ParamSpec, Self, TypeVar

import numpy as np

from benchmarks.answers.dims import RULES, Dims, round_up, window_end
from benchmarks.answers.machine import RefereeError
from benchmarks.answers.measuring import Turn, find_rivals, measure_turn
from benchmarks.answers.statistics import F64, Ratio, noise_of_median, ratio_of

P = ParamSpec("P")
T = TypeVar("T")

PROCESSES = 6
RENEW_AFTER = 10
"""Queries after which all processes are replaced by new ones."""
TURNS = 2
"""Turns of each process for one query, so that a slow change of the host doesn't look like a
difference between processes."""
RIVALS = 4
SEARCH_S = 1.5


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What the referee measured around one query.

    `points` begins with the queried point and a copy of it, the control. All others are distinct.
    """

    points: tuple[Dims, ...]
    logs: tuple[tuple[tuple[float, ...], ...], ...]
    """[processes, blocks, points]: log ratios to the queried point."""
    latency_s: float
    """Median latency of a call at the queried point."""
    spread: float
    """Standard deviation of the log ratio of two single calls of equal points."""

    def ratio(self, dims: Dims, to: Dims) -> Ratio:
        """Latency of a point divided by that of another; both were measured."""
        return ratio_of(self.values(dims, to))

    def control(self) -> Ratio:
        """The queried point's copy divided by itself."""
        return ratio_of(self._medians(1, 0))

    def values(self, dims: Dims, to: Dims) -> F64:
        """Log ratio of two points, [processes]."""
        return self._medians(self._find(dims), self._find(to))

    def noise(self, dims: Dims, to: Dims) -> float:
        """Variance of such a value within a process, averaged over the processes."""
        first, second = self._find(dims), self._find(to)
        return float(np.mean([noise_of_median(b[:, first] - b[:, second]) for b in self._blocks()]))

    def _medians(self, first: int, second: int) -> F64:
        return np.array([np.median(b[:, first] - b[:, second]) for b in self._blocks()])

    def _blocks(self) -> Iterator[F64]:
        return (np.array(blocks) for blocks in self.logs)

    def _find(self, dims: Dims) -> int:
        return self.points.index(dims)

    def to_json(self) -> dict[str, Any]:
        """The raw figures, JSON-ready."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            points=tuple((int(out), int(inner)) for out, inner in raw["points"]),
            logs=tuple(tuple(tuple(block) for block in process) for process in raw["logs"]),
            latency_s=raw["latency_s"],
            spread=raw["spread"],
        )


class Referee:
    """Measures queries. Use `open_referee`, which ends the processes."""

    def __init__(self, *, seconds: float, seed: int, processes: int) -> None:
        self._seconds = seconds
        self._rng = random.Random(seed)
        self._count = processes
        self._num_queries = 0
        self._stack = contextlib.ExitStack()
        self._processes: list[ProcessPoolExecutor] = []

    def close(self) -> None:
        """Ends all processes."""
        self._stack.close()
        self._processes = []

    def judge(
        self,
        dims: Dims,
        answers: Sequence[Dims],
        *,
        threads: int,
        cpus: int,
        below: float | None = None,
    ) -> Measurement:
        """Ratios of the answers, of the rounding rules, and of the best points of its own search.

        With `below`, of points of smaller growth only, and without the rules.
        """
        self._renew()
        own = self._call(
            self._rng.choice(self._processes),
            find_rivals,
            dims,
            window_end(dims),
            count=RIVALS,
            seconds=SEARCH_S,
            seed=self._rng.randrange(1 << 32),
            threads=threads,
            cpus=cpus,
            **({} if below is None else {"below": below}),
        )
        rules = [round_up(dims, rule) for rule in RULES] if below is None else []
        others = dict.fromkeys([*answers, *own, *rules])
        points = [dims, dims, *(point for point in others if point != dims)]
        return self.measure(points, threads=threads, cpus=cpus)

    def measure(self, points: Sequence[Dims], *, threads: int, cpus: int) -> Measurement:
        """Ratios to the first point, of which the second is a copy; every process takes part."""
        self._renew(counts=False)
        turns: list[list[Turn]] = [[] for _ in self._processes]
        for _ in range(TURNS):
            for index in self._rng.sample(range(self._count), self._count):
                turn = self._call(
                    self._processes[index],
                    measure_turn,
                    points,
                    seconds=self._seconds / self._count / TURNS,
                    seed=self._rng.randrange(1 << 32),
                    threads=threads,
                    cpus=cpus,
                )
                turns[index].append(turn)
        every = list(itertools.chain(*turns))
        return Measurement(
            points=tuple(points),
            logs=tuple(
                tuple(tuple(block) for turn in process for block in turn.logs) for process in turns
            ),
            latency_s=float(np.median([turn.latency_s for turn in every])),
            spread=float(np.median([turn.spread for turn in every])),
        )

    def _renew(self, *, counts: bool = True) -> None:
        """Starts the processes, or new ones after RENEW_AFTER queries."""
        if not self._processes or (counts and self._num_queries % RENEW_AFTER == 0):
            self.close()
            context = multiprocessing.get_context("spawn")
            self._processes = [
                self._stack.enter_context(ProcessPoolExecutor(1, mp_context=context))
                for _ in range(self._count)
            ]
        self._num_queries += counts

    def _call(
        self,
        process: ProcessPoolExecutor,
        task: Callable[P, T],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> T:
        try:
            return process.submit(task, *arguments, **options).result()
        except BrokenProcessPool as error:
            raise RefereeError("a process of the referee has died") from error


@contextlib.contextmanager
def open_referee(*, seconds: float, seed: int, processes: int = PROCESSES) -> Iterator[Referee]:
    """A referee that measures for about `seconds` a query, beside SEARCH_S for its own search."""
    referee = Referee(seconds=seconds, seed=seed, processes=processes)
    try:
        yield referee
    finally:
        referee.close()
