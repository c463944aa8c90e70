"""What the benchmarks share that check a running service: their report, and a simulated host."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.soak.checks import Check
from benchmarks.soak.machines import Postgres, kill


def publish(
    out: Path | None,
    header: Sequence[str],
    text: Sequence[str],
    checks: Sequence[Check],
    *,
    more: Sequence[str] = (),
    **figures: object,
) -> int:
    """The exit code by the checks. Prints the report: header, text, checks, and what is more.

    `header` comes from `provenance.heading`. Writes the report to `out`, and its figures to the
    JSON file beside it, if there is an `out`.
    """
    report = "\n".join([*header, *text, "", *_table(checks), *(["", *more] if more else [])])
    print(report)
    if out is not None:
        raw = {"header": header, "checks": [asdict(check) for check in checks], **figures}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(report + "\n")
        out.with_suffix(".json").write_text(json.dumps(raw, indent=1) + "\n")
    return 0 if all(check.holds for check in checks) else 1


@contextlib.contextmanager
def simulated_host(name: str, folder: Path, postgres: Postgres) -> Iterator[None]:
    """A worker whose latencies are made up; it logs to `folder`, and ends with the context."""
    environment = {
        "LHP_DATABASE_URL": postgres.url,
        "LHP_HOST": name,
        "LHP_PARTITION": f"{name}-{os.getpid()}",  # not kept waiting by a worker of this machine
    }
    command = [sys.executable, "-m", "benchmarks.many_hosts.simulated"]
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(command, env=os.environ | environment, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            kill(process.pid)


def _table(checks: Sequence[Check]) -> list[str]:
    """A Markdown table: one line for each check."""
    return [
        "| what must hold | found | |",
        "|---|---|---|",
        *(f"| {_cell(c.claim)} | {_cell(c.found)} | {_verdict(c)} |" for c in checks),
    ]


def _verdict(check: Check) -> str:
    return "holds" if check.holds else "**fails**"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
