"""The command: asks or checks itself, judges, and prints the report. See the package."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import httpx

from benchmarks.answers.machine import (
    RefereeError,
    busy_processor,
    describe_commit,
    describe_machine,
    redact,
)
from benchmarks.answers.measuring import draw_queries, referee, round_up, show
from benchmarks.answers.report import build_report
from benchmarks.answers.service import (
    WAIT_S,
    Failure,
    Reply,
    ask,
    find_platform,
    fresh_service,
    wait_until_idle,
)
from benchmarks.answers.verdicts import (
    FRESH_QUERY,
    Goal,
    Trial,
    judge,
    judge_control,
    judge_known_effect,
)

IDLE_LIMIT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run found."""

    trials: list[Trial]
    failures: list[Failure]
    goals: list[Goal]
    notes: list[str]


def run_self_check(*, queries: int, seed: int, max_seconds: float) -> Outcome:
    """Judges "round up to 8" instead of a service, and a known effect."""
    cpus = max(1, len(os.sched_getaffinity(0)) - 1)
    trials = []
    for number, dims in enumerate(draw_queries(queries, seed)):
        answer = round_up(dims, 8)
        found = referee(
            dims,
            answer,
            max_seconds=max_seconds,
            seed=seed + number,
            threads=cpus,
            cpus=cpus,
        )
        trials.append(Trial(dims=dims, answer=answer, measurement=found, reply=None))
        tell(trials[-1])
    known = judge_known_effect(max_seconds=max_seconds, seed=seed, threads=cpus, cpus=cpus)
    return Outcome(
        trials=trials,
        failures=[],
        goals=[judge_control(trials), known],
        notes=["self-check: no service; the answers are dims rounded up to multiples of 8"],
    )


def run_service(*, url: str | None, queries: int, seed: int, max_seconds: float) -> Outcome:
    """Asks the service at `url`, or a fresh one of its own, and judges its answers."""
    trials: list[Trial] = []
    failures: list[Failure] = []
    notes: list[str] = []
    fresh: Reply | Failure | None = None
    asked = [(dims, True) for dims in draw_queries(queries, seed)]
    with contextlib.ExitStack() as stack:
        if url is None:
            url, start_s = stack.enter_context(fresh_service(Path(sys.executable).parent / "lhp"))
            notes.append(f"fresh service, empty database: ready {start_s:.1f} s after its start")
            asked.insert(0, (FRESH_QUERY, False))
        client = stack.enter_context(httpx.Client(base_url=url, timeout=WAIT_S + 30))
        for number, (dims, is_random) in enumerate(asked):
            reply = ask(client, dims)
            if not is_random:
                fresh = reply
            if isinstance(reply, Failure):
                failures.append(reply)
                print(f"{show(dims)}: {reply.reason}", file=sys.stderr)
                continue
            measured_on = find_platform(client, reply.platform)
            threads, cpus = int(measured_on["threads"]), int(measured_on["cpus"])
            newest = wait_until_idle(client, limit_s=IDLE_LIMIT_S)
            found = referee(
                dims,
                reply.answer,
                max_seconds=max_seconds,
                seed=seed + number,
                threads=threads,
                cpus=cpus,
            )
            if wait_until_idle(client, limit_s=0) != newest:
                raise RefereeError("the service measured something else meanwhile: keep it idle")
            note = (
                f"platform {reply.platform}: {threads} threads on {cpus} processors,"
                f" {measured_on['framework']}"
            )
            if note not in notes:
                notes.append(note)
            trials.append(
                Trial(
                    dims=dims,
                    answer=reply.answer,
                    measurement=found,
                    reply=reply,
                    random=is_random,
                )
            )
            tell(trials[-1])
    return Outcome(
        trials=trials,
        failures=failures,
        goals=judge(trials, failures, fresh=fresh, seed=seed),
        notes=notes,
    )


def tell(trial: Trial) -> None:
    """Prints one line of progress."""
    ratios = trial.measurement.ratios
    took = "" if trial.reply is None else f"answered in {trial.reply.wall_s:.1f} s, "
    print(
        f"{show(trial.dims)} → {show(trial.answer)}: {took}speed {ratios['answer'].speed:.4f},"
        f" control {ratios['control'].speed:.4f},"
        f" {trial.measurement.num_rounds} rounds in {trial.measurement.seconds:.1f} s",
        file=sys.stderr,
        flush=True,
    )


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description="Independent referee of the service's answers.")
    parser.add_argument("--url", help="ask this service (default: start a fresh one)")
    parser.add_argument("--queries", type=int, help="random queries (20; 2 in a self-check)")
    parser.add_argument("--seed", type=int, help="seed of queries and rounds (default: a new one)")
    parser.add_argument("--max-seconds", type=float, default=6.0, help="measuring per query")
    parser.add_argument("--out", type=Path, help="folder for the report and the raw figures")
    parser.add_argument("--busy", action="store_true", help="keep the first processor busy")
    parser.add_argument("--self-check", action="store_true", help="check the referee, no service")
    options = parser.parse_args(arguments)
    if options.queries is None:
        options.queries = 2 if options.self_check else 20
    if options.seed is None:
        options.seed = secrets.randbelow(1_000_000)
    if options.queries < 1 or options.seed < 0 or not 0 < options.max_seconds < 3600:
        parser.error("--queries from 1, --seed from 0, --max-seconds between 0 and 3600")
    if options.self_check and options.url:
        parser.error("--self-check asks no service: leave out --url")
    return options


def command_of(options: argparse.Namespace) -> str:
    """The command that repeats the run, without names of hosts and without local paths."""
    parts = ["python -m benchmarks.answers"]
    parts += ["--self-check"] if options.self_check else []
    parts += ["--url URL"] if options.url else []
    parts += [f"--queries {options.queries} --seed {options.seed}"]
    parts += [f"--max-seconds {options.max_seconds:g}"] if options.max_seconds != 6.0 else []
    parts += ["--busy"] if options.busy else []
    parts += ["--out DIR"] if options.out else []
    return " ".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code, after printing the report."""
    options = parse_arguments(arguments)
    # Gathered first, before this run itself raises the load average.
    machine, commit = describe_machine(), describe_commit()
    date = dt.datetime.now(dt.UTC).date().isoformat()
    try:
        with contextlib.ExitStack() as stack:
            if options.busy:
                stack.enter_context(busy_processor())
            if options.self_check:
                outcome = run_self_check(
                    queries=options.queries, seed=options.seed, max_seconds=options.max_seconds
                )
            else:
                outcome = run_service(
                    url=options.url,
                    queries=options.queries,
                    seed=options.seed,
                    max_seconds=options.max_seconds,
                )
    except (RefereeError, httpx.HTTPError) as error:
        print(f"no verdict: {redact(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: no verdict", file=sys.stderr)
        return 130
    command = command_of(options)
    report = build_report(
        command=command,
        commit=commit,
        machine=machine,
        notes=[*outcome.notes, *(["first processor kept busy"] if options.busy else [])],
        goals=outcome.goals,
        trials=outcome.trials,
        failures=outcome.failures,
        date=date,
    )
    print(report)
    if options.out is not None:
        raw = {
            "date": date,
            "command": command,
            "commit": commit,
            "machine": machine,
            "notes": outcome.notes,
            "goals": [asdict(goal) for goal in outcome.goals],
            "failures": [asdict(failure) for failure in outcome.failures],
            "trials": [asdict(trial) for trial in outcome.trials],
        }
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"answers-{date}.md").write_text(report)
        (options.out / f"answers-{date}.json").write_text(json.dumps(raw, indent=1) + "\n")
    return 0 if all(goal.met is not False for goal in outcome.goals) else 1


def _exit_on_signal(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    # As an exception, so that the service is ended before this process.
    signal.signal(signal.SIGTERM, _exit_on_signal)
    sys.exit(main())
