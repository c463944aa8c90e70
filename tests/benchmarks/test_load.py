"""The load generator reports every outcome, and each check of the load can fail."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from benchmarks.load import generator
from benchmarks.load.__main__ import check
from benchmarks.load.generator import Outcome, send

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


def send_to(answer: Answer, count: int) -> list[Outcome]:
    """The outcomes of so many requests to a server that treats each connection so."""

    async def run() -> list[Outcome]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            return await send(
                [f"http://127.0.0.1:{port}"],
                itertools.repeat("/lhp"),
                rate_hz=100.0,
                seconds=count / 100,
                connections=2,
            )

    return asyncio.run(run())


async def answer_in_turn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """200 and 503 in turn, over one connection."""
    for status in itertools.cycle(("200 OK", "503 Away")):
        try:
            await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            break
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    writer.close()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()  # until the client gives up
    writer.close()


def test_each_status_is_reported() -> None:
    statuses = sorted(each.status for each in send_to(answer_in_turn, 20))
    assert len(statuses) == 20
    assert set(statuses) == {200, 503}


def test_a_lost_connection_is_a_failure_and_not_the_end() -> None:
    assert [each.status for each in send_to(hang_up, 6)] == [0] * 6


def test_a_service_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "ANSWER_LIMIT_S", 0.1)
    outcomes = send_to(say_nothing, 4)
    assert [each.status for each in outcomes] == [0] * 4
    assert min(each.took_s for each in outcomes) >= 0.1


KNOWN = {"[256]": "lhp", "[264]": "dominated", "[272]": "lhp", "[280]": "undecided"}
FAST = [Outcome(status=200, took_s=0.004)] * 200


def test_each_check_can_fail() -> None:
    def judge(outcomes: list[Outcome], loaded: dict[str, str]) -> list[bool]:
        return [each.holds for each in check(outcomes, KNOWN, loaded)]

    assert judge(FAST, KNOWN) == [True, True, True]
    assert judge([*FAST, Outcome(status=503, took_s=0.004)], KNOWN) == [False, True, True]
    # 3 of 203 are slow: more than one in a hundred.
    assert judge([*FAST, *[Outcome(status=200, took_s=0.06)] * 3], KNOWN) == [True, False, True]
    assert judge(FAST, KNOWN | {"[264]": "lhp"}) == [True, True, False]
    # Nothing is contrary if nothing is known, but then nothing is shown either: 1 of 4 is too few.
    unsure = {"[256]": "lhp", "[264]": "undecided", "[272]": "undecided", "[280]": "undecided"}
    assert judge(FAST, unsure) == [True, True, False]
