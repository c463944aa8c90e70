"""What tokens cost a warm query: one server that asks for them beside one that doesn't.

    apt-get install wrk        # the load generator; https://github.com/wg/wrk
    python -m benchmarks.tokens --out docs/results/tokens

Both servers are set up as in `benchmarks.query`, with the same saved curve. One database has a
token, which the requests to that server carry; its limit on requests is counted, and never reached.
wrk asks both in turn, A B A B …, with one query again and again: the cheapest one, of which a
token's check is the largest part. Compared are requests per second, and the processor time of the
server's process for one request, which other programs on the machine hardly change.

Goal: a warm query with tokens costs at most 10 % more than without.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.provenance import heading
from benchmarks.query import FIRST, load, server
from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope
from profiler_service.storage.store import Store

PATH = f"/lhp?dims={FIRST},{FIRST}"
NO_LIMIT = "999999999/second"
MOST = 1.10


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the load generator."""

    requests_hz: float
    cpu_s: float
    """Processor time of the server for one request."""


def find_server(address: str) -> int:
    """The id of the process that listens on the address's port, among this one's children."""
    port = re.escape(address.rpartition(":")[2])
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if re.search(rf"--serve\x00.*\x00{port}\x00", path.read_bytes().decode()):
                return int(path.parent.name)
    sys.exit("the server's process isn't there")


def cpu_s(process: int) -> float:
    """The processor time that the process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def two_servers(directory: Path) -> Iterator[tuple[str, str, str]]:
    """The addresses of the server without tokens and of that with them, and a token."""
    os.environ["LHP_RATE_LIMIT"] = NO_LIMIT
    for name in ("without", "with"):
        (directory / name).mkdir()
    with server(directory / "without") as plain, server(directory / "with") as guarded:
        store = Store.open(f"sqlite:///{directory / 'with' / 'lhp.sqlite'}")
        _, token = store.create_token("benchmark", [Scope.READ], lifetime_s=None, by=Caller())
        store.close()
        yield plain, guarded, token


def measure(address: str, token: str, seconds: int, directory: Path) -> Run:
    """One run; exits if a request failed."""
    script = f'wrk.headers["Authorization"] = "Bearer {token}"\n' if token else ""
    process = find_server(address)
    before_s = cpu_s(process)
    loaded = load(address, PATH, script, seconds, directory)
    used_s = cpu_s(process) - before_s
    return Run(requests_hz=loaded.requests_hz, cpu_s=used_s / (loaded.requests_hz * seconds))


def main() -> None:
    """Runs the benchmark and prints the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=10, help="A B pairs")
    parser.add_argument("--seconds", type=int, default=3, help="length of each run")
    parser.add_argument("--out", type=Path, help="write OUT.md")
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing; install it: apt-get install wrk (or https://github.com/wg/wrk)")
    header = heading(
        "Warm queries with tokens and without", "benchmarks.tokens", "fastapi", "uvicorn", "limits"
    )
    pairs: list[tuple[Run, Run]] = []
    with (
        tempfile.TemporaryDirectory() as name,
        two_servers(Path(name)) as (plain, guarded, token),
    ):
        directory = Path(name)
        for _ in range(args.pairs + 1):  # the first one warms up
            pairs.append(
                (
                    measure(plain, "", args.seconds, directory),
                    measure(guarded, token, args.seconds, directory),
                )
            )
            a, b = pairs[-1]
            print(f"without {a.cpu_s * 1e6:.1f} µs, with {b.cpu_s * 1e6:.1f} µs", file=sys.stderr)
    ratios = sorted(b.cpu_s / a.cpu_s for a, b in pairs[1:])
    rates = sorted(a.requests_hz / b.requests_hz for a, b in pairs[1:])
    without_s = statistics.median(a.cpu_s for a, _ in pairs[1:])
    with_s = statistics.median(b.cpu_s for _, b in pairs[1:])
    verdict = "met" if statistics.median(ratios) <= MOST else "missed"
    lines = [
        *header,
        f"{args.pairs} pairs of {args.seconds} s, one query again and again over 16 connections.",
        "",
        f"Goal: processor time for one request at most {MOST:.2f} times that without: {verdict}.",
        "",
        "| | without | with | with / without, median (least to greatest) |",
        "|---|---|---|---|",
        f"| processor time for one request, µs | {without_s * 1e6:.1f} | {with_s * 1e6:.1f} |"
        f" {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}) |",
        "| time for one request under full load | | |"
        f" {statistics.median(rates):.3f} ({rates[0]:.3f} to {rates[-1]:.3f}) |",
    ]
    print("\n".join(lines))
    if args.out:
        args.out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
