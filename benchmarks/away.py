"""Stops PostgreSQL for 30 seconds under 64 clients: what do they get, and when is all well again?

    python -m benchmarks.away --out docs/results/away.md

One service, one worker whose latencies are made up, 64 clients. Most ask known questions, eight ask
what must be measured. The service has recovered when each of the eight has an answer or its place
in the queue: then it knows the database again, and takes up measuring. When all of them are
answered says less, because one host measures them one after the other, each for seconds. So that
time is told beside another one: how long eight such questions, asked at once, take in the same run
before the database was stopped. Prints a Markdown report. The exit code is 0 if everything holds, 1
if not, 2 without a verdict.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
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
"""How long to go on after all should be well again, and until all is answered."""
ANSWERED_LIMIT_S = 60
"""How long all answers are waited for, before the outage and after it."""
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
    is_placed: bool
    """Whether it says how many measurements come before."""
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
    # The service closes connections that were idle for 5 s. One that is used just then is lost.
    limits = httpx.Limits(
        max_connections=CLIENTS, max_keepalive_connections=CLIENTS, keepalive_expiry=2
    )
    async with httpx.AsyncClient(
        base_url=service.url, timeout=30, trust_env=False, limits=limits
    ) as http:
        clients = [
            asyncio.create_task(_client(http, replies, numbers, asks_new=False))
            for _ in range(CLIENTS - ASKING_NEW)
        ]
        control_s = await _time_control(http, numbers)
        clients += [
            asyncio.create_task(_client(http, replies, numbers, asks_new=True))
            for _ in range(ASKING_NEW)
        ]
        await asyncio.sleep(BEFORE_S)
        stopped_s = time.monotonic()
        await asyncio.to_thread(postgres.stop)
        await asyncio.sleep(max(0.0, stopped_s + outage_s - time.monotonic()))
        await asyncio.to_thread(postgres.start)
        started_s = time.monotonic()
        await asyncio.sleep(RECOVERED_S + AFTER_S)
        during = [r for r in replies if stopped_s + NOTICED_S <= r.at_s < started_s - 2]
        while True:
            recovery = find_recovery(during, replies, started_s=started_s, control_s=control_s)
            is_late = time.monotonic() > started_s + ANSWERED_LIMIT_S
            if recovery.answered_s is not None or is_late:
                break
            await asyncio.sleep(PAUSE_S)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    before = [r for r in replies if r.at_s + r.took_s < stopped_s]
    after = [r for r in replies if r.at_s >= started_s + RECOVERED_S]
    return check(before, during, after, replies, recovery), _table(during)


async def _time_control(http: httpx.AsyncClient, numbers: Iterator[int]) -> float:
    """Seconds until new questions, one of each client and all asked at once, are answered.

    Raises SoakError.
    """
    begun_s = time.monotonic()

    async def ask() -> None:
        dims = f"{next(numbers)},64"
        while (reply := await _ask_new(http, dims)).status_code != 200:
            if time.monotonic() > begun_s + ANSWERED_LIMIT_S:
                raise SoakError(f"no answer to a new question: {reply.status_code} {reply.text}")
            await asyncio.sleep(PAUSE_S)

    await asyncio.gather(*(ask() for _ in range(ASKING_NEW)))
    return time.monotonic() - begun_s


async def _ask_new(http: httpx.AsyncClient, dims: str) -> httpx.Response:
    """The reply to a question that must be measured, which doesn't wait for that."""
    return await http.get("/lhp", params={"dims": dims, "host": HOST, "budget": "0.3", "wait": "0"})


async def _client(
    http: httpx.AsyncClient, replies: list[Reply], numbers: Iterator[int], *, asks_new: bool
) -> None:
    new = next(numbers)
    for number in itertools.count():
        dims = f"{new},64" if asks_new else "{},{}".format(*KNOWN[number % len(KNOWN)])
        at_s = time.monotonic()
        params = {"dims": dims, "host": HOST, "budget": "0.3", "wait": "30"}
        is_placed = False
        try:
            reply = await (_ask_new(http, dims) if asks_new else http.get("/lhp", params=params))
        except httpx.TransportError:
            status, headers = "transport", httpx.Headers()
        else:
            status, headers = str(reply.status_code), reply.headers
            is_placed = status == "202" and reply.json().get("ahead") is not None
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
                is_placed=is_placed,
                retry_after=headers.get("Retry-After"),
            )
        )
        await asyncio.sleep(PAUSE_S)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Seconds from the database's start to what the refused clients got then.

    Each of them asks its one question again and again until that is answered.
    """

    taken_up_s: float | None
    """Until each had an answer or its place in the queue; None if one had neither."""
    answered_s: float | None
    """Until each had its answer; None if one had none."""
    control_s: float
    """How long as many new questions take, asked at once, while the database is there."""


def find_recovery(
    during: Sequence[Reply], replies: Sequence[Reply], *, started_s: float, control_s: float
) -> Recovery:
    """When the questions that were refused while the database was away were taken up, and answered.

    Raises SoakError if none was refused.
    """
    refused = {each.dims for each in during if each.kind == "new" and each.status == "503"}
    if not refused:
        raise SoakError("no question was refused while the database was away")
    taken_up_s: dict[str, float] = {}
    answered_s: dict[str, float] = {}
    for each in sorted(replies, key=lambda each: each.at_s + each.took_s):
        got_s = each.at_s + each.took_s - started_s
        if each.dims not in refused or got_s < 0:
            continue
        if each.status == "200" or each.is_placed:
            taken_up_s.setdefault(each.dims, got_s)
        if each.status == "200":
            answered_s.setdefault(each.dims, got_s)

    def last(got_s: dict[str, float]) -> float | None:
        return max(got_s.values()) if got_s.keys() == refused else None

    return Recovery(taken_up_s=last(taken_up_s), answered_s=last(answered_s), control_s=control_s)


def check(
    before: list[Reply],
    during: list[Reply],
    after: list[Reply],
    replies: list[Reply],
    recovery: Recovery,
) -> list[Check]:
    """What must hold before, during and after the outage. Raises SoakError for too few replies."""
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
            claim="each client that was refused has an answer, or its place in the queue, within"
            f" {RECOVERED_S} s",
            found="one had neither"
            if recovery.taken_up_s is None
            else f"the last one {recovery.taken_up_s:.1f} s after PostgreSQL's start",
            holds=recovery.taken_up_s is not None and recovery.taken_up_s <= RECOVERED_S,
        ),
        Check(
            claim="all of them are answered in the end",
            found=_describe_answers(recovery),
            holds=recovery.answered_s is not None,
        ),
        Check(
            claim="from then on, all is as before",
            found=f"{late} of {len(after)} were refused or marked",
            holds=late == 0,
        ),
    ]


def _describe_answers(recovery: Recovery) -> str:
    last = (
        "not all"
        if recovery.answered_s is None
        else f"the last one {recovery.answered_s:.1f} s after PostgreSQL's start"
    )
    return (
        f"{last}; {ASKING_NEW} such questions, asked at once before the outage, took"
        f" {recovery.control_s:.1f} s"
    )


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
