"""How long short questions wait beside long sweeps and races, asked of a real service.

    python -m benchmarks.fairness --out docs/results/fairness

A fresh service of the installed `lhp` answers three sets of short questions (calls of about
0.2 ms). No question is asked twice, and each is asked at a random moment:

- *alone*: nothing else is measured;
- *beside a sweep* of a grid whose calls take about a second;
- *beside a race* of `linear` 50257,768 at batch 64, asked with `wait=0` just before.

The time of an answer is that of the request, by this process's clock. The sweep is cancelled in the
end. The report says how far it got, and how long the race took in the end.

Goals: each answer beside a sweep or a race within 3 s of the longest one alone, plus the length of
the longest call of the sweep or race; and the sweep gets on.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.answers.machine import RefereeError
from benchmarks.answers.service import fresh_service
from benchmarks.answers.verdicts import Goal
from benchmarks.provenance import heading
from benchmarks.report import exits_without_verdict, opening, publish

COMMAND = Path(sys.executable).parent / "lhp"
WAIT_S = 110
LEAST_GAP_S, LARGEST_GAP_S = 0.5, 4.0
"""Pause before each question, drawn anew."""
ALLOWED_S = 3.0
SWEEP: dict[str, Any] = {
    "workload": "linear",
    "params": {"batch": 512},
    "axes": [{"first": 8192, "last": 8199}, {"first": 8192, "last": 8199}],
}
"""About 70 Gflop a call: a second on a processor that does 70 Gflop/s."""
RACE: dict[str, Any] = {"dims": "50257,768", "batch": 64}
START_LIMIT_S = 300.0


class Asker:
    """Asks short questions, none of them twice."""

    def __init__(self, client: httpx.Client, seed: int) -> None:
        self._client = client
        self._rng = random.Random(seed)
        # Windows reach an eighth above the dims: these don't overlap, so no answer is known before.
        dims = [(1200 + 8 * i, 400 + 90 * j) for i in range(12) for j in range(6)]
        self._dims = iter(self._rng.sample(dims, len(dims)))

    def ask(self, count: int) -> list[float]:
        """The times of the answers to so many questions, seconds."""
        walls = []
        for _ in range(count):
            time.sleep(self._rng.uniform(LEAST_GAP_S, LARGEST_GAP_S))
            asked = ",".join(map(str, next(self._dims)))
            started_s = time.perf_counter()
            response = self._client.get("/lhp", params={"dims": asked, "wait": WAIT_S})
            walls.append(time.perf_counter() - started_s)
            if response.status_code != 200:
                raise RefereeError(f"{asked} was not answered: {response.text[:500]}")
            print(f"  {asked}: {walls[-1]:.2f} s", file=sys.stderr)
        return walls


def read_sweep(client: httpx.Client, sweep_id: str) -> dict[str, Any]:
    """The sweep as it is now."""
    sweep: dict[str, Any] = client.get(f"/sweeps/{sweep_id}").raise_for_status().json()
    return sweep


def wait_until_idle(client: httpx.Client) -> None:
    """Returns when no sweep is open: comparisons of kernels follow their answers."""
    while any(
        client.get("/sweeps", params={"state": state}).json()["items"]
        for state in ("queued", "running")
    ):
        time.sleep(0.1)


@contextlib.contextmanager
def long_sweep(client: httpx.Client) -> Iterator[str]:
    """The id of a sweep of long calls that is under way; cancelled when the context ends."""
    sweep_id = client.post("/sweeps", json=SWEEP).raise_for_status().json()["id"]
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not (read_sweep(client, sweep_id)["progress"] or {}).get("num_samples"):
            if time.monotonic() > deadline:
                raise RefereeError(f"the sweep has no sample after {START_LIMIT_S:.0f} s")
            time.sleep(0.2)
        yield sweep_id
    finally:
        client.post(f"/sweeps/{sweep_id}/cancel")


def read_call_s(client: httpx.Client, sweep_id: str) -> float:
    """Mean time of a call of the sweep so far, seconds. Each visit has an untimed one, too."""
    progress = read_sweep(client, sweep_id)["progress"]
    return float(progress["seconds"] / progress["num_samples"] / 2)


def wait_until_ended(client: httpx.Client, sweep_id: str) -> None:
    """Returns when the sweep has ended well."""
    deadline = time.monotonic() + START_LIMIT_S
    while (sweep := read_sweep(client, sweep_id))["state"] in ("queued", "running"):
        if time.monotonic() > deadline:
            raise RefereeError(f"sweep {sweep_id} has not ended in {START_LIMIT_S:.0f} s")
        time.sleep(0.05)
    if sweep["state"] != "done":
        raise RefereeError(f"sweep {sweep_id} is {sweep['state']}: {sweep['error']}")


def describe(name: str, walls: Sequence[float]) -> str:
    """One row of the table."""
    return (
        f"| {name} | {len(walls)} | {statistics.median(walls):.2f} s | {max(walls):.2f} s |"
        f" {', '.join(f'{wall:.2f}' for wall in walls)} |"
    )


def judge(name: str, walls: Sequence[float], alone: Sequence[float], call_s: float) -> Goal:
    """Whether the longest wait is within what a long call and a bare answer allow."""
    allowed_s = max(alone) + call_s + ALLOWED_S
    return Goal(
        name=f"longest answer {name}",
        wanted=f"≤ {allowed_s:.1f} s (alone {max(alone):.1f}, call {call_s:.1f}, and 3)",
        measured=f"{max(walls):.2f} s",
        met=max(walls) <= allowed_s,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code by the goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=12, help="questions alone, and beside")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for the report")
    options = parser.parse_args(arguments)
    header = heading("Short questions beside long ones", "benchmarks.fairness", "torch", "httpx")
    with (
        exits_without_verdict(),
        fresh_service(COMMAND) as (url, _),
        httpx.Client(base_url=url, timeout=WAIT_S + 30) as client,
    ):
        asker = Asker(client, options.seed)
        asker.ask(2)  # the first questions of a process load libraries
        wait_until_idle(client)
        alone = asker.ask(options.questions)
        wait_until_idle(client)
        with long_sweep(client) as sweep_id:
            before = read_sweep(client, sweep_id)["progress"]["num_samples"]
            beside_sweep = asker.ask(options.questions)
            after = read_sweep(client, sweep_id)["progress"]["num_samples"]
            sweep_call_s = read_call_s(client, sweep_id)
        wait_until_idle(client)
        started_s = time.perf_counter()
        race = client.get("/lhp", params={**RACE, "wait": 0}).raise_for_status().json()
        beside_race = asker.ask(5)
        wait_until_ended(client, race["id"])
        race_s = time.perf_counter() - started_s
        race_call_s = read_call_s(client, race["id"])
    goals = [
        judge("beside a sweep", beside_sweep, alone, sweep_call_s),
        judge("beside a race", beside_race, alone, race_call_s),
        Goal(
            name="samples of the sweep while it was passed over",
            wanted="> 0",
            measured=f"{after - before}",
            met=after > before,
        ),
    ]
    text = "\n".join(
        [
            *opening(header, [], goals),
            "## Times of the answers",
            "",
            "| questions | number | median | longest | each, seconds |",
            "|---|---:|---:|---:|---|",
            describe("alone", alone),
            describe(f"beside a sweep of calls of {sweep_call_s:.2f} s", beside_sweep),
            describe(f"beside a race of calls of {race_call_s:.2f} s", beside_race),
            "",
            f"The race ended {race_s:.1f} s after it was asked for, or before the last question was"
            " answered.",
            "",
        ]
    )
    return publish(
        options.out,
        "fairness",
        text,
        header=header,
        notes=[],
        goals=goals,
        alone=alone,
        beside_sweep=beside_sweep,
        beside_race=beside_race,
        sweep_call_s=sweep_call_s,
        race_call_s=race_call_s,
        race_s=race_s,
    )


if __name__ == "__main__":
    raise SystemExit(main())
