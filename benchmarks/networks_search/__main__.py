"""The command: races and judges the queries, and prints the report. See the package."""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import networks_search
from benchmarks.answers.dims import Dims, show
from benchmarks.contender import Contender, HostName, Race, open_contender
from benchmarks.learning_host import LearningHost
from benchmarks.networks_search.referee import (
    BATCH,
    SIDE,
    STEPS,
    EachOnce,
    Verdict,
    judge_query,
    sample_window,
)
from benchmarks.networks_search.report import BUDGET_SHARE, build_report, judge
from benchmarks.provenance import heading
from benchmarks.report import exits_without_verdict, publish

KINDS: Mapping[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "lstm": ((100, 500), (100, 500)),
    "hlstm_lm": ((200, 800), (100, 300)),
}
"""For each kind, the smallest and the largest dim of a query on each axis."""


def draw_queries(kind: str, count: int, seed: int) -> list[Dims]:
    """`count` queries, each dim uniform over its axis' range."""
    rng = random.Random(seed)
    first, second = KINDS[kind]
    return [(rng.randint(*first), rng.randint(*second)) for _ in range(count)]


def run(*, kind: str, queries: int, seed: int, earlier: int, max_seconds: float) -> list[Verdict]:
    """Teaches a host, and races and judges every query, one after the other."""
    verdicts: list[Verdict] = []
    rng = random.Random(seed)
    host = LearningHost(num_axes=2)
    with open_contender(kind, SIDE, {"steps": STEPS, "batch": BATCH}) as contender:
        where = {"threads": contender.threads, "cpus": contender.cpus}
        for number, dims in enumerate(draw_queries(kind, earlier, seed + 1_000_000)):
            once = sample_window(kind, dims, seed=seed - 1 - number, **where)
            taught = race_within(contender, dims, once, rng.randrange(1 << 32), host)
            print(f"{show(dims)}: {taught.num_calls} calls, to learn", file=sys.stderr, flush=True)
        for number, dims in enumerate(draw_queries(kind, queries, seed)):
            once = sample_window(kind, dims, seed=seed + number, **where)
            race_seed = rng.randrange(1 << 32)
            contenders: dict[HostName, LearningHost | None] = {"empty": None, "learned": host}
            races = {
                name: race_within(contender, dims, once, race_seed, each)
                for name, each in contenders.items()
            }
            found = judge_query(
                kind, dims, races, once, seed=seed + number, max_seconds=max_seconds, **where
            )
            for verdict in found:
                tell(verdict)
            verdicts += found
    return verdicts


def race_within(
    contender: Contender, dims: Dims, once: EachOnce, seed: int, host: LearningHost | None
) -> Race:
    """A race in the share of the time of calling each point once."""
    return contender.race(dims, seed, budget_s=BUDGET_SHARE * once.seconds, host=host)


def tell(verdict: Verdict) -> None:
    """Prints one line of progress."""
    race, regret = verdict.race, verdict.regret
    print(
        f"{verdict.host} host, {show(verdict.dims)} → {show(race.answer)}:"
        f" {race.num_calls} calls in {race.measuring_s:.2f} s = {verdict.share:.2%} of each once,"
        f" regret {regret.excess:.2%} (best {show(regret.best)}), over queried"
        f" {verdict.measurement.ratios['answer'].estimate:.4f},"
        f" {verdict.measurement.num_rounds} rounds",
        file=sys.stderr,
        flush=True,
    )


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(
        description=networks_search.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=tuple(KINDS), default="lstm", help="the network")
    parser.add_argument("--queries", type=int, default=4, help="random queries")
    parser.add_argument(
        "--earlier", type=int, default=12, help="races that the learned host makes before"
    )
    parser.add_argument("--seed", type=int, help="seed of queries and rounds (default: a new one)")
    parser.add_argument(
        "--max-seconds", type=float, default=20.0, help="the last measurement of each query"
    )
    parser.add_argument("--out", type=Path, help="folder for the report and the raw figures")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = secrets.randbelow(1_000_000)
    if min(options.queries, options.earlier) < 1 or options.seed < 0:
        parser.error("--queries and --earlier from 1, --seed from 0")
    if not 0 < options.max_seconds < 3600:
        parser.error("--max-seconds between 0 and 3600")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code, after printing the report."""
    options = parse_arguments(arguments)
    # Gathered first, before this run itself raises the load average.
    title = f"Races with long calls: {options.kind}"
    header = heading(title, "benchmarks.networks_search", "torch", "numpy")
    started = time.perf_counter()
    with exits_without_verdict():
        verdicts = run(
            kind=options.kind,
            queries=options.queries,
            seed=options.seed,
            earlier=options.earlier,
            max_seconds=options.max_seconds,
        )
    goals = judge(verdicts, seed=options.seed)
    notes = [
        f"{options.queries} queries of seed {options.seed} to `{options.kind}`, windows of"
        f" {SIDE} × {SIDE} points, batch {BATCH}, {STEPS} steps, float32; took"
        f" {(time.perf_counter() - started) / 60:.1f} minutes",
        f"every race had a budget of {BUDGET_SHARE:.1%} of the time of calling each point once",
        f"the learned host had made {options.earlier} races before, in other windows; it learned"
        " from each of its races",
    ]
    report = build_report(header=header, notes=notes, goals=goals, verdicts=verdicts)
    return publish(
        options.out,
        f"networks-search-{options.kind.replace('_', '-')}",
        report,
        header=header,
        notes=notes,
        goals=goals,
        verdicts=[verdict.to_json() for verdict in verdicts],
    )


if __name__ == "__main__":
    sys.exit(main())
