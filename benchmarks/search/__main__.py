"""The command: races and judges the queries, and prints the report. See the package."""

from __future__ import annotations

import argparse
import contextlib
import random
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import search
from benchmarks.answers.machine import busy_processor
from benchmarks.answers.measuring import BATCH, draw_queries, show
from benchmarks.contender import open_contender
from benchmarks.provenance import heading
from benchmarks.report import exits_without_verdict, publish
from benchmarks.search.referee import Verdict, judge_query
from benchmarks.search.report import build_report
from benchmarks.search.verdicts import count_alike, judge


def run(*, queries: int, seed: int, side: int, repeat: int, busy: bool) -> list[Verdict]:
    """Races and judges every query, one after the other. The referee always measures without
    load."""
    verdicts = []
    rng = random.Random(seed)
    with open_contender("linear", side) as contender:
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
        description=search.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=20, help="random queries")
    parser.add_argument("--seed", type=int, help="seed of queries and rounds (default: a new one)")
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
    # Gathered first, before this run itself raises the load average.
    header = heading("Races with short calls", "benchmarks.search", "torch", "numpy")
    started = time.perf_counter()
    with exits_without_verdict():
        verdicts = run(
            queries=options.queries,
            seed=options.seed,
            side=options.side,
            repeat=options.repeat,
            busy=options.busy,
        )
    goals = judge(verdicts, seed=options.seed)
    notes = [
        f"{options.queries} queries of seed {options.seed}, windows of {options.side} ×"
        f" {options.side} points, batch {BATCH}; each raced"
        f" {options.repeat} times; took {(time.perf_counter() - started) / 60:.1f} minutes",
        *(["first processor kept busy during the races"] if options.busy else []),
    ]
    report = build_report(header=header, notes=notes, goals=goals, verdicts=verdicts)
    return publish(
        options.out,
        f"search{'-busy' if options.busy else ''}",
        report,
        header=header,
        notes=notes,
        goals=goals,
        verdicts=[verdict.to_json() for verdict in verdicts],
    )


if __name__ == "__main__":
    sys.exit(main())
