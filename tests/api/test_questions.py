"""What both questions have in common: ready-made responses, and the parameters they take."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from profiler_service.api import questions
from profiler_service.api.questions import ReadyResponses
from tests.api.conftest import DTYPES, HOST, Worker, keep_curve
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs
from tests.api.kernels import BACKENDS, measure


def test_ready_responses_are_of_one_generation() -> None:
    ready = ReadyResponses()
    assert ready.find(b"/lhp?a", 1) is None
    ready.keep(b"/lhp?a", b"answer", 1)
    assert ready.find(b"/lhp?a", 1) == b"answer"
    assert ready.find(b"/lhp?b", 1) is None
    assert ready.find(b"/lhp?a", 2) is None
    ready.keep(b"/lhp?b", b"newer", 2)
    assert ready.find(b"/lhp?a", 2) is None
    assert ready.find(b"/lhp?b", 2) == b"newer"


def test_ready_responses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "MAX_READY_RESPONSES", 2)
    ready = ReadyResponses()
    for address in (b"a", b"b", b"c"):
        ready.keep(address, b"answer", 1)
    assert [ready.find(address, 1) for address in (b"a", b"b", b"c")] == [
        None,
        b"answer",
        b"answer",
    ]
    ready.keep(b"x" * 600, b"answer", 1)
    assert ready.find(b"x" * 600, 1) is None
    assert ready.find(b"b", 1) == b"answer"


@pytest.mark.anyio
async def test_two_questions_of_the_same_parameters_keep_their_own_responses(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    sqlite_worker.store.register_host(
        HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES, backends=BACKENDS
    )
    asking = asyncio.create_task(client.get("/crossover?dims=5,6"))
    measure(sqlite_worker.store, await sqlite_worker.take())
    assert (await asking).status_code == 200
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    await client.get("/curves")  # brings the service up to date
    for _ in range(2):  # read from curves, and then as it was kept
        for path, field in (("/lhp", "lhp"), ("/crossover", "kernels")):
            answer = await client.get(f"{path}?dims=5,6")
            assert field in answer.json(), path
            head = await client.head(f"{path}?dims=5,6")
            assert head.headers == answer.headers
