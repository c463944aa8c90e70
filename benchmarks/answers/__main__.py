"""The command: runs the parts, judges, and writes the report. See the package."""

from __future__ import annotations

import argparse
import datetime as dt
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

import httpx

from benchmarks.answers import __doc__ as about
from benchmarks.answers.asking import Save, draw_preferences, run_noise, run_queries
from benchmarks.answers.calibration import draw, read_claims
from benchmarks.answers.dims import draw_queries
from benchmarks.answers.machine import (
    RefereeError,
    describe_commit,
    describe_machine,
    redact,
)
from benchmarks.answers.processes import PROCESSES
from benchmarks.answers.report import build_report, judge
from benchmarks.answers.trials import Findings

PARTS = ("agreement", "preferences", "noise")
SEED = 20261129
DEFAULTS: Mapping[str, float] = {
    "queries": 100,
    "preferences": 20,
    "races": 200,
    "seconds": 4.0,
    "processes": PROCESSES,
}


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--parts", default=",".join(PARTS), help=f"which to run, of {', '.join(PARTS)}"
    )
    parser.add_argument("--queries", type=int, help="asked of two services each")
    parser.add_argument("--preferences", type=int, help="queries for these, in all")
    parser.add_argument("--races", type=int, help="simulated, of each scenario")
    parser.add_argument("--seconds", type=float, help="last measurement of a query")
    parser.add_argument("--processes", type=int, help="of the referee")
    parser.set_defaults(**DEFAULTS)
    parser.add_argument("--seed", type=int, default=SEED, help="of the queries and rounds")
    parser.add_argument("--max-minutes", type=float, help="end the run after the query that passes")
    parser.add_argument("--out", type=Path, help="folder for the report and the raw figures")
    parser.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    parser.add_argument("--busy", action="store_true", help="ask beside a busy first processor")
    options = parser.parse_args(arguments)
    options.parts = options.parts.split(",")
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"--parts: no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if min(options.queries, options.preferences, options.races) < 1 or options.seed < 0:
        parser.error("--queries, --preferences and --races from 1, --seed from 0")
    if not 0 < options.seconds < 3600 or options.processes < 3:
        parser.error("--seconds between 0 and 3600, --processes from 3")
    if options.resume and options.out is None:
        parser.error("--resume needs --out: the folder of the run to go on with")
    return options


def command_of(options: argparse.Namespace) -> str:
    """The command that repeats the run, without local paths."""
    parts = [f"--parts {','.join(options.parts)}"] if options.parts != list(PARTS) else []
    parts += [
        f"--{name} {getattr(options, name):g}"
        for name, default in DEFAULTS.items()
        if getattr(options, name) != default
    ]
    parts += [f"--seed {options.seed}"]
    parts += ["--busy"] if options.busy else []
    parts += ["--out DIR"] if options.out else []
    return " ".join(["python -m benchmarks.answers", *parts])


def describe_run(options: argparse.Namespace) -> list[str]:
    """Markdown lines: title, command, date, commit, machine."""
    title = "How well the service answers" + (", beside a busy processor" if options.busy else "")
    return [
        f"# {title}",
        "",
        f"    {command_of(options)}",
        "",
        f"- date: {dt.datetime.now(dt.UTC):%Y-%m-%d}, commit {describe_commit()}",
        *(f"- {name}: {value}" for name, value in describe_machine().items()),
    ]


def open_findings(options: argparse.Namespace, path: Path | None) -> Findings:
    """The findings to go on with, or new ones."""
    settings = {name: getattr(options, name) for name in ("seed", "seconds", "processes", "busy")}
    # Gathered first, before this run itself raises the load average.
    heading = describe_run(options)
    if not options.resume or path is None:
        return Findings(settings=settings, heading=heading)
    findings = Findings.read(path, settings)
    old, new = (next(x for x in h if x.startswith("- date")) for h in (findings.heading, heading))
    if old != new:
        findings.note(f"continued {new[2:].replace('date: ', '')}")
    return findings


def run(options: argparse.Namespace, findings: Findings, save: Save) -> bool:
    """Runs the parts that were asked for; False if the time was up before."""
    fastest = [(dims, "fastest") for dims in draw_queries(options.queries, options.seed)]
    for part in options.parts:
        if part == "noise":
            done = run_noise(findings, races=options.races, save=save)
        else:
            agreement = part == "agreement"
            done = run_queries(
                findings,
                fastest if agreement else draw_preferences(options.preferences, options.seed + 1),
                services=2 if agreement else 1,
                seconds=options.seconds,
                processes=options.processes,
                seed=options.seed,
                busy=options.busy,
                save=save,
            )
        if not done:
            return False
    return True


def publish(findings: Findings, path: Path | None) -> int:
    """The exit code by the goals, after printing the report and writing it with its picture."""
    goals = judge(findings)
    claims = read_claims(findings.of("fastest"))
    picture = None
    if path is not None and claims:
        picture = path.with_name(f"{path.stem}-calibration.png")
        draw(claims, picture)
    report = build_report(findings, goals, None if picture is None else picture.name)
    print(report)
    if path is not None:
        path.with_suffix(".md").write_text(report)
    return 0 if all(goal.met is not False for goal in goals) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code, after printing the report."""
    options = parse_arguments(arguments)
    name = "answers-busy.json" if options.busy else "answers.json"
    path = None if options.out is None else options.out / name
    started = time.monotonic()

    def save() -> bool:
        if path is not None:
            findings.write(path)
        minutes = (time.monotonic() - started) / 60
        return options.max_minutes is None or minutes < options.max_minutes

    try:
        findings = open_findings(options, path)
        done = run(options, findings, save)
    except (RefereeError, httpx.HTTPError) as error:
        print(f"no verdict: {redact(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: no verdict; --resume goes on", file=sys.stderr)
        return 130
    code = publish(findings, path)
    if not done:
        print("the time is up: --resume goes on", file=sys.stderr)
        return 3
    return code


def _exit_on_signal(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    # As an exception, so that the services are ended before this process.
    signal.signal(signal.SIGTERM, _exit_on_signal)
    sys.exit(main())
