"""Sends thousands of generated requests, most of them wrong, and checks each response.

    python -m benchmarks.hostile --cases 20000 --out docs/results/hostile.md

schemathesis makes the requests from the service's own OpenAPI description, and checks the responses
by all its checks. The service runs on PostgreSQL, with one host whose latencies are made up. Prints
a Markdown report. The exit code is 0 if everything holds, 1 if not, 2 without a verdict.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.checked import publish, simulated_host
from benchmarks.provenance import heading
from benchmarks.soak.checks import Check
from benchmarks.soak.machines import Service, SoakError, run_service

HOST = "hostile"
METHODS = ("get", "post", "put", "patch", "delete")
READY_LIMIT_S = 120
REQUEST_LIMIT_S = 130
"""Longer than a question may wait (`LHP_MAX_WAIT_S`) and the database be waited for."""
ALLOWED = f"""\
[checks]
max_response_time = {REQUEST_LIMIT_S}
use_after_free.enabled = false
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503"]
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "403", "404", "409", "422", "429", "503"]
"""
"""What a request that the description allows may get. 422 is among it, as no schema can say how
many dims a workload has, or that `wait` excludes another parameter; 403, as a join key may be
wrong; 503, as the requests also remove hosts. A host that was removed can still be looked at. A
question may wait for its answer, for 30 s unless it says otherwise."""


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=20_000, help="at least so many requests")
    parser.add_argument("--seed", type=int, default=1, help="of the requests")
    parser.add_argument("--max-minutes", type=float, default=120, help="no verdict if not done")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report there, too")
    given = parser.parse_args()
    header = heading("Hostile requests", "benchmarks.hostile", "schemathesis", "fastapi", "uvicorn")
    try:
        with (
            run_service("hostile", "--no-worker") as (folder, postgres, service),
            simulated_host(HOST, folder, postgres),
        ):
            _wait_for_host(service)
            told, shown = _attack(folder, service, given.cases, given.seed, given.max_minutes * 60)
            checks = _check(told, service, given.cases)
            counts = _count_answers(service)
    except SoakError as error:
        print(f"no verdict: {error}", file=sys.stderr)
        return 2
    text = [
        f"schemathesis sent {told['test_cases']['generated']} requests to"
        f" {told['operations']['tested']} operations in {told['running_time'] / 60:.0f} minutes:"
        " every boundary of the description, random requests, and sequences of requests that follow"
        " links. 503 is a right reply where a request before has removed the host, and 422 where"
        " only the service knows what is wrong with a request that the description allows.",
    ]
    failing = [
        f"| {each['title']} | {each['count']} | {', '.join(each['operations'])} |"
        for each in told["failures"]
    ]
    answered = [f"| {name} | {_describe(by_status)} |" for name, by_status in counts.items()]
    more = ["| operation | responses by status |", "|---|---|", *answered]
    if failing or told["errors"]:
        more += ["", "| failure | number | operations |", "|---|---:|---|", *failing]
        more += ["", "```text", *shown.splitlines()[-400:], "```"]
    return publish(given.out, header, text, checks, more=more, schemathesis=told, responses=counts)


def _wait_for_host(service: Service) -> None:
    """Returns when the host can measure. Raises SoakError."""
    deadline_s = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline_s:
        listed = httpx.get(f"{service.url}/hosts", timeout=60, trust_env=False).json()
        if any((each["name"], each["state"]) == (HOST, "ready") for each in listed):
            return
        time.sleep(0.1)
    raise SoakError(f"host {HOST} isn't ready after {READY_LIMIT_S} s")


def _attack(
    folder: Path, service: Service, cases: int, seed: int, limit_s: float
) -> tuple[dict[str, Any], str]:
    """What schemathesis reports: its JSON, and its text. Raises SoakError."""
    (folder / "schemathesis.toml").write_text(ALLOWED)
    found = folder / "found.json"
    described = httpx.get(f"{service.url}/openapi.json", timeout=60, trust_env=False).json()
    operations = sum(method in METHODS for path in described["paths"].values() for method in path)
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file"),
        "schemathesis.toml",
        *("run", f"{service.url}/openapi.json", "--checks", "all", "--continue-on-failure"),
        *("--max-examples", str(math.ceil(cases / operations)), "--seed", str(seed)),
        *("--no-shrink", "--no-color", "--generation-database", "none", "--workers", "2"),
        *("--request-timeout", str(REQUEST_LIMIT_S), "--suppress-health-check", "all"),
        *("--report", "json", "--report-json-path", str(found)),
    ]
    try:
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SoakError(f"schemathesis hasn't ended after {limit_s:g} s") from error
    if not found.exists():
        raise SoakError(f"schemathesis ended with {done.returncode}:\n{done.stdout[-2000:]}")
    told: dict[str, Any] = json.loads(found.read_text())
    return told, done.stdout


def _count_answers(service: Service) -> dict[str, dict[str, int]]:
    """Operation → status → how many responses, as the service counts them."""
    described = httpx.get(f"{service.url}/openapi.json", timeout=60, trust_env=False).json()
    counted = httpx.get(f"{service.url}/metrics", timeout=60, trust_env=False).text
    counts: dict[str, dict[str, int]] = {
        f"{method.upper()} {path}": {}
        for path, operations in described["paths"].items()
        for method in operations
        if method in METHODS
    }
    for family in text_string_to_metric_families(counted):
        for sample in family.samples:
            if sample.name == "lhp_request_duration_seconds_count":
                name = f"{sample.labels['method']} {sample.labels['route']}"
                if name in counts:
                    counts[name][sample.labels["code"]] = int(sample.value)
    return counts


def _describe(by_status: dict[str, int]) -> str:
    return ", ".join(f"{status}: {count}" for status, count in sorted(by_status.items())) or "none"


def _check(told: dict[str, Any], service: Service, cases: int) -> list[Check]:
    counts = {each["type"]: int(each["count"]) for each in told["failures"]}
    crashes = counts.pop("ServerError", 0)
    violations = sum(counts.values())
    generated = int(told["test_cases"]["generated"])
    tested, total = told["operations"]["tested"], told["operations"]["total"]
    return [
        Check(
            claim=f"{cases} requests were sent, to every operation",
            found=f"{generated}, to {tested} of {total}",
            holds=generated >= cases and tested == total and told["complete"],
        ),
        Check(claim="no status 5xx but 503", found=f"{crashes}", holds=crashes == 0),
        Check(
            claim="no violation of the description",
            found=", ".join(f"{count} × {kind}" for kind, count in counts.items()) or "none",
            holds=violations == 0,
        ),
        Check(
            claim="schemathesis could check everything",
            found=f"{len(told['errors'])} errors",
            holds=not told["errors"],
        ),
        Check(
            claim="the service lives afterwards",
            found="it is ready" if service.is_ready() else "it isn't ready",
            holds=service.is_ready(),
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
