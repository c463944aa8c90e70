"""How good and how cheap a race is where calls are dear: windows of whole networks.

    python -m benchmarks.networks_search --out docs/results         # about 2 minutes
    python -m benchmarks.networks_search --kind hlstm_lm            # about 5 minutes
    python -m benchmarks.networks_search --queries 1                # a quick look

Each random query's window is raced by the service's own planner and measuring process, in
this process, without HTTP or storage. Then an independent referee measures for itself, with
timing of its own: what calling each point once takes, from a random sample of points called for
the first time; and how much slower the answer is than the best point that it knows. To call
every point often would take hours, so it knows the answer, the queried point, the race's last
contestants, and the sample. Windows with known truth: `benchmarks.synthetic_search`.

Knows nothing of how a race decides. Measures on a CPU; wants an otherwise idle machine.

Exit code: 0 if every goal is met, 1 if one is missed, 2 if no verdict was possible.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import functools
import os
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from benchmarks.answers.machine import RefereeError, measuring_conditions, redact
from benchmarks.answers.measuring import (
    FEWEST_BLOCKS,
    LINE_FLOATS,
    PAGE_LINES,
    Dims,
    Measurement,
    ratio_of_blocks,
    round_up,
    show,
)
from benchmarks.answers.verdicts import Goal, Trial, mean_speeds, speed_difference
from benchmarks.provenance import heading
from benchmarks.report import exit_code, measurement_to_json, opening, write_report
from benchmarks.search import ALL_RULES, F64, Race, Regret, find_regret, show_ratio, window

if TYPE_CHECKING:
    from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
    from profiler_service.grid import Grid
    from profiler_service.plan.base import Batch
    from profiler_service.workload import Workload

# Shapes: T time steps, B batch, I input width.

Call = Callable[[], object]
Build = Callable[[Dims], Call]
"""Makes the call of a point; its operands lie elsewhere in memory each time."""

STEPS, BATCH = 70, 16
EMBEDDING, VOCABULARY = 400, 10_000
SIDE = 48
KINDS: Mapping[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "lstm": ((100, 500), (100, 500)),
    "hlstm_lm": ((200, 800), (100, 300)),
}
"""By kind, the first and the last dim that a query may have on each axis."""

SHARE_GOAL, REGRET_GOAL, SLOWER_GOAL, CONTROL_GOAL = 0.05, 0.01, 1.005, 0.01

SAMPLED = 60
"""Points called once each, for the first time; they are rivals, too."""
MAX_LEADERS = 12
SCREEN_ROUNDS, SEMIFINAL_ROUNDS = 2, 3
SEMIFINALISTS, FINALISTS = 20, 6


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What one stage of a race cost and decided, for the report's raw figures."""

    name: str
    num_visits: int
    seconds: float
    field_size: tuple[int, ...]
    kept_size: tuple[int, ...]
    why: str


@dataclass(frozen=True, kw_only=True)
class DearRace(Race):
    """A race, with its last contestants and how it went."""

    num_discarded: int
    """Calls thrown away as disturbed and made again, on top of `num_calls`."""
    leaders: tuple[Dims, ...]
    """The points that came furthest, best first, at most MAX_LEADERS."""
    stages: tuple[Stage, ...]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """The code under test."""

    race: Callable[[Dims, int], DearRace]
    """Races the window above the dims from scratch, with a seed."""
    threads: int
    cpus: int


@dataclass(frozen=True, kw_only=True)
class EachOnce:
    """What calling each point of a window once takes, extrapolated from a sample."""

    seconds: float
    error_s: float
    """Standard error of `seconds`."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One query: how the race went, and what the referee found.

    `measurement` holds ratios to the queried point: `answer`, `up4` and so on, `rival1` to the
    last of the referee's own best points, and `control`, a second copy of the queried point.
    """

    dims: Dims
    race: DearRace
    each_once: EachOnce
    measurement: Measurement

    @property
    def share(self) -> float:
        """The race's measuring time over that of calling each point once."""
        return self.race.measuring_s / self.each_once.seconds

    @property
    def regret(self) -> Regret:
        """Of the answer among the points of the window: a rounding rule may leave it."""
        inside = set(window(self.dims, SIDE))
        ratios = self.measurement.ratios
        blocks = {n: b for n, b in self.measurement.blocks.items() if ratios[n].dims in inside}
        return find_regret(replace(self.measurement, blocks=blocks), self.dims)

    def as_trial(self) -> Trial:
        """The answer as `benchmarks.answers` judges it."""
        return Trial(
            dims=self.dims, answer=self.race.answer, measurement=self.measurement, reply=None
        )


# --- The code under test --------------------------------------------------------------------


def race_window(
    workload: Workload,
    dims: Dims,
    seed: int,
    measure: Callable[[Workload, Grid, Batch], Samples],
    platform: Platform,
    protocol: TimingProtocol,
) -> DearRace:
    """How the service's planner races the window above `dims`, fed by `measure`.

    Raises RefereeError where it ends without an answer.
    """
    # Imported here only: everything else in this file is the referee.
    from profiler_service.grid import Grid
    from profiler_service.plan.race.planner import RacePlanner
    from profiler_service.plan.spec import SweepSpec

    grid = Grid.window(dims, (SIDE - 1, SIDE - 1))
    started = time.perf_counter()
    planner = RacePlanner(SweepSpec(workload=workload, mode="race", grid=grid, seed=seed))
    while (batch := planner.next_batch()) is not None:
        planner.record(measure(workload, grid, batch))
    curve = planner.build_curve(platform, protocol, dt.datetime.now(dt.UTC))
    wall_s = time.perf_counter() - started
    found = curve.answers
    if found.target[0] < 0:
        raise RefereeError(f"the race from {show(dims)} ended without an answer")

    def dims_of(point: int) -> Dims:
        first, second = grid.dims(point)
        return first, second

    # Later stages hold fewer points, all of them from the stage before.
    ranked = [point for stage in reversed(planner.stages) for point in stage.kept]
    return DearRace(
        answer=dims_of(int(found.target[0])),
        wall_s=wall_s,
        measuring_s=planner.progress().seconds,
        num_calls=int(curve.evidence["calls"]),
        num_discarded=int(curve.evidence["discarded"]),
        claimed=(float(found.ratio[0]), float(found.ratio_low[0]), float(found.ratio_high[0])),
        leaders=tuple(dims_of(point) for point in list(dict.fromkeys(ranked))[:MAX_LEADERS]),
        stages=tuple(
            Stage(
                name=stage.name,
                num_visits=stage.num_visits,
                seconds=round(stage.seconds, 4),
                field_size=stage.field_size,
                kept_size=stage.kept_size,
                why=stage.why,
            )
            for stage in planner.stages
        ),
    )


@contextlib.contextmanager
def open_contender(kind: str) -> Iterator[Contender]:
    """The service's race over windows of SIDE × SIDE networks, its measuring process warm.

    Raises RefereeError where it can't measure here.
    """
    from profiler_service.errors import MeasurementFailedError
    from profiler_service.kinds import get_workload_kind
    from profiler_service.measurement.measurer import Measurer

    workload = get_workload_kind(kind).describe({"steps": STEPS, "batch": BATCH})
    before = os.sched_getaffinity(0)
    try:
        with Measurer(device="cpu") as measurer:

            def race(dims: Dims, seed: int) -> DearRace:
                # Like the service's worker, which leaves the measured processors alone.
                os.sched_setaffinity(0, before - set(measurer.measured_cpus) or before)
                try:
                    return race_window(
                        workload,
                        dims,
                        seed,
                        measurer.measure,
                        measurer.platform,
                        measurer.protocol,
                    )
                finally:
                    os.sched_setaffinity(0, before)

            yield Contender(
                race=race, threads=measurer.platform.threads, cpus=measurer.platform.cpus
            )
    except MeasurementFailedError as error:
        raise RefereeError(f"the race failed: {error}") from error


# --- The referee ----------------------------------------------------------------------------


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
    """Where the weights of thousands of networks are views into, at random cache lines."""

    def __init__(self, largest: nn.Module, seed: int) -> None:
        self._rng = random.Random(seed)
        room = sum(each.numel() + PAGE_LINES * LINE_FLOATS for each in largest.parameters())
        generator = torch.Generator().manual_seed(seed)
        self._memory = torch.empty(room + PAGE_LINES * LINE_FLOATS)
        self._memory.uniform_(-0.1, 0.1, generator=generator)

    def place(self, network: nn.Module) -> nn.Module:
        """`network` in inference, all its parameters newly placed; they don't overlap."""
        start, tensors = 0, {}
        for name, each in network.named_parameters():
            start += self._rng.randrange(PAGE_LINES) * LINE_FLOATS
            tensors[name] = self._memory[start : start + each.numel()].view(each.shape)
            start = -(-(start + each.numel()) // LINE_FLOATS) * LINE_FLOATS
        network.requires_grad_(False).load_state_dict(tensors, assign=True)
        return network.eval()


def builder(kind: str, largest: Dims, seed: int) -> Build:
    """What makes the calls of a kind's points, none of them larger than `largest`."""
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


def name_candidates(dims: Dims, answer: Dims, rivals: Sequence[Dims]) -> dict[str, Dims]:
    """What takes part in the final measurement, by name: see `Verdict`."""
    candidates = {"answer": answer, "control": dims}
    candidates |= {f"rival{number}": rival for number, rival in enumerate(rivals, start=1)}
    return candidates | {f"up{rule}": round_up(dims, rule) for rule in ALL_RULES}


def measure(
    dims: Dims,
    candidates: Mapping[str, Dims],
    build: Build,
    rng: random.Random,
    *,
    max_seconds: float,
) -> Measurement:
    """Ratios of all candidates to `dims`, from rounds that visit each once in random order.

    Operands change place at every visit, so each round is a block of its own. Candidates of
    equal dims share one measurement, and those equal to `dims` are 1 by definition; only
    `control` is always a copy of its own. The first round doesn't count.
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


def judge_query(
    kind: str,
    dims: Dims,
    race: DearRace,
    *,
    seed: int,
    max_seconds: float,
    threads: int,
    cpus: int,
) -> Verdict:
    """The referee's measurements of one query."""
    points = window(dims, SIDE)
    rng = random.Random(seed)
    largest = round_up(points[-1], max(ALL_RULES))
    with measuring_conditions(threads=threads, cpus=cpus):
        build = builder(kind, largest, seed)
        # Warms the process up, which isn't calling each point's business.
        for _ in range(3):
            time_round([dims], build, rng)
        sampled = rng.sample(points[1:], SAMPLED)
        each_once = extrapolate(time_round(sampled, build, rng), len(points))
        known = list(dict.fromkeys([dims, race.answer, *race.leaders]))
        time_round(known, build, rng)
        rivals = find_rivals(list(dict.fromkeys([*known, *sampled])), build, rng)
        measurement = measure(
            dims,
            name_candidates(dims, race.answer, rivals),
            build,
            rng,
            max_seconds=max_seconds,
        )
    return Verdict(dims=dims, race=race, each_once=each_once, measurement=measurement)


# --- Verdicts -------------------------------------------------------------------------------


def judge(verdicts: Sequence[Verdict], *, seed: int) -> list[Goal]:
    """The goals with what was measured."""
    shares = [verdict.share for verdict in verdicts]
    regrets = [verdict.regret.excess for verdict in verdicts]
    worst = max(verdicts, key=lambda v: v.measurement.ratios["answer"].estimate)
    slowest = worst.measurement.ratios["answer"]
    controls = [v.measurement.ratios["control"].estimate for v in verdicts]
    trials = [verdict.as_trial() for verdict in verdicts]
    speeds = mean_speeds(trials)
    best = max((f"up{rule}" for rule in ALL_RULES), key=lambda rule: speeds[rule])
    difference, low, high = speed_difference(trials, best, seed=seed)
    return [
        Goal(
            name="measuring time over that of calling each point once",
            wanted=f"≤ {SHARE_GOAL:.0%}, each",
            measured=f"median {np.median(shares):.2%}, largest {max(shares):.2%}",
            met=max(shares) <= SHARE_GOAL,
        ),
        Goal(
            name="regret (latency over the best known point's)",
            wanted=f"≤ {REGRET_GOAL:.0%}, each",
            measured=f"median {np.median(regrets):.2%}, largest {max(regrets):.2%}",
            met=max(regrets) <= REGRET_GOAL,
        ),
        Goal(
            name="slowest answer, latency over its queried point's",
            wanted=f"≤ {SLOWER_GOAL:.3f}",
            measured=f"{show_ratio(slowest)} ({show(worst.dims)} → {show(slowest.dims)})",
            met=slowest.estimate <= SLOWER_GOAL,
        ),
        Goal(
            name="mean speed of the answers (1: as fast as the queried point)",
            wanted=f"≥ {speeds[best]:.4f} (best rule: multiples of {best[2:]})",
            measured=f"{speeds['answer']:.4f},"
            f" difference {difference:+.4f} [{low:+.4f}, {high:+.4f}]",
            met=difference >= 0,
        ),
        Goal(
            name="control: a second copy of the queried point over the first",
            wanted=f"1 ± {CONTROL_GOAL:.2f}, each",
            measured=f"{min(controls):.4f} to {max(controls):.4f}",
            met=all(abs(control - 1) <= CONTROL_GOAL for control in controls),
        ),
    ]


# --- Report ---------------------------------------------------------------------------------


def summary(verdicts: Sequence[Verdict]) -> list[str]:
    """Markdown list: what the goals don't say."""
    speeds = mean_speeds([verdict.as_trial() for verdict in verdicts])
    rules = ", ".join(f"×{rule} {speeds[f'up{rule}']:.4f}" for rule in ALL_RULES)
    splits = [verdict.regret.split - 1 for verdict in verdicts]
    moved = [v for v in verdicts if v.race.answer != v.dims]
    stays = [
        v.regret.over_best.estimate / v.measurement.ratios["answer"].estimate - 1 for v in verdicts
    ]
    return [
        f"- Regret with the best chosen on one half of the rounds and timed on the other: median"
        f" {np.median(splits):.2%}, largest {max(splits):.2%}. (The regret above takes the best"
        " of the very rounds that time it, so it leans against the answers.)",
        f"- Regret of staying at the queried point: median {np.median(stays):.2%}, largest"
        f" {max(stays):.2%}.",
        f"- Moved away from the queried point: {len(moved)} of {len(verdicts)} answers.",
        f"- Mean speed: answers {speeds['answer']:.4f}; rounding up to {rules}.",
    ]


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """A Markdown table: one line a query."""
    heads = [
        "query",
        "ms",
        "answer",
        "calls",
        "discarded",
        "measuring s",
        "each once s",
        "share",
        "regret",
    ]
    heads += ["best", "over queried", "claimed", *(f"×{rule}" for rule in ALL_RULES)]
    heads += ["control", "rounds"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for verdict in verdicts:
        race, ratios, regret = verdict.race, verdict.measurement.ratios, verdict.regret
        over, each_once = regret.over_best, verdict.each_once
        cells = [
            show(verdict.dims),
            f"{verdict.measurement.latency_s * 1e3:.1f}",
            show(race.answer) if race.answer != verdict.dims else "same",
            str(race.num_calls),
            str(race.num_discarded),
            f"{race.measuring_s:.2f}",
            f"{each_once.seconds:.1f} ± {1.96 * each_once.error_s:.1f}",
            f"{verdict.share:.2%}",
            f"{over.estimate - 1:.2%} [{over.low - 1:.2%}, {over.high - 1:.2%}]",
            show(regret.best) if regret.best != race.answer else "the answer",
            show_ratio(ratios["answer"]),
            "{:.4f} [{:.4f}, {:.4f}]".format(*race.claimed),
            *(f"{ratios[f'up{rule}'].speed:.3f}" for rule in ALL_RULES),
            f"{ratios['control'].estimate:.4f}",
            str(verdict.measurement.num_rounds),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def build_report(
    *,
    header: Sequence[str],
    notes: Sequence[str],
    goals: Sequence[Goal],
    verdicts: Sequence[Verdict],
) -> str:
    """The whole report, Markdown."""
    lines = [
        *opening(header, notes, goals),
        "## Summary",
        "",
        *summary(verdicts),
        "",
        "## Queries",
        "",
        f"*Each once*: time of calling each point once, from {SAMPLED} random points called for"
        " the first time. *Discarded*: calls that were disturbed and made again, on top of the"
        " others. *Share*: the race's measuring time over it. *Regret*: how much longer"
        " the answer takes than the best of the points known: the race's last contestants, the"
        " queried point, the sampled points, and the rounded ones within the window. *Over"
        " queried*: the answer's latency over the queried point's, by the referee; *claimed*:"
        " the best rival's over the queried point's, by the race. ×4 and so on: speed of both"
        " dims rounded up to that multiple, above 1 is faster than the queried point."
        " Intervals: 95 %.",
        "",
        *table(verdicts),
        "",
        "## Stages of the races",
        "",
        *stage_lines(verdicts),
    ]
    return "\n".join(lines) + "\n"


def stage_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """Markdown list: where each race's visits went."""
    lines = []
    for verdict in verdicts:
        parts = [
            f"{stage.name} {'×'.join(map(str, stage.field_size))} →"
            f" {'×'.join(map(str, stage.kept_size))} ({stage.num_visits} visits)"
            for stage in verdict.race.stages
        ]
        lines.append(f"- {show(verdict.dims)}: {'; '.join(parts)}.")
    return lines


def to_json(verdict: Verdict) -> Mapping[str, object]:
    """One query's raw figures, JSON-ready; the blocks' log ratios to five places."""
    return asdict(verdict) | {
        "measurement": measurement_to_json(verdict.measurement),
        "regret": asdict(verdict.regret),
    }


# --- Main -----------------------------------------------------------------------------------


def draw_queries(kind: str, count: int, seed: int) -> list[Dims]:
    """`count` queries, each dim uniform over its axis' range."""
    rng = random.Random(seed)
    first, second = KINDS[kind]
    return [(rng.randint(*first), rng.randint(*second)) for _ in range(count)]


def run(*, kind: str, queries: int, seed: int, max_seconds: float) -> list[Verdict]:
    """Races and judges every query, one after the other."""
    verdicts = []
    rng = random.Random(seed)
    with open_contender(kind) as contender:
        for number, dims in enumerate(draw_queries(kind, queries, seed)):
            race = contender.race(dims, rng.randrange(1 << 32))
            verdicts.append(
                judge_query(
                    kind,
                    dims,
                    race,
                    seed=seed + number,
                    max_seconds=max_seconds,
                    threads=contender.threads,
                    cpus=contender.cpus,
                )
            )
            tell(verdicts[-1])
    return verdicts


def tell(verdict: Verdict) -> None:
    """Prints one line of progress."""
    race, regret = verdict.race, verdict.regret
    print(
        f"{show(verdict.dims)} → {show(race.answer)}: {race.num_calls} calls in"
        f" {race.measuring_s:.2f} s = {verdict.share:.2%} of each once, regret"
        f" {regret.excess:.2%} (best {show(regret.best)}), over queried"
        f" {verdict.measurement.ratios['answer'].estimate:.4f},"
        f" {verdict.measurement.num_rounds} rounds",
        file=sys.stderr,
        flush=True,
    )


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=tuple(KINDS), default="lstm", help="the network")
    parser.add_argument("--queries", type=int, default=4, help="random queries")
    parser.add_argument("--seed", type=int, help="of queries and rounds; left out: a new one")
    parser.add_argument(
        "--max-seconds", type=float, default=20.0, help="the last measurement of each query"
    )
    parser.add_argument("--out", type=Path, help="folder for the report and the raw figures")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = secrets.randbelow(1_000_000)
    if options.queries < 1 or options.seed < 0 or not 0 < options.max_seconds < 3600:
        parser.error("--queries from 1, --seed from 0, --max-seconds between 0 and 3600")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code, after printing the report."""
    options = parse_arguments(arguments)
    # Gathered first: the load average must not be of this run's own making.
    title = f"Racing where calls are dear: {options.kind}"
    header = heading(title, "benchmarks.networks_search", "torch", "numpy")
    started = time.perf_counter()
    try:
        verdicts = run(
            kind=options.kind,
            queries=options.queries,
            seed=options.seed,
            max_seconds=options.max_seconds,
        )
    except RefereeError as error:
        print(f"no verdict: {redact(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: no verdict", file=sys.stderr)
        return 130
    goals = judge(verdicts, seed=options.seed)
    notes = [
        f"{options.queries} queries of seed {options.seed} to `{options.kind}`, windows of"
        f" {SIDE} × {SIDE} points, batch {BATCH}, {STEPS} steps, float32; took"
        f" {(time.perf_counter() - started) / 60:.1f} minutes",
    ]
    report = build_report(header=header, notes=notes, goals=goals, verdicts=verdicts)
    print(report)
    if options.out is not None:
        write_report(
            options.out,
            f"networks-search-{options.kind.replace('_', '-')}",
            report,
            header=header,
            notes=notes,
            goals=goals,
            verdicts=[to_json(verdict) for verdict in verdicts],
        )
    return exit_code(goals)


if __name__ == "__main__":
    sys.exit(main())
