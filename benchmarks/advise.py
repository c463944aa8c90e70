"""How long does advice on 200 layers of 20 distinct shapes take, and what does it say?

Starts a fresh service, and runs `lhp advise` three times: on a service that knows nothing, on one
that knows these answers, and once more. Measures the whole command, as a user waits for it.

    python -m benchmarks.advise --out docs/results/advise.md

Exit code: 0 if all checks hold, 1 if not, 2 without a verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.advised_model import NUM_STAGES
from benchmarks.answers.machine import RefereeError
from benchmarks.answers.service import fresh_service
from benchmarks.checked import publish
from benchmarks.provenance import ROOT, heading
from benchmarks.soak.checks import Check

GOAL_S = 60.0
LIMIT_S = 600.0
NUM_LAYERS, NUM_SHAPES = 20 * NUM_STAGES, 2 * NUM_STAGES
RUNS = ("first", "second", "third")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the command."""

    name: str
    seconds: float
    """From the start of the process to its end."""
    exit_code: int
    asked: int
    """Questions that its progress numbers."""
    again: int
    """Questions that it asked once more, for certainty."""
    races: int
    """Windows that the service raced meanwhile."""
    layers: Sequence[Mapping[str, Any]]
    """As the command's JSON has them."""


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report there, too")
    given = parser.parse_args()
    lines = heading("Advice on 200 layers", "benchmarks.advise", "torch")
    command = Path(sys.executable).with_name("lhp")
    try:
        with fresh_service(command) as (url, _):
            wait_for_worker(url)
            runs = [run_command(command, url, name) for name in RUNS]
    except RefereeError as error:
        print(f"no verdict: {error}", file=sys.stderr)
        return 2
    text = [
        f"`lhp advise benchmarks.advised_model:make_model --example"
        f" benchmarks.advised_model:make_inputs`: {NUM_LAYERS} layers of {NUM_SHAPES} distinct"
        " shapes (fully connected and convolutions, odd widths), float32, on a fresh service whose"
        " worker was ready. Each time is that of the whole command: Python, torch, the model, its"
        " runs on the example, and all questions."
    ]
    more = [*table_of_runs(runs), "", *table_of_layers(runs[-1].layers)]
    raw = [{**asdict(each), "layers": find_distinct(each.layers)} for each in runs]
    return publish(given.out, lines, text, check(runs), more=more, runs=raw)


def wait_for_worker(url: str) -> None:
    """Returns when a question has been answered, so that the worker is ready."""
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s:
        reply = httpx.get(
            f"{url}/lhp", params={"dims": "32,32", "budget": 0.2, "wait": 30}, timeout=60
        )
        if reply.status_code == 200:
            return
        time.sleep(0.5)
    raise RefereeError(f"the worker isn't ready: {reply.status_code} {reply.text}")


def run_command(command: Path, url: str, name: str) -> Run:
    """One run of `lhp advise` on the model. Raises RefereeError if it doesn't end."""
    before = count_races(url)
    model = "benchmarks.advised_model"
    began_s = time.perf_counter()
    factories = f"{model}:make_model", "--example", f"{model}:make_inputs"
    try:
        done = subprocess.run(
            [command, "advise", *factories, "--json", "--url", url],
            cwd=ROOT,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RefereeError(f"`lhp advise` didn't end in {LIMIT_S:g} s") from error
    seconds = time.perf_counter() - began_s
    print(done.stderr, file=sys.stderr)
    if not done.stdout.startswith("{") or "layers" not in (told := json.loads(done.stdout)):
        raise RefereeError(f"`lhp advise` gave no advice: {done.stderr[-500:]}")
    return Run(
        name=name,
        seconds=seconds,
        exit_code=done.returncode,
        asked=len(re.findall(rf"^\d+ of {NUM_SHAPES}: ", done.stderr, re.MULTILINE)),
        again=done.stderr.count("once more, for certainty"),
        races=count_races(url) - before,
        layers=told["layers"],
    )


def count_races(url: str) -> int:
    """How many windows the service has raced. Raises RefereeError if it doesn't say."""
    reply = httpx.get(f"{url}/sweeps", params={"limit": 500}, timeout=60)
    if reply.status_code != 200 or reply.json()["next_cursor"] is not None:
        raise RefereeError(f"the sweeps can't be counted: {reply.status_code} {reply.text[:200]}")
    return sum(each["mode"] == "race" for each in reply.json()["items"])


def check(runs: Sequence[Run]) -> list[Check]:
    """What must hold."""
    cold, *known = runs
    answered = [sum(each["answer"] is not None for each in run.layers) for run in runs]
    raced = sum(run.races for run in runs)
    most_races = NUM_SHAPES + sum(run.again for run in runs)
    return [
        Check(
            claim=f"the first run takes at most {GOAL_S:g} s",
            found=f"{cold.seconds:.1f} s",
            holds=cold.seconds <= GOAL_S,
        ),
        Check(
            claim="every layer has an answer",
            found=f"{answered[0]} of {len(cold.layers)} layers, exit code {cold.exit_code}",
            holds=answered[0] == len(cold.layers) == NUM_LAYERS and cold.exit_code == 0,
        ),
        Check(
            claim="each distinct question is asked once, and once more only for certainty",
            found=f"{cold.asked} questions of {NUM_SHAPES} shapes, {cold.again} once more",
            holds=cold.asked == NUM_SHAPES and cold.again <= NUM_SHAPES,
        ),
        Check(
            claim="what is known isn't measured again",
            found=f"{raced} races in all runs, at most {most_races} were due",
            holds=raced <= most_races,
        ),
        Check(
            claim="asked again, it takes no longer than that, either",
            found=", ".join(f"{each.seconds:.1f} s" for each in known),
            holds=all(each.seconds <= GOAL_S for each in known),
        ),
    ]


def table_of_runs(runs: Sequence[Run]) -> list[str]:
    """Markdown: the time of each run, and what it measured."""
    lines = [
        "| run | command | questions | once more | races | settled |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for run in runs:
        answers = [each["answer"] for each in find_distinct(run.layers) if each["answer"]]
        settled = sum(each["settled"] for each in answers)
        lines.append(
            f"| {run.name} | {run.seconds:.1f} s | {run.asked} | {run.again} | {run.races} |"
            f" {settled} of {len(answers)} |"
        )
    return lines


def table_of_layers(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown: the answer about each distinct shape, and its share of the model's time."""
    lines = [
        "| workload | now | LHP | faster (95 %) | settled | share of the time |",
        "|---|---|---|---|---|---:|",
    ]
    for each in find_distinct(layers):
        answer, share = each["answer"], f"{100 * each['time_share']:.1f} %"
        start = f"| `{each['kind']}` | {' × '.join(map(str, each['dims']))} |"
        if answer is None:
            lines.append(f"{start} – | {each['problem']} | | {share} |")
            continue
        low, high = (100 * (ratio - 1) for ratio in answer["speedup_interval"])
        gain = f"{100 * (answer['speedup'] - 1):.1f} % ({low:.1f} to {high:.1f} %)"
        lines.append(
            f"{start} {' × '.join(map(str, answer['lhp']))} |"
            f" {gain if answer['lhp'] != answer['dims'] else 'keep'} |"
            f" {'yes' if answer['settled'] else 'no'} | {share} |"
        )
    return lines


def find_distinct(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A layer of each distinct shape, with the time share of all layers like it."""
    found: dict[str, dict[str, Any]] = {}
    for each in layers:
        key = f"{each['kind']} {each['dims']} {each['params']}"
        first = found.setdefault(key, {**each, "time_share": 0.0})
        first["time_share"] += each["time_share"] or 0.0
    return list(found.values())


if __name__ == "__main__":
    sys.exit(main())
