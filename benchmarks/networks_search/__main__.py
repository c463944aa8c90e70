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
from benchmarks.contender import open_contender
from benchmarks.networks_search.referee import BATCH, SIDE, STEPS, Verdict, judge_query
from benchmarks.networks_search.report import build_report, judge
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


def run(*, kind: str, queries: int, seed: int, max_seconds: float) -> list[Verdict]:
    """Races and judges every query, one after the other."""
    verdicts = []
    rng = random.Random(seed)
    with open_contender(kind, SIDE, {"steps": STEPS, "batch": BATCH}) as contender:
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
        description=networks_search.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=tuple(KINDS), default="lstm", help="the network")
    parser.add_argument("--queries", type=int, default=4, help="random queries")
    parser.add_argument("--seed", type=int, help="seed of queries and rounds (default: a new one)")
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
    # Gathered first, before this run itself raises the load average.
    title = f"Races with long calls: {options.kind}"
    header = heading(title, "benchmarks.networks_search", "torch", "numpy")
    started = time.perf_counter()
    with exits_without_verdict():
        verdicts = run(
            kind=options.kind,
            queries=options.queries,
            seed=options.seed,
            max_seconds=options.max_seconds,
        )
    goals = judge(verdicts, seed=options.seed)
    notes = [
        f"{options.queries} queries of seed {options.seed} to `{options.kind}`, windows of"
        f" {SIDE} × {SIDE} points, batch {BATCH}, {STEPS} steps, float32; took"
        f" {(time.perf_counter() - started) / 60:.1f} minutes",
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
