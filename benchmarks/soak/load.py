"""The load: clients that ask, start and cancel sweeps, follow them, and read curves.

What the service accepted or showed is remembered, so that it can be looked for at the end.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

LATER = ("429", "503")
KILLED = ("/problems/measurement-failed", "/problems/measurement-child-died")
"""What a request may get while something is killed: to come again later (a queue fills while its
host is away), if it says when; and types of problems. Any other reply that the request doesn't
deserve is a defect."""


@dataclass(kw_only=True)
class Seen:
    """What the clients were told; safe to share, because each operation on it is atomic."""

    sweeps: set[str] = field(default_factory=set)
    """Ids of sweeps that the service said it has."""
    curves: set[str] = field(default_factory=set)
    """Ids of curves that the service said it has."""
    replies: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each kind of request got each status, or `transport` for none."""
    defects: list[str] = field(default_factory=list)
    """Replies that no kill excuses: 500, or a status that the request can't deserve."""


def find_wrong(answer: Mapping[str, Any], dims: tuple[int, int]) -> str:
    """What contradicts itself in an answer, or is about another question; empty if nothing does."""
    if tuple(answer["dims"]) != dims:
        return f"about {answer['dims']} instead of {list(dims)}"
    if any(larger < asked for larger, asked in zip(answer["lhp"], dims, strict=True)):
        return f"{answer['lhp']} is smaller than {list(dims)}"
    low, high = answer["speedup_interval"]
    if not 0 < low <= high or answer["latency_s"] <= 0 or answer["lhp_latency_s"] <= 0:
        return "an interval or a latency that can't be"
    if answer["verdict"] == "faster" and low < 1:
        return f"confidently faster, by {low:g} to {high:g}"
    return ""


class Client:
    """One client; its requests follow from `seed`."""

    def __init__(self, url: str, seen: Seen, seed: int) -> None:
        self._url = url
        self._seen = seen
        self._random = random.Random(seed)

    def run(self, stop: threading.Event) -> None:
        """Sends one request after the other until told to stop."""
        actions = (self._query, self._query, self._sweep, self._cancel, self._follow, self._read)
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as http:
            while not stop.is_set():
                try:
                    self._random.choice(actions)(http)
                except httpx.TransportError:
                    stop.wait(0.2)

    def _query(self, http: httpx.Client) -> None:
        out, fed = self._random.randint(60, 400), self._random.randint(60, 200)
        reply = self._send(
            http,
            "query",
            {"200", "202", "409"},  # 409: another client cancelled its sweep
            "GET",
            "/lhp",
            params={"dims": f"{out},{fed}", "budget": 0.3, "wait": self._random.choice((0, 2, 20))},
        )
        if reply.status_code == 200:
            self._seen.curves.add(str(reply.json()["curve"]))
            if wrong := find_wrong(reply.json(), (out, fed)):
                self._seen.defects.append(f"query: wrong answer: {wrong}")
        elif reply.status_code == 202:
            self._seen.sweeps.add(str(reply.json()["id"]))

    def _sweep(self, http: httpx.Client) -> None:
        first = self._random.randint(16, 200)
        body = {
            "workload": "matmul",
            "axes": [{"first": first, "last": first + self._random.randint(4, 24)}],
            "budget": self._random.choice((0.5, 2.0)),
        }
        reply = self._send(http, "sweep", {"200", "201"}, "POST", "/sweeps", json=body)
        if reply.is_success:
            self._seen.sweeps.add(str(reply.json()["id"]))

    def _cancel(self, http: httpx.Client) -> None:
        if self._random.random() < 0.3 and (sweep := self._any(self._seen.sweeps)):
            self._send(http, "cancel", {"200", "409"}, "POST", f"/sweeps/{sweep}/cancel")

    def _follow(self, http: httpx.Client) -> None:
        if sweep := self._any(self._seen.sweeps):
            with self._counting("follow"), http.stream("GET", f"/sweeps/{sweep}/events") as reply:
                self._count("follow", {"200"}, reply)
                for number, _ in enumerate(reply.iter_lines()):
                    if number > 20:
                        break

    def _read(self, http: httpx.Client) -> None:
        reply = self._send(http, "list", {"200"}, "GET", "/curves", params={"limit": 20})
        if reply.is_success:
            self._seen.curves.update(str(each["id"]) for each in reply.json()["items"])
        if curve := self._any(self._seen.curves):
            self._send(http, "curve", {"200"}, "GET", f"/curves/{curve}")

    def _any(self, ids: set[str]) -> str | None:
        known = sorted(ids.copy())
        return self._random.choice(known) if known else None

    def _send(
        self,
        http: httpx.Client,
        kind: str,
        expected: set[str],
        method: str,
        path: str,
        **given: object,
    ) -> httpx.Response:
        with self._counting(kind):
            reply = http.request(method, path, **given)  # type: ignore[arg-type]
        self._count(kind, expected, reply)
        return reply

    @contextlib.contextmanager
    def _counting(self, kind: str) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError:
            self._seen.replies[kind, "transport"] += 1
            raise

    def _count(self, kind: str, expected: set[str], reply: httpx.Response) -> None:
        status = str(reply.status_code)
        self._seen.replies[kind, status] += 1
        if status in expected or (status in LATER and "Retry-After" in reply.headers):
            return
        reply.read()
        with contextlib.suppress(ValueError):
            if reply.json().get("type") in KILLED:
                return
        self._seen.defects.append(f"{kind}: {status} {reply.text[:300]}")
