"""Runs the benchmark: see the package."""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.answers.asking import COMMAND, IDLE_LIMIT_S
from benchmarks.answers.dims import Dims, draw_queries, show
from benchmarks.answers.machine import RefereeError
from benchmarks.answers.processes import PROCESSES, Referee, open_referee
from benchmarks.answers.report import table
from benchmarks.answers.service import (
    WAIT_S,
    Failure,
    Reply,
    ask,
    find_platform,
    fresh_service,
    wait_until_idle,
)
from benchmarks.answers.verdicts import show_ratio
from benchmarks.learned import __doc__ as about
from benchmarks.learned.judging import judge
from benchmarks.learned.trials import LearnedFindings, LearnedTrial, ask_predicted
from benchmarks.provenance import heading
from benchmarks.report import exits_without_verdict, opening

TRAINING_SEED, SEED = 20261201, 20261202


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--training", type=int, default=50, help="queries asked before")
    parser.add_argument("--queries", type=int, default=100, help="fresh queries")
    parser.add_argument("--seconds", type=float, default=4.0, help="last measurement of a query")
    parser.add_argument("--processes", type=int, default=PROCESSES, help="of the referee")
    parser.add_argument("--max-minutes", type=float, help="end after the query that passes")
    parser.add_argument("--out", type=Path, help="folder for the report and the raw figures")
    parser.add_argument("--report", type=Path, help="only write the report of these raw figures")
    return parser.parse_args(arguments)


def train(client: httpx.Client, count: int) -> None:
    """Asks the training queries."""
    for number, dims in enumerate(draw_queries(count, TRAINING_SEED), start=1):
        wait_until_idle(client, limit_s=IDLE_LIMIT_S)
        reply = ask(client, dims)
        if isinstance(reply, Failure):
            raise RefereeError(f"{show(dims)}: {reply.reason}")
        print(f"training {number}/{count} {show(dims)}", file=sys.stderr, flush=True)


def run_trial(
    learning: httpx.Client,
    empty: httpx.Client,
    referee: Referee,
    dims: Dims,
    *,
    is_learning_first: bool,
    findings: LearnedFindings,
) -> LearnedTrial:
    """One fresh query. Raises RefereeError without an answer."""
    for client in (learning, empty):
        wait_until_idle(client, limit_s=IDLE_LIMIT_S)
    # What it costs to ask at all, over the same connection.
    started = time.perf_counter()
    learning.get("/healthz").raise_for_status()
    bare_s = time.perf_counter() - started
    predicted = ask_predicted(learning, dims)
    findings.first_byte_s.append((predicted.wall_s, bare_s))
    replies: dict[bool, Reply] = {}
    for is_learning in (is_learning_first, not is_learning_first):
        client = learning if is_learning else empty
        reply = ask(client, dims)
        if isinstance(reply, Failure):
            raise RefereeError(f"{show(dims)}: {reply.reason}")
        replies[is_learning] = reply
        wait_until_idle(client, limit_s=IDLE_LIMIT_S)
    platform = find_platform(learning, replies[True].platform)
    threads, cpus = int(platform["threads"]), int(platform["cpus"])
    measurement = referee.judge(
        dims,
        [predicted.candidate, replies[True].answer, replies[False].answer],
        threads=threads,
        cpus=cpus,
    )
    return LearnedTrial(
        dims=dims,
        predicted=predicted,
        learned=replies[True],
        empty=replies[False],
        measurement=measurement,
    )


def run(options: argparse.Namespace, findings: LearnedFindings) -> None:
    """Asks and judges, and keeps what was found after each query."""
    started, rng = time.monotonic(), random.Random(SEED)
    with contextlib.ExitStack() as stack:
        clients = []
        for learns in ("true", "false"):
            url, _ = stack.enter_context(fresh_service(COMMAND, LHP_LEARN=learns))
            clients.append(stack.enter_context(httpx.Client(base_url=url, timeout=WAIT_S + 30)))
        learning, empty = clients
        train(learning, options.training)
        referee = stack.enter_context(
            open_referee(
                seconds=options.seconds, seed=rng.randrange(1 << 32), processes=options.processes
            )
        )
        for number, dims in enumerate(draw_queries(options.queries, SEED)):
            trial = run_trial(
                learning,
                empty,
                referee,
                dims,
                is_learning_first=number % 2 == 0,
                findings=findings,
            )
            findings.trials.append(trial)
            minutes = (time.monotonic() - started) / 60
            is_over = options.max_minutes is not None and minutes > options.max_minutes
            if is_over:
                findings.notes.append(f"ended by the clock after {number + 1} queries")
            if options.out is not None:
                findings.write(options.out / "learned.json")
            print(f"{number + 1}/{options.queries} {_describe(trial)}", file=sys.stderr, flush=True)
            if is_over:
                return


def _describe(trial: LearnedTrial) -> str:
    predicted = trial.predicted
    said = trial.measurement.ratio(predicted.candidate, trial.dims)
    return (
        f"{show(trial.dims)} predicted {show(predicted.candidate)} {1 / predicted.speedup:.4f}"
        f" ({predicted.standing}), refereed {said.estimate:.4f}; learned"
        f" {show(trial.learned.answer)} {trial.learned.measuring_s} s, empty"
        f" {show(trial.empty.answer)} {trial.empty.measuring_s} s"
    )


def build_report(findings: LearnedFindings) -> str:
    """The report, as Markdown."""
    goals = judge(findings.trials, findings.first_byte_s)
    rows = []
    for trial in findings.trials:
        given = trial.predicted
        interval = "—"
        if given.interval is not None:
            interval = f"[{1 / given.interval[1]:.4f}, {1 / given.interval[0]:.4f}]"
        rows.append(
            [
                show(trial.dims),
                show(given.candidate) if given.candidate != trial.dims else "same",
                f"{1 / given.speedup:.4f} {interval}",
                show_ratio(trial.measurement.ratio(given.candidate, trial.dims)),
                given.standing,
                *(
                    cell
                    for reply in (trial.learned, trial.empty)
                    for cell in (
                        show(reply.answer) if reply.answer != trial.dims else "same",
                        f"{trial.measurement.ratio(reply.answer, trial.dims).estimate:.4f}",
                        f"{reply.measuring_s:.2f}" if reply.measuring_s is not None else "—",
                        "yes" if reply.settled else "no",
                    )
                ),
            ]
        )
    each = ("answer", "over asked", "measuring s", "settled")
    heads = ["query", "predicted", "promised", "refereed", "standing"]
    heads += [f"{head}, {host}" for host in ("learned", "empty") for head in each]
    lines = opening(findings.heading, findings.notes, goals)
    return "\n".join([*lines, "## Queries", "", *table(heads, rows), ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code by the goals."""
    options = parse_arguments(arguments)
    if options.report is not None:
        print(build_report(LearnedFindings.read(options.report)))
        return 0
    findings = LearnedFindings(
        heading=heading(
            "How much a host gains from what it has learned", "benchmarks.learned", "torch"
        ),
        notes=[f"{options.training} training queries, then {options.queries} fresh ones: `linear`"],
    )
    with exits_without_verdict():
        run(options, findings)
    report = build_report(findings)
    print(report)
    if options.out is not None:
        (options.out / "learned.md").write_text(report)
    goals = judge(findings.trials, findings.first_byte_s)
    return 0 if all(goal.met is not False for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
