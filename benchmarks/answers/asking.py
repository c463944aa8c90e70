"""Asks the queries of a run, and has the answers refereed, one after the other."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx

from benchmarks.answers.dims import Dims, draw_queries, growth, show
from benchmarks.answers.machine import busy_processor
from benchmarks.answers.processes import RENEW_AFTER, Referee, open_referee
from benchmarks.answers.service import (
    WAIT_S,
    Failure,
    Reply,
    ask,
    find_platform,
    fresh_service,
    wait_until_idle,
)
from benchmarks.answers.simulated import SCENARIOS, simulate
from benchmarks.answers.trials import Findings, Trial

COMMAND = Path(sys.executable).parent / "lhp"
IDLE_LIMIT_S = 600.0
"""What a service measures after an answer (a comparison of kernels) must end within this."""
RACES_AT_ONCE = 20

Save = Callable[[], bool]
"""Keeps what was found, and says whether there is time for more."""


class Services:
    """Fresh services with empty databases. They are replaced after RENEW_AFTER queries."""

    def __init__(self, count: int, command: Path) -> None:
        self._count = count
        self._command = command
        self._stack = contextlib.ExitStack()
        self._clients: list[httpx.Client] = []
        self._num_queries = 0

    def close(self) -> None:
        """Ends the services."""
        self._stack.close()
        self._clients = []

    def ask(self, dims: Dims, order: Sequence[int], **parameters: str) -> list[Reply | Failure]:
        """The reply of each service, asked in this order; each has become idle before the next."""
        if self._num_queries % RENEW_AFTER == 0:
            self.close()
            for _ in range(self._count):
                url, _ = self._stack.enter_context(fresh_service(self._command))
                client = httpx.Client(base_url=url, timeout=WAIT_S + 30)
                self._clients.append(self._stack.enter_context(client))
        self._num_queries += 1
        replies = {}
        for number in order:
            client = self._clients[number]
            wait_until_idle(client, limit_s=IDLE_LIMIT_S)
            replies[number] = ask(client, dims, **parameters)
            wait_until_idle(client, limit_s=IDLE_LIMIT_S)
        return [replies[number] for number in sorted(replies)]

    def conditions(self, reply: Reply) -> tuple[int, int, str]:
        """Threads and processors that an answer was measured with, and a note about them."""
        platform = find_platform(self._clients[0], reply.platform)
        threads, cpus = int(platform["threads"]), int(platform["cpus"])
        note = (
            f"platform {reply.platform}: {threads} threads on {cpus} processors,"
            f" {platform['framework']}"
        )
        return threads, cpus, note


@contextlib.contextmanager
def open_services(count: int) -> Iterator[Services]:
    """Services of the console script `lhp` beside this Python, ended with the context."""
    services = Services(count, COMMAND)
    try:
        yield services
    finally:
        services.close()


def ask_and_judge(
    services: Services,
    referee: Referee,
    dims: Dims,
    *,
    prefer: str,
    order: Sequence[int],
    busy: bool,
    findings: Findings,
) -> Trial:
    """One query: asked of the services, then refereed. The referee always measures without load."""
    parameters = {} if prefer == "fastest" else {"prefer": prefer}
    with busy_processor() if busy else contextlib.nullcontext():
        replies = services.ask(dims, order, **parameters)
    answers = [reply for reply in replies if isinstance(reply, Reply)]
    measurement = None
    if answers:
        threads, cpus, note = services.conditions(answers[0])
        findings.note(note)
        larger = growth(dims, answers[0].answer)
        measurement = referee.judge(
            dims,
            [reply.answer for reply in answers],
            threads=threads,
            cpus=cpus,
            # Is there a smaller one that would do?
            below=larger if prefer == "nearest" and larger else None,
        )
    return Trial(dims=dims, prefer=prefer, replies=tuple(replies), measurement=measurement)


def tell(trial: Trial, number: int, total: int) -> None:
    """Prints one line of progress."""
    parts = []
    for reply in trial.replies:
        if isinstance(reply, Failure):
            parts.append(f"no answer: {reply.reason}")
            continue
        ratio = trial.refereed.ratio(reply.answer, trial.dims)
        parts.append(
            f"{show(reply.answer)} in {reply.wall_s:.1f} s, settled {reply.settled}, margin"
            f" {reply.margin}, {ratio.estimate:.4f} ± {ratio.high - ratio.estimate:.4f} of asked"
        )
    print(
        f"{number}/{total} {trial.prefer} {show(trial.dims)} → {'; '.join(parts)}",
        file=sys.stderr,
        flush=True,
    )


def run_queries(
    findings: Findings,
    asked: Sequence[tuple[Dims, str]],
    *,
    services: int,
    seconds: float,
    processes: int,
    seed: int,
    busy: bool,
    save: Save,
) -> bool:
    """Asks and judges what isn't yet in the findings; False if the time was up before."""
    left = asked[len(findings.of(*{prefer for _, prefer in asked})) :]
    if not left:
        return True
    rng = random.Random(seed)
    with (
        open_services(services) as servers,
        open_referee(seconds=seconds, seed=rng.randrange(1 << 32), processes=processes) as referee,
    ):
        for number, (dims, prefer) in enumerate(left, start=len(asked) - len(left)):
            trial = ask_and_judge(
                servers,
                referee,
                dims,
                prefer=prefer,
                # In turn, so that neither service is always the first.
                order=[(number + i) % services for i in range(services)],
                busy=busy,
                findings=findings,
            )
            findings.trials.append(trial)
            tell(trial, number + 1, len(asked))
            if not save() and number + 1 < len(asked):
                return False
    return True


def run_noise(findings: Findings, *, races: int, save: Save) -> bool:
    """Simulates what isn't yet in the findings; False if the time was up before."""
    for scenario in SCENARIOS:
        found = findings.noise.setdefault(scenario, [])
        while len(found) < races:
            first, last = len(found), min(races, len(found) + RACES_AT_ONCE)
            found.extend(simulate(scenario, range(first, last)))
            print(f"{scenario}: {len(found)} of {races} races", file=sys.stderr, flush=True)
            if not save():
                return False
    return True


def draw_preferences(count: int, seed: int) -> list[tuple[Dims, str]]:
    """`count` queries that ask for `nearest` and `largest` in turn."""
    prefers = ("nearest", "largest")
    return [(d, prefers[n % 2]) for n, d in enumerate(draw_queries(count, seed))]
