"""How good, how cheap and how repeatable the answer of a race is.

    python -m benchmarks.search --out docs/results       # about 10 minutes on two processors
    python -m benchmarks.search --queries 2 --repeat 1   # a quick look
    python -m benchmarks.search --busy                   # races beside a busy loop

Each random query's window is raced by the service's own planner and measuring process, in
this process, without HTTP or storage. Then an independent referee measures the window for
itself, once the race is over: what calling each point once takes, what PyTorch's own timer
would need, which point is the best, and how much slower the answer is. The referee is that of
`benchmarks.answers` and shares no code with the service; only `open_contender` imports it.
Knows nothing of how a race decides. Measures on a CPU; wants an otherwise idle machine.

Exit code: 0 if every goal is met, 1 if one is missed, 2 if no verdict was possible.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import itertools
import os
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.benchmark import Timer

from benchmarks.answers.machine import RefereeError, busy_processor, measuring_conditions, redact
from benchmarks.answers.measuring import (
    BATCH,
    EXTRA_RULES,
    LINE_FLOATS,
    PAGE_LINES,
    RULES,
    Dims,
    Measurement,
    Ratio,
    draw_queries,
    measure,
    ratio_of_blocks,
    round_up,
    show,
)
from benchmarks.answers.verdicts import Goal, Trial, speed_difference
from benchmarks.provenance import heading
from benchmarks.report import exit_code, measurement_to_json, opening, write_report

F64 = npt.NDArray[np.float64]

ALL_RULES = (*RULES, *EXTRA_RULES)

MEDIAN_REGRET_GOAL, P95_REGRET_GOAL = 0.003, 0.01
SLOWER_GOAL = 1.005
AUTORANGE_GOAL = 500
"""Times that racing must be faster than PyTorch's timer on every point."""
ALIKE_GOAL, ALIKE_WITHIN = 0.95, 0.005
CONTROL_GOAL = 0.005

AUTORANGE_POINTS = 12
SCREEN_ROUNDS = 5
SEMIFINAL_ROUNDS = 25
SEMIFINALISTS, OTHERS = 48, 16
FINALISTS = 10
FINAL_S = 4.0
"""The final measurement goes on for up to three times as long where that is too noisy."""
HALF_WIDTH = 0.0025
"""Of the interval on answer over best: narrower than this is narrow enough."""


@dataclass(frozen=True, kw_only=True)
class Race:
    """What one race from scratch said, and what it cost."""

    answer: Dims
    wall_s: float
    measuring_s: float
    num_calls: int
    claimed: tuple[float, float, float]
    """Claimed latency of the best rival over the queried point's: estimate, low, high."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """The code under test."""

    race: Callable[[Dims, int], Race]
    """Races the window above the dims from scratch, with a seed."""
    threads: int
    cpus: int


@dataclass(frozen=True, kw_only=True)
class Regret:
    """How much slower the answer is than the best point that the referee knows."""

    best: Dims
    over_best: Ratio
    """Latency of the answer over the best's. The best is the one that the same blocks show to
    be fastest, which flatters it: the true ratio is smaller rather than larger."""
    split: float
    """The same ratio with the best chosen on one half of the blocks and timed on the other,
    both ways, averaged: flatters nobody, and may be below 1."""

    @property
    def excess(self) -> float:
        """0 where the answer is the best point; 0.01 where it is 1 % slower."""
        return self.over_best.estimate - 1


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One query: what was raced, and what the referee found.

    `measurement` holds ratios to the queried point: `answer` (of the first race), `again1` and
    so on (of its repetitions), `up4` and so on, `rival1` to the last of the referee's own best
    points, and `control`, a second copy of the queried point.
    """

    dims: Dims
    races: tuple[Race, ...]
    each_once_s: float
    """Sum of one call at every point of the window."""
    autorange_s: float
    """What `blocked_autorange` at its defaults needs for the window, extrapolated."""
    measurement: Measurement

    @property
    def regret(self) -> Regret:
        """The first race's."""
        return find_regret(self.measurement, self.dims)

    @property
    def share_of_each_once(self) -> float:
        """Measuring time of the first race over that of calling each point once."""
        return self.races[0].measuring_s / self.each_once_s

    @property
    def times_autorange(self) -> float:
        """How many times as long PyTorch's timer would take as the first race measured."""
        return self.autorange_s / self.races[0].measuring_s

    def as_trial(self) -> Trial:
        """The first race's answer as `benchmarks.answers` judges it."""
        answer = self.races[0].answer
        return Trial(dims=self.dims, answer=answer, measurement=self.measurement, reply=None)


# --- The code under test --------------------------------------------------------------------


@contextlib.contextmanager
def open_contender(side: int) -> Iterator[Contender]:
    """The service's race over windows of `side` × `side` points, its measuring process warm.

    Raises RefereeError where it can't measure here.
    """
    # Imported here only: everything else in this file is the referee.
    from profiler_service.errors import MeasurementFailedError
    from profiler_service.grid import Grid
    from profiler_service.kinds import LINEAR
    from profiler_service.measurement.measurer import Measurer
    from profiler_service.plan.race.planner import RacePlanner
    from profiler_service.plan.spec import SweepSpec

    workload = LINEAR.describe()

    try:
        with Measurer(device="cpu") as measurer:
            # Like the service's worker, which leaves the measured processors alone.
            rest = os.sched_getaffinity(0) - set(measurer.measured_cpus)

            def race(dims: Dims, seed: int) -> Race:
                with _running_on(rest):
                    grid = Grid.window(dims, (side - 1, side - 1))
                    started = time.perf_counter()
                    planner = RacePlanner(
                        SweepSpec(workload=workload, mode="race", grid=grid, seed=seed)
                    )
                    while (batch := planner.next_batch()) is not None:
                        planner.record(measurer.measure(workload, grid, batch))
                    curve = planner.build_curve(
                        measurer.platform, measurer.protocol, dt.datetime.now(dt.UTC)
                    )
                    wall_s = time.perf_counter() - started
                found = curve.answers
                if found.target[0] < 0:
                    raise RefereeError(f"the race from {show(dims)} ended without an answer")
                out_features, in_features = grid.dims(int(found.target[0]))
                return Race(
                    answer=(out_features, in_features),
                    wall_s=wall_s,
                    measuring_s=planner.progress().seconds,
                    num_calls=int(curve.evidence["calls"]),
                    claimed=(
                        float(found.ratio[0]),
                        float(found.ratio_low[0]),
                        float(found.ratio_high[0]),
                    ),
                )

            yield Contender(
                race=race, threads=measurer.platform.threads, cpus=measurer.platform.cpus
            )
    except MeasurementFailedError as error:
        raise RefereeError(f"the race failed: {error}") from error


@contextlib.contextmanager
def _running_on(cpus: set[int]) -> Iterator[None]:
    """Keeps this thread on `cpus`; anywhere where there are none."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# --- The referee ----------------------------------------------------------------------------


class Pool:
    """Where the operands of thousands of points are views into, at random cache lines."""

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


def window(dims: Dims, side: int) -> list[Dims]:
    """All points from `dims` to `side - 1` above it on both axes."""
    return [(dims[0] + i, dims[1] + j) for i in range(side) for j in range(side)]


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

    All points meet in a few rounds; the best of them, the answers, the queried point and some
    others drawn at random then meet in many.
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
    """What `blocked_autorange` at its defaults needs for all points, from a sample of them."""
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
    """What takes part in the final measurement, by name: see `Verdict`."""
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
        # Warms the process up, which isn't calling each point's business.
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


# --- Verdicts -------------------------------------------------------------------------------


def find_regret(measurement: Measurement, dims: Dims) -> Regret:
    """The regret of `answer` in a measurement around `dims`, paired within its blocks.

    Every candidate may be the best, the rounding rules' and the queried point too; only not
    the control, which is that point once more.
    """
    blocks = {name: np.array(b) for name, b in measurement.blocks.items() if name != "control"}
    blocks["queried"] = np.zeros(len(blocks["answer"]))

    def best_of(part: slice) -> str:
        return min(blocks, key=lambda name: float(np.median(blocks[name][part])))

    halves = (slice(0, None, 2), slice(1, None, 2))
    split = [
        float(np.median((blocks["answer"] - blocks[best_of(chosen)])[timed]))
        for chosen, timed in (halves, halves[::-1])
    ]
    best = best_of(slice(None))
    return Regret(
        best=dims if best == "queried" else measurement.ratios[best].dims,
        over_best=ratio_of_blocks(
            measurement.ratios["answer"].dims, [*(blocks["answer"] - blocks[best])]
        ),
        split=float(np.exp(np.mean(split))),
    )


def count_alike(verdict: Verdict) -> tuple[int, int]:
    """How many pairs of races of one query agree, and how many pairs there are.

    They agree in dims, or in latency to within ALIKE_WITHIN by the referee.
    """
    names = ["answer", *(f"again{n}" for n in range(1, len(verdict.races)))]
    blocks = [np.array(verdict.measurement.blocks[name]) for name in names]
    pairs = list(itertools.combinations(blocks, 2))
    # Equal dims share one measurement: their difference is zero.
    alike = sum(abs(np.expm1(np.median(one - other))) <= ALIKE_WITHIN for one, other in pairs)
    return int(alike), len(pairs)


def quartiles(values: Sequence[float], form: str) -> str:
    """Median, quartiles and extremes, as text."""
    low, first, median, third, high = (
        format(float(value), form) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    )
    return f"median {median} (quartiles {first} to {third}, all {low} to {high})"


def judge(verdicts: Sequence[Verdict], *, seed: int) -> list[Goal]:
    """The goals with what was measured."""
    regrets = [verdict.regret.excess for verdict in verdicts]
    median, p95 = float(np.median(regrets)), float(np.quantile(regrets, 0.95))
    worst = max(verdicts, key=lambda v: v.measurement.ratios["answer"].estimate)
    slowest = worst.measurement.ratios["answer"]
    times = [verdict.times_autorange for verdict in verdicts]
    shares = [verdict.share_of_each_once for verdict in verdicts]
    return [
        Goal(
            name="regret (latency over the best point's), median",
            wanted=f"≤ {MEDIAN_REGRET_GOAL:.1%}",
            measured=f"{median:.2%}",
            met=median <= MEDIAN_REGRET_GOAL,
        ),
        Goal(
            name="regret, 95th percentile",
            wanted=f"≤ {P95_REGRET_GOAL:.0%}",
            measured=f"{p95:.2%} (largest {max(regrets):.2%})",
            met=p95 <= P95_REGRET_GOAL,
        ),
        Goal(
            name="slowest answer, latency over its queried point's",
            wanted=f"≤ {SLOWER_GOAL:.3f}",
            measured=f"{show_ratio(slowest)} ({show(worst.dims)} → {show(slowest.dims)})",
            met=slowest.estimate <= SLOWER_GOAL,
        ),
        Goal(
            name="`blocked_autorange` on every point, times the measuring time",
            wanted=f"≥ {AUTORANGE_GOAL}, each",
            measured=quartiles(times, ".0f"),
            met=min(times) >= AUTORANGE_GOAL,
        ),
        Goal(
            name="measuring time over that of calling each point once, median",
            wanted="< 1 (aim: 0.25)",
            measured=f"{quartiles(shares, '.2f')};"
            f" below 1: {sum(share < 1 for share in shares)} of {len(shares)}",
            met=float(np.median(shares)) < 1,
        ),
        judge_rules(verdicts, seed=seed),
        judge_repeatability(verdicts),
        judge_control(verdicts),
    ]


def judge_rules(verdicts: Sequence[Verdict], *, seed: int) -> Goal:
    """Whether the answers are at least as fast as the best rule of thumb, on average."""
    speeds = mean_speeds(verdicts)
    best = max((f"up{rule}" for rule in ALL_RULES), key=lambda rule: speeds[rule])
    trials = [verdict.as_trial() for verdict in verdicts]
    difference, low, high = speed_difference(trials, best, seed=seed)
    return Goal(
        name="mean speed of the answers (1: as fast as the queried point)",
        wanted=f"≥ {speeds[best]:.4f} (best rule: multiples of {best[2:]})",
        measured=f"{speeds['answer']:.4f}, difference {difference:+.4f} [{low:+.4f}, {high:+.4f}]",
        met=difference >= 0,
    )


def judge_repeatability(verdicts: Sequence[Verdict]) -> Goal:
    """Whether races of one query from scratch agree."""
    counts = [count_alike(verdict) for verdict in verdicts]
    alike, pairs = sum(a for a, _ in counts), sum(p for _, p in counts)
    queries = sum(p > 0 for _, p in counts)
    return Goal(
        name=f"repeated races with equal dims, or latencies within {ALIKE_WITHIN:.1%}",
        wanted=f"≥ {ALIKE_GOAL:.0%} of pairs",
        measured=f"{alike / pairs:.1%} ({alike} of {pairs} pairs, {queries} queries)"
        if pairs
        else "not checked: nothing was repeated",
        met=alike >= ALIKE_GOAL * pairs if pairs else None,
    )


def judge_control(verdicts: Sequence[Verdict]) -> Goal:
    """Whether the referee's own error is small enough to judge by."""
    controls = [v.measurement.ratios["control"].estimate for v in verdicts]
    return Goal(
        name="control: a second copy of the queried point over the first",
        wanted=f"1 ± {CONTROL_GOAL:.3f}, each",
        measured=quartiles(controls, ".4f"),
        met=all(abs(control - 1) <= CONTROL_GOAL for control in controls),
    )


def mean_speeds(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Mean speed, relative to the queried points, of the answers and of each rule."""
    return {
        name: float(np.mean([v.measurement.ratios[name].speed for v in verdicts]))
        for name in ("answer", *(f"up{rule}" for rule in ALL_RULES))
    }


# --- Report ---------------------------------------------------------------------------------


def show_ratio(ratio: Ratio) -> str:
    """The estimate and its interval, as text."""
    return f"{ratio.estimate:.4f} [{ratio.low:.4f}, {ratio.high:.4f}]"


def summary(verdicts: Sequence[Verdict]) -> list[str]:
    """Markdown list: what the goals don't say."""
    races = [race for verdict in verdicts for race in verdict.races]
    firsts = [verdict.races[0] for verdict in verdicts]
    regrets = [verdict.regret for verdict in verdicts]
    narrow = sum((r.over_best.high - r.over_best.low) / 2 <= HALF_WIDTH for r in regrets)
    splits = [regret.split - 1 for regret in regrets]
    speeds = mean_speeds(verdicts)
    rules = ", ".join(f"×{rule} {speeds[f'up{rule}']:.4f}" for rule in ALL_RULES)
    moved = [v for v in verdicts if v.races[0].answer != v.dims]
    overlaps = 0
    for verdict in moved:
        ratio, (_, low, high) = verdict.measurement.ratios["answer"], verdict.races[0].claimed
        overlaps += low <= ratio.high and ratio.low <= high
    return [
        f"- First races, wall seconds: {quartiles([r.wall_s for r in firsts], '.2f')}.",
        f"- First races, measuring seconds: {quartiles([r.measuring_s for r in firsts], '.2f')}.",
        f"- All {len(races)} races, calls: {quartiles([r.num_calls for r in races], '.0f')}.",
        "- Seconds of calling each point once:"
        f" {quartiles([v.each_once_s for v in verdicts], '.2f')}.",
        f"- Regret with the best chosen on one half of the blocks and timed on the other:"
        f" median {np.median(splits):.2%}, 95th percentile {np.quantile(splits, 0.95):.2%}. (The"
        " regret above takes the best of the very blocks that time it, so it leans against"
        " the answers.)",
        f"- Intervals on the regret within ± {HALF_WIDTH:.2%}: {narrow} of {len(regrets)}.",
        f"- Answers that are the referee's best point:"
        f" {sum(regret.over_best.dims == regret.best for regret in regrets)} of {len(regrets)}.",
        f"- Moved away from the queried point: {len(moved)} of {len(verdicts)} answers; the"
        f" interval claimed overlaps the referee's in {overlaps}.",
        f"- Mean speed: answers {speeds['answer']:.4f}; rounding up to {rules}.",
    ]


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """A Markdown table: one line a query."""
    heads = ["query", "µs", "answer", "wall s", "measuring s", "calls", "of each once"]
    heads += ["autorange over it", "regret", "best", "over queried", "claimed"]
    heads += [*(f"×{rule}" for rule in ALL_RULES), "control", "alike", "rounds"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for verdict in verdicts:
        race, ratios, regret = verdict.races[0], verdict.measurement.ratios, verdict.regret
        alike, pairs = count_alike(verdict)
        over = regret.over_best
        cells = [
            show(verdict.dims),
            f"{verdict.measurement.latency_s * 1e6:.1f}",
            show(race.answer) if race.answer != verdict.dims else "same",
            f"{race.wall_s:.2f}",
            f"{race.measuring_s:.2f}",
            str(race.num_calls),
            f"{verdict.share_of_each_once:.2f}",
            f"{verdict.times_autorange:.0f}",
            f"{over.estimate - 1:.2%} [{over.low - 1:.2%}, {over.high - 1:.2%}]",
            show(regret.best) if regret.best != race.answer else "the answer",
            show_ratio(ratios["answer"]),
            "{:.4f} [{:.4f}, {:.4f}]".format(*race.claimed),
            *(f"{ratios[f'up{rule}'].speed:.3f}" for rule in ALL_RULES),
            f"{ratios['control'].estimate:.4f}",
            f"{alike} of {pairs}" if pairs else "—",
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
        "Of a query's first race. *Regret*: how much longer the answer takes than the best point"
        " that the referee knows. *Over queried*: the answer's latency over the queried point's,"
        " by the referee; *claimed*: the best rival's over the queried point's, by the race. ×4"
        " and so on: speed of both dims rounded up to that multiple, above 1 is faster than the"
        " queried point. *Alike*: pairs of repeated races that agree. Intervals: 95 %.",
        "",
        *table(verdicts),
    ]
    return "\n".join(lines) + "\n"


def to_json(verdict: Verdict) -> Mapping[str, object]:
    """One query's raw figures, JSON-ready; the blocks' log ratios to five places."""
    return asdict(verdict) | {
        "measurement": measurement_to_json(verdict.measurement),
        "regret": asdict(verdict.regret),
    }


# --- Main -----------------------------------------------------------------------------------


def run(*, queries: int, seed: int, side: int, repeat: int, busy: bool) -> list[Verdict]:
    """Races and judges every query, one after the other; the referee always has it quiet."""
    verdicts = []
    rng = random.Random(seed)
    with open_contender(side) as contender:
        for number, dims in enumerate(draw_queries(queries, seed)):
            with busy_processor() if busy else contextlib.nullcontext():
                races = [contender.race(dims, rng.randrange(1 << 32)) for _ in range(repeat)]
            verdicts.append(
                judge_query(
                    dims,
                    races,
                    side=side,
                    seed=seed + number,
                    threads=contender.threads,
                    cpus=contender.cpus,
                )
            )
            tell(verdicts[-1])
    return verdicts


def tell(verdict: Verdict) -> None:
    """Prints one line of progress."""
    race, regret = verdict.races[0], verdict.regret
    alike, pairs = count_alike(verdict)
    print(
        f"{show(verdict.dims)} → {show(race.answer)}: wall {race.wall_s:.2f} s, measuring"
        f" {race.measuring_s:.2f} s = {verdict.share_of_each_once:.2f} of each once, regret"
        f" {regret.excess:.2%} (best {show(regret.best)}), over queried"
        f" {verdict.measurement.ratios['answer'].estimate:.4f}"
        + (f", {alike} of {pairs} pairs alike" if pairs else ""),
        file=sys.stderr,
        flush=True,
    )


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=20, help="random queries")
    parser.add_argument("--seed", type=int, help="of queries and rounds; left out: a new one")
    parser.add_argument("--side", type=int, default=64, help="points of the window on each axis")
    parser.add_argument("--repeat", type=int, default=3, help="races of each query")
    parser.add_argument("--out", type=Path, help="folder for the report and the raw figures")
    parser.add_argument("--busy", action="store_true", help="race beside a busy processor")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = secrets.randbelow(1_000_000)
    if options.queries < 1 or options.seed < 0 or options.side < 2 or options.repeat < 1:
        parser.error("--queries and --repeat from 1, --side from 2, --seed from 0")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code, after printing the report."""
    options = parse_arguments(arguments)
    # Gathered first: the load average must not be of this run's own making.
    header = heading("Racing for an answer", "benchmarks.search", "torch", "numpy")
    started = time.perf_counter()
    try:
        verdicts = run(
            queries=options.queries,
            seed=options.seed,
            side=options.side,
            repeat=options.repeat,
            busy=options.busy,
        )
    except RefereeError as error:
        print(f"no verdict: {redact(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: no verdict", file=sys.stderr)
        return 130
    goals = judge(verdicts, seed=options.seed)
    notes = [
        f"{options.queries} queries of seed {options.seed}, windows of {options.side} ×"
        f" {options.side} points, batch {BATCH}; each raced"
        f" {options.repeat} times; took {(time.perf_counter() - started) / 60:.1f} minutes",
        *(["first processor kept busy during the races"] if options.busy else []),
    ]
    report = build_report(header=header, notes=notes, goals=goals, verdicts=verdicts)
    print(report)
    if options.out is not None:
        write_report(
            options.out,
            f"search{'-busy' if options.busy else ''}",
            report,
            header=header,
            notes=notes,
            goals=goals,
            verdicts=[to_json(verdict) for verdict in verdicts],
        )
    return exit_code(goals)


if __name__ == "__main__":
    sys.exit(main())
