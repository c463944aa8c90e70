"""Races whole models against each other in this process, end to end, and judges on fresh samples.

Knows neither layers nor the service.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from profiler_service.analysis.comparison import Comparison, compare
from profiler_service.errors import InvalidRequestError

F64 = npt.NDArray[np.float64]

Prepare = Callable[[], Callable[[], object]]
"""Makes a call of a model whose weights lie in new memory."""

WARMUP_CALLS = 2
"""Calls of a model before it is timed in a block: kernels are chosen and memory is fetched."""
BLOCK_ROUNDS = 5
"""Rounds with the same memory. Their median is one sample: where weights lie changes latencies by
some tenths of a percent, and more rounds of the same would tell that more exactly, not less."""
MIN_BLOCKS = 6
"""Fewest blocks that can judge: a sign test of fewer pairs has no interval at 95 %."""
KEPT_SHARE = 0.5
"""After a block of the contest, so large a share of the models stays, until two are left."""
CONTEST_SHARE = 0.5
"""Share of the time in which the model is chosen. The rest judges it."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a race went."""

    chosen: str
    """The model that was fastest in the contest."""
    comparison: Comparison
    """The chosen one's latency against the reference's, on samples that had no part in choosing."""
    reference_s: float
    """Median latency of the reference, seconds per call."""
    chosen_s: float
    medians: Mapping[str, float]
    """Each model's latency against the reference's, from the contest: only to look at."""


def race(
    models: Mapping[str, Prepare],
    *,
    reference: str,
    time_s: float,
    rng: random.Random | None = None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    take_turn: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
) -> Outcome:
    """Which of `models` is fastest, and how it compares with the `reference`, one of them.

    A contest of half the time chooses one other than the reference. Then both alone are compared,
    in new samples, so that choosing doesn't flatter. In each block every model has new memory, and
    in each of its rounds every model is called once, in random order. A block is measured in a
    context of `take_turn`, which keeps others from measuring meanwhile.

    What this process has in common for all blocks isn't averaged over: see
    docs/explanation/calibration.md. Raises InvalidRequestError if there is nothing to race.
    """
    if reference not in models or len(models) < 2:
        raise InvalidRequestError("a race needs a reference and another model")
    rng = rng or random.Random()
    timed = _Timed(models, rng, clock_ns, take_turn)
    names = [name for name in models if name != reference]
    samples: dict[str, list[float]] = {name: [] for name in models}
    ends_s = clock_ns() * 1e-9 + time_s * CONTEST_SHARE
    while len(names) > 1:
        _add(samples, timed.block([reference, *names]))
        if len(samples[reference]) < 3 and clock_ns() * 1e-9 < ends_s:
            continue
        ranked = sorted(names, key=lambda name: _center(samples, name, reference))
        if clock_ns() * 1e-9 >= ends_s:
            names = ranked[:1]
        elif len(names) > 2:
            names = ranked[: max(2, math.ceil(len(names) * KEPT_SHARE))]
    chosen = names[0]
    medians = {
        name: math.exp(_center(samples, name, reference)) for name in models if samples[name]
    }
    final: dict[str, list[float]] = {reference: [], chosen: []}
    ends_s = clock_ns() * 1e-9 + time_s * (1 - CONTEST_SHARE if len(models) > 2 else 1)
    while len(final[chosen]) < MIN_BLOCKS or clock_ns() * 1e-9 < ends_s:
        _add(final, timed.block([reference, chosen]))
    ratios = np.log(final[chosen]) - np.log(final[reference])
    return Outcome(
        chosen=chosen,
        comparison=compare(ratios),
        reference_s=float(np.median(final[reference])),
        chosen_s=float(np.median(final[chosen])),
        medians=medians,
    )


def _center(samples: Mapping[str, Sequence[float]], name: str, reference: str) -> float:
    """Median log ratio to the reference over the first blocks, which have both."""
    number = len(samples[name])
    log_ratios = np.log(samples[name]) - np.log(samples[reference][:number])
    return float(np.median(log_ratios))


def _add(samples: Mapping[str, list[float]], block: Mapping[str, float]) -> None:
    for name, latency_s in block.items():
        samples[name].append(latency_s)


class _Timed:
    """Takes blocks of samples."""

    def __init__(
        self,
        models: Mapping[str, Prepare],
        rng: random.Random,
        clock_ns: Callable[[], int],
        take_turn: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._models = models
        self._rng = rng
        self._clock_ns = clock_ns
        self._take_turn = take_turn
        has_gpu = torch.cuda.is_available()
        self._synchronize: Callable[[], object] = torch.cuda.synchronize if has_gpu else int

    @torch.inference_mode()
    def block(self, names: Sequence[str]) -> dict[str, float]:
        """The median latency of each of these models over the rounds of a block, seconds."""
        order = list(names)
        self._rng.shuffle(order)  # whose memory is allocated first
        calls = {name: self._models[name]() for name in order}
        latencies_s: dict[str, list[float]] = {name: [] for name in names}
        with self._take_turn():
            for call in calls.values():
                for _ in range(WARMUP_CALLS):
                    call()
            for _ in range(BLOCK_ROUNDS):
                self._rng.shuffle(order)
                for name in order:
                    latencies_s[name].append(self._time(calls[name]))
        return {name: float(np.median(each)) for name, each in latencies_s.items()}

    def _time(self, call: Callable[[], object]) -> float:
        self._synchronize()
        started_ns = self._clock_ns()
        call()
        self._synchronize()
        return (self._clock_ns() - started_ns) * 1e-9
