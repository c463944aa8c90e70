"""The referee of races over networks: its own measurements, before a race and after all of them."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from benchmarks.answers.dims import Dims, round_up
from benchmarks.answers.machine import measuring_conditions
from benchmarks.answers.measuring import LINE_FLOATS, PAGE_LINES
from benchmarks.contender import HostName, Race
from benchmarks.race_verdict import (
    ALL_RULES,
    F64,
    FEWEST_BLOCKS,
    Measurement,
    RaceVerdict,
    Regret,
    find_regret,
    ratio_of_blocks,
    window,
)

# Shapes: T time steps, B batch, I input width.

Call = Callable[[], object]
Build = Callable[[Dims], Call]
"""Makes the call of a point, with operands at another place each time."""
STEPS, BATCH = 70, 16
EMBEDDING, VOCABULARY = 400, 10_000
SIDE = 48
SAMPLED = 60
"""Number of points that are called once, for the first time. They are rivals, too."""
SCREEN_ROUNDS, SEMIFINAL_ROUNDS = 2, 3
SEMIFINALISTS, FINALISTS = 20, 6


@dataclass(frozen=True, kw_only=True)
class EachOnce:
    """The time of calling each point of a window once, extrapolated from a sample."""

    seconds: float
    error_s: float
    """Standard error of `seconds`."""
    sampled: tuple[Dims, ...] = ()
    """The points that were called."""


@dataclass(frozen=True, kw_only=True)
class Verdict(RaceVerdict):
    """One race of a query, and the referee's measurements."""

    host: HostName
    race: Race
    each_once: EachOnce

    @property
    def share(self) -> float:
        """The race's measuring time divided by that of calling each point once."""
        return self.race.measuring_s / self.each_once.seconds

    @property
    def regret(self) -> Regret:
        """The answer's regret among the points of the window (a rounding rule may leave the
        window)."""
        inside = set(window(self.dims, SIDE))
        ratios = self.measurement.ratios
        blocks = {n: b for n, b in self.measurement.blocks.items() if ratios[n].dims in inside}
        return find_regret(replace(self.measurement, blocks=blocks), self.dims)


def create_network(kind: str, dims: Dims) -> nn.Module:
    """The network of a point, without memory for its weights."""
    with torch.device("meta"):
        if kind == "lstm":
            hidden_size, input_size = dims
            return nn.LSTM(input_size, hidden_size)
        # The workload itself; torch has no such module.
        from profiler_service.networks import HLSTMLanguageModel

        gate_width, state_width = dims
        return HLSTMLanguageModel(VOCABULARY, EMBEDDING, state_width, gate_width)


class Pool:
    """Memory for the weights of thousands of networks, which are views at random cache lines."""

    def __init__(self, largest: nn.Module, seed: int) -> None:
        self._rng = random.Random(seed)
        room = sum(each.numel() + PAGE_LINES * LINE_FLOATS for each in largest.parameters())
        generator = torch.Generator().manual_seed(seed)
        self._memory = torch.empty(room + PAGE_LINES * LINE_FLOATS)
        self._memory.uniform_(-0.1, 0.1, generator=generator)

    def place(self, network: nn.Module) -> nn.Module:
        """`network` in inference. All its parameters have new places, without overlap."""
        start, tensors = 0, {}
        for name, each in network.named_parameters():
            start += self._rng.randrange(PAGE_LINES) * LINE_FLOATS
            tensors[name] = self._memory[start : start + each.numel()].view(each.shape)
            start = -(-(start + each.numel()) // LINE_FLOATS) * LINE_FLOATS
        network.requires_grad_(False).load_state_dict(tensors, assign=True)
        return network.eval()


def builder(kind: str, largest: Dims, seed: int) -> Build:
    """The function that makes the calls of a kind's points, none of them larger than `largest`."""
    pool = Pool(create_network(kind, largest), seed)

    def build(dims: Dims) -> Call:
        network = pool.place(create_network(kind, dims))
        if kind == "lstm":
            return functools.partial(network, torch.randn(STEPS, BATCH, dims[1]))
        return functools.partial(network, torch.randint(VOCABULARY, (STEPS, BATCH)))

    return build


def time_round(points: Sequence[Dims], build: Build, rng: random.Random) -> F64:
    """Seconds of one call at each point, visited in random order; float64 [points]."""
    times_s = np.empty(len(points))
    for index in rng.sample(range(len(points)), len(points)):
        call = build(points[index])
        start = time.perf_counter()
        call()
        times_s[index] = time.perf_counter() - start
    return times_s


def extrapolate(times_s: F64, num_points: int) -> EachOnce:
    """The sum over all points, from the times of a random sample of them."""
    count = len(times_s)
    error_s = num_points * float(np.std(times_s, ddof=1)) / count**0.5
    return EachOnce(
        seconds=num_points * float(np.mean(times_s)),
        error_s=error_s * (1 - count / num_points) ** 0.5,
    )


def find_rivals(field: Sequence[Dims], build: Build, rng: random.Random) -> list[Dims]:
    """The FINALISTS fastest of the field, fastest first; the faster half is timed more often."""
    times_s = np.array([time_round(field, build, rng) for _ in range(SCREEN_ROUNDS)])
    order = np.argsort(np.median(times_s, axis=0), kind="stable")[:SEMIFINALISTS]
    left = [field[index] for index in order]
    more_s = np.array([time_round(left, build, rng) for _ in range(SEMIFINAL_ROUNDS)])
    median_s = np.median(np.concatenate([times_s[:, order], more_s]), axis=0)
    return [left[index] for index in np.argsort(median_s, kind="stable")[:FINALISTS]]


def name_candidates(
    dims: Dims, answers: Mapping[HostName, Dims], rivals: Sequence[Dims]
) -> dict[str, Dims]:
    """The candidates of the final measurement, by name: each host's answer, and see `Verdict`."""
    candidates: dict[str, Dims] = dict(answers.items())
    candidates["control"] = dims
    candidates |= {f"rival{number}": rival for number, rival in enumerate(rivals, start=1)}
    return candidates | {f"up{rule}": round_up(dims, rule) for rule in ALL_RULES}


def of_host(measurement: Measurement, host: HostName) -> Measurement:
    """The measurement with this host's answer as `answer`; those of others are rivals."""
    return replace(
        measurement,
        ratios={"answer": measurement.ratios[host], **measurement.ratios},
        blocks={"answer": measurement.blocks[host], **measurement.blocks},
    )


def measure(
    dims: Dims,
    candidates: Mapping[str, Dims],
    build: Build,
    rng: random.Random,
    *,
    max_seconds: float,
) -> Measurement:
    """Ratios of all candidates to `dims`, from rounds that visit each once in random order.

    Operands change their place at every visit, so each round is a block. Candidates of equal dims
    share one measurement, and those equal to `dims` are 1 by definition. Only `control` is always a
    separate copy. The first round doesn't count.
    """
    distinct = list(dict.fromkeys([dims, *candidates.values()]))
    points = [*distinct, *([candidates["control"]] if "control" in candidates else [])]
    position = {
        name: len(distinct) if name == "control" else distinct.index(candidate)
        for name, candidate in candidates.items()
    }
    time_round(points, build, rng)
    rounds_s: list[F64] = []
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < max_seconds or len(rounds_s) < FEWEST_BLOCKS:
        rounds_s.append(time_round(points, build, rng))
    times_s = np.array(rounds_s)
    logs = np.log(times_s) - np.log(times_s[:, :1])
    blocks = {name: [float(log) for log in logs[:, i]] for name, i in position.items()}
    return Measurement(
        ratios={name: ratio_of_blocks(candidates[name], blocks[name]) for name in candidates},
        latency_s=float(np.median(times_s[:, 0])),
        blocks=blocks,
        num_rounds=len(rounds_s),
        seconds=elapsed,
    )


def sample_window(kind: str, dims: Dims, *, seed: int, threads: int, cpus: int) -> EachOnce:
    """The time of calling each point of the window once, as far as a sample of points shows."""
    points = window(dims, SIDE)
    rng = random.Random(seed)
    with measuring_conditions(threads=threads, cpus=cpus):
        build = builder(kind, points[-1], seed)
        # Warms up the process. This must not count as calling each point.
        for _ in range(3):
            time_round([dims], build, rng)
        sampled = rng.sample(points[1:], SAMPLED)
        found = extrapolate(time_round(sampled, build, rng), len(points))
    return replace(found, sampled=tuple(sampled))


def judge_query(
    kind: str,
    dims: Dims,
    races: Mapping[HostName, Race],
    each_once: EachOnce,
    *,
    seed: int,
    max_seconds: float,
    threads: int,
    cpus: int,
) -> list[Verdict]:
    """The referee's measurements of one query: a verdict on each host's race.

    All answers take part in the same rounds. Each of them is a rival of the others.
    """
    rng = random.Random(f"{seed} rounds")
    largest = round_up(window(dims, SIDE)[-1], max(ALL_RULES))
    with measuring_conditions(threads=threads, cpus=cpus):
        build = builder(kind, largest, seed)
        answers = {host: race.answer for host, race in races.items()}
        leaders = [leader for race in races.values() for leader in race.leaders]
        known = list(dict.fromkeys([dims, *answers.values(), *leaders]))
        time_round(known, build, rng)
        rivals = find_rivals(list(dict.fromkeys([*known, *each_once.sampled])), build, rng)
        measurement = measure(
            dims,
            name_candidates(dims, answers, rivals),
            build,
            rng,
            max_seconds=max_seconds,
        )
    return [
        Verdict(
            dims=dims,
            host=host,
            race=race,
            each_once=each_once,
            measurement=of_host(measurement, host),
        )
        for host, race in races.items()
    ]
