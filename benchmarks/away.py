"""Stops PostgreSQL for 30 seconds under 64 clients: what do they get, and when is all well again?

    python -m benchmarks.away --out docs/results/away.md

One service, one worker whose latencies are made up, 64 clients. Most ask known questions, some ask
what must be measured. Prints a Markdown report. The exit code is 0 if everything holds, 1 if not, 2
without a verdict.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.checked import publish, simulated_host
from benchmarks.provenance import heading
from benchmarks.soak.checks import Check
from benchmarks.soak.machines import Postgres, Service, SoakError, run_service

CLIENTS = 64
ASKING_NEW = 8
"""So many of the clients ask what isn't known."""
PAUSE_S = 0.25
"""Between two requests of one client."""
BEFORE_S = 5
AFTER_S = 5
"""How long to go on after all should be well again."""
OUTAGE_S = 30
NOTICED_S = 4
"""So long after the database stopped, an answer need not be marked yet."""
RECOVERED_S = 10
HOST = "away"
KNOWN = [(first, second) for first in (200, 216, 232, 248) for second in (64, 80)]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What one request got."""

    at_s: float
    """When it was sent, on the monotonic clock."""
    took_s: float
    kind: str
    """`known` or `new`."""
    dims: str
    status: str
    """`transport` without a reply."""
    is_marked: bool
    retry_after: str | None


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=OUTAGE_S, help="how long it is stopped")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report there, too")
    given = parser.parse_args()
    lines = heading("PostgreSQL away", "benchmarks.away", "psycopg", "httpx", "uvicorn")
    try:
        with _parts() as (postgres, service):
            checks, table = asyncio.run(_watch(postgres, service, given.seconds))
    except SoakError as error:
        print(f"no verdict: {error}", file=sys.stderr)
        return 2
    text = [
        f"{CLIENTS} clients asked, {ASKING_NEW} of them what had to be measured, each"
        f" {1 / PAUSE_S:g} times a second. PostgreSQL was stopped for {given.seconds:g} s."
    ]
    return publish(given.out, lines, text, checks, more=table)


@contextlib.contextmanager
def _parts() -> Iterator[tuple[Postgres, Service]]:
    """The database, and a service that knows the answers to the known questions."""
    with (
        run_service("away", "--no-worker") as (folder, postgres, service),
        simulated_host(HOST, folder, postgres),
    ):
        for first, second in KNOWN:
            reply = _ask_until_known(service, f"{first},{second}")
            if reply.status_code != 200:
                raise SoakError(f"not answered beforehand: {reply.status_code} {reply.text}")
        yield postgres, service


def _ask_until_known(service: Service, dims: str) -> httpx.Response:
    """The reply to a question, asked again until the worker has registered and measured."""
    deadline_s = time.monotonic() + 120
    while True:
        reply = httpx.get(
            f"{service.url}/lhp",
            params={"dims": dims, "host": HOST, "budget": 0.3, "wait": 30},
            timeout=60,
            trust_env=False,
        )
        if reply.status_code == 200 or time.monotonic() > deadline_s:
            return reply
        time.sleep(0.5)


async def _watch(
    postgres: Postgres, service: Service, outage_s: float
) -> tuple[list[Check], list[str]]:
    """What was found, and a table of the replies during the outage."""
    replies: list[Reply] = []
    numbers = itertools.count(300)
    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    async with httpx.AsyncClient(
        base_url=service.url, timeout=30, trust_env=False, limits=limits
    ) as http:
        clients = [
            asyncio.create_task(_client(http, replies, numbers, asks_new=number < ASKING_NEW))
            for number in range(CLIENTS)
        ]
        await asyncio.sleep(BEFORE_S)
        stopped_s = time.monotonic()
        await asyncio.to_thread(postgres.stop)
        await asyncio.sleep(max(0.0, stopped_s + outage_s - time.monotonic()))
        await asyncio.to_thread(postgres.start)
        started_s = time.monotonic()
        await asyncio.sleep(RECOVERED_S + AFTER_S)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    before = [r for r in replies if r.at_s + r.took_s < stopped_s]
    during = [r for r in replies if stopped_s + NOTICED_S <= r.at_s < started_s - 2]
    after = [r for r in replies if r.at_s >= started_s + RECOVERED_S]
    recovered_s = _find_recovery(during, replies, started_s=started_s)
    return _check(before, during, after, replies, recovered_s), _table(during)


async def _client(
    http: httpx.AsyncClient, replies: list[Reply], numbers: Iterator[int], *, asks_new: bool
) -> None:
    new = next(numbers)
    for number in itertools.count():
        dims = f"{new},64" if asks_new else "{},{}".format(*KNOWN[number % len(KNOWN)])
        at_s = time.monotonic()
        params = {"dims": dims, "host": HOST, "budget": "0.3", "wait": "0" if asks_new else "30"}
        try:
            reply = await http.get("/lhp", params=params)
        except httpx.TransportError:
            status, headers = "transport", httpx.Headers()
        else:
            status, headers = str(reply.status_code), reply.headers
        if status == "200":
            # One question open at a time, so that the queue stays short: how long the service
            # takes to recover must not depend on what was asked before.
            new = next(numbers)
        replies.append(
            Reply(
                at_s=at_s,
                took_s=time.monotonic() - at_s,
                kind="new" if asks_new else "known",
                dims=dims,
                status=status,
                is_marked="Age" in headers and "Cache-Status" in headers,
                retry_after=headers.get("Retry-After"),
            )
        )
        await asyncio.sleep(PAUSE_S)


def _find_recovery(
    during: list[Reply], replies: list[Reply], *, started_s: float
) -> tuple[float | None, float | None]:
    """Seconds from the database's start to the last answer that was due, and those usually needed.

    Due are the questions that were refused while the database was away: each must be queued,
    measured and stored. None if one of them got no answer. Usually, a question needs so long from
    its first request to its answer (median of the others): eight are asked at once.
    """
    refused = {each.dims for each in during if each.kind == "new" and each.status == "503"}
    asked_s: dict[str, float] = {}
    answered_s: dict[str, float] = {}
    for each in sorted(replies, key=lambda each: each.at_s):
        if each.kind == "new":
            asked_s.setdefault(each.dims, each.at_s)
            if each.status == "200":
                answered_s[each.dims] = each.at_s + each.took_s
    due = [answered_s.get(dims, math.inf) - started_s for dims in refused]
    usual = [at_s - asked_s[dims] for dims, at_s in answered_s.items() if dims not in refused]
    return (
        max(due) if due and max(due) < math.inf else None,
        statistics.median(usual) if usual else None,
    )


def _check(
    before: list[Reply],
    during: list[Reply],
    after: list[Reply],
    replies: list[Reply],
    recovered_s: tuple[float | None, float | None],
) -> list[Check]:
    known = [r for r in during if r.kind == "known"]
    new = [r for r in during if r.kind == "new"]
    if not (before and known and new and after):
        raise SoakError("too few requests to say anything")
    answered = sum(r.status == "200" for r in known)
    marked = sum(r.status == "200" and r.is_marked for r in known)
    refused = sum(r.status == "503" and r.retry_after is not None for r in new)
    wrong = Counter(r.status for r in replies if r.status not in ("200", "202", "503"))
    lost = sum(r.status != "200" for r in replies if r.kind == "known")
    early = sum(r.is_marked for r in before)
    late = sum(r.is_marked or r.status not in ("200", "202") for r in after)
    slowest_s = max(r.took_s for r in known)
    return [
        Check(
            claim="known questions are answered meanwhile",
            found=f"{answered} of {len(known)}, the slowest in {slowest_s:.2f} s",
            holds=answered == len(known),
        ),
        Check(
            claim="every one at any time",
            found=f"{lost} weren't",
            holds=lost == 0,
        ),
        Check(
            claim=f"these answers are marked, from {NOTICED_S} s on",
            found=f"{marked} of {len(known)}",
            holds=marked == len(known),
        ),
        Check(
            claim="none was marked before",
            found=f"{early} of {len(before)}",
            holds=early == 0,
        ),
        Check(
            claim="all others get 503 with Retry-After",
            found=f"{refused} of {len(new)}",
            holds=refused == len(new),
        ),
        Check(
            claim="nothing else is ever sent",
            found=", ".join(f"{count} × {status}" for status, count in wrong.items()) or "none",
            holds=not wrong,
        ),
        Check(
            claim=f"all questions that were refused are answered within {RECOVERED_S} s",
            found=_describe_recovery(*recovered_s),
            holds=recovered_s[0] is not None and recovered_s[0] <= RECOVERED_S,
        ),
        Check(
            claim="from then on, all is as before",
            found=f"{late} of {len(after)} were refused or marked",
            holds=late == 0,
        ),
    ]


def _describe_recovery(last_s: float | None, usual_s: float | None) -> str:
    last = "not all" if last_s is None else f"the last one {last_s:.1f} s after PostgreSQL's start"
    usual = "" if usual_s is None else f"; others take {usual_s:.1f} s from the first request"
    return last + usual


def _table(during: list[Reply]) -> list[str]:
    counts = Counter((r.kind, r.status, r.is_marked) for r in during)
    return [
        "| question | reply meanwhile | marked | number |",
        "|---|---|---|---:|",
        *(
            f"| {kind} | {status} | {'yes' if marked else 'no'} | {count} |"
            for (kind, status, marked), count in sorted(counts.items())
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
