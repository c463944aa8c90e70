"""What both questions have in common: ready-made responses, and the parameters they take."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.datastructures import QueryParams

from profiler_service.answering.lhp import LhpQuestion
from profiler_service.api import ready_responses
from profiler_service.api.dependencies import _read_items
from profiler_service.api.ready_responses import ReadyResponse, ReadyResponses
from tests.api.conftest import DTYPES, HOST, Worker, keep_curve
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs
from tests.api.kernels import BACKENDS, measure

ANSWER, NEWER = ReadyResponse(b"answer", list), ReadyResponse(b"newer", list)


def test_ready_responses_are_of_one_generation() -> None:
    ready = ReadyResponses()
    assert ready.find(b"/lhp?a", 1) is None
    ready.keep(b"/lhp?a", ANSWER, 1)
    assert ready.find(b"/lhp?a", 1) == ANSWER
    assert ready.find(b"/lhp?b", 1) is None
    assert ready.find(b"/lhp?a", 2) is None
    ready.keep(b"/lhp?b", NEWER, 2)
    assert ready.find(b"/lhp?a", 2) is None
    assert ready.find(b"/lhp?b", 2) == NEWER


def test_ready_responses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready_responses, "MAX_READY_RESPONSES", 2)
    ready = ReadyResponses()
    for address in (b"a", b"b", b"c"):
        ready.keep(address, ANSWER, 1)
    assert [ready.find(address, 1) for address in (b"a", b"b", b"c")] == [
        None,
        ANSWER,
        ANSWER,
    ]
    ready.keep(b"x" * 600, ANSWER, 1)
    assert ready.find(b"x" * 600, 1) is None
    assert ready.find(b"b", 1) == ANSWER


@pytest.mark.anyio
async def test_two_questions_of_the_same_parameters_keep_their_own_responses(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    sqlite_worker.store.register_host(
        HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES, backends=BACKENDS
    )
    asking = asyncio.create_task(client.get("/crossover?dims=5,6"))
    measure(sqlite_worker.store, await sqlite_worker.take(asking))
    assert (await asking).status_code == 200
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    await client.get("/curves")  # brings the service up to date
    for _ in range(2):  # read from curves, and then as it was kept
        for path, field in (("/lhp", "lhp"), ("/crossover", "kernels")):
            headers = {"X-Request-Id": "same"}
            answer = await client.get(f"{path}?dims=5,6", headers=headers)
            assert field in answer.json(), path
            head = await client.head(f"{path}?dims=5,6", headers=headers)
            assert head.headers == answer.headers


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The dims of every question whose answer is read from curves."""
    asked: list[str] = []
    find = LhpQuestion.find

    def find_and_tell(self: LhpQuestion, *given: Any, **named: Any) -> Any:
        asked.append(self.wanted)
        return find(self, *given, **named)

    monkeypatch.setattr(LhpQuestion, "find", find_and_tell)
    return asked


async def keep_grid(client: httpx.AsyncClient, worker: Worker) -> None:
    """A stored curve from 1 to 64 on both axes, of which the service knows."""
    worker.store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
    keep_curve(worker.store, square(1, 64), stairs(8))
    await client.get("/curves")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "spelling",
    [
        "dims=5,%206",
        "dims=+5%2C6",
        "dims=05,06",
        "workload=linear&dims=5,6",
        "batch=016&dims=5,6",
        "dims=5,6&dtype=float32&backend=dense&prefer=fastest&effort=quick&max_growth=0.125",
        "dims=5,6&max_growth=1.25e-1&settle=3.0&multiple_of=1",
        # Never less than 32 points: the same window.
        "dims=5,6&max_growth=0.2",
        "dims=5,6&wait=7",
        f"host={HOST}&dims=5,6",
        f"platform={PLATFORM.key}&dims=5,6",
    ],
)
async def test_a_known_answer_is_sent_again_however_the_question_is_written(
    client: httpx.AsyncClient, sqlite_worker: Worker, found: list[str], spelling: str
) -> None:
    await keep_grid(client, sqlite_worker)
    first = await client.get("/lhp?dims=5,6")
    assert (first.status_code, found) == (200, ["5,6"])
    for _ in range(2):  # by its meaning, and then by its address
        again = await client.get(f"/lhp?{spelling}")
        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers["content-type"] == "application/json"
    assert found == ["5,6"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "other",
    [
        "dims=6,5",
        "dims=5,6&max_growth=1&multiple_of=2",
        "dims=5,6&prefer=nearest",
        "dims=5,6&effort=thorough",
        "dims=5,6&budget=1",
        "dims=5,6&settle=4",
        "dims=5,6&multiple_of=4",
    ],
)
async def test_another_question_is_not_taken_for_a_known_one(
    client: httpx.AsyncClient, sqlite_worker: Worker, found: list[str], other: str
) -> None:
    await keep_grid(client, sqlite_worker)
    await client.get("/lhp?dims=5,6")
    answer = await client.get(f"/lhp?{other}")
    assert answer.status_code == 200
    assert len(found) == 2


@pytest.mark.anyio
async def test_another_workload_is_not_taken_for_a_known_one(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    await keep_grid(client, sqlite_worker)
    await client.get("/lhp?dims=5,6")
    # Nothing is stored for it, and nobody measures.
    for other in ("batch=17", "dtype=bfloat16", "workload=matmul"):
        assert (await client.get(f"/lhp?dims=5,6&wait=0&{other}")).status_code != 200


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("bad", "status"),
    [
        ("dims=5,6&dims=5,6", 422),
        ("dims=5,6&wait=100000", 422),
        ("dims=5,6&wait=soon", 422),
        ("dims=5,6&prefer=best", 422),
        ("dims=5,6&max_growth=-1", 422),
        ("dims=5,6&batch=16.0", 422),
        ("dims=5,6&bacth=16", 422),
        ("dims=5,6,", 422),
        ("dims=5;6", 422),
        ("", 422),
        ("dims=5,6&host=elsewhere", 404),
        ("dims=5,6&platform=none", 404),
        ("dims=5,6&workload=nothing", 404),
    ],
)
async def test_a_bad_question_about_a_known_answer_is_refused(
    client: httpx.AsyncClient, sqlite_worker: Worker, bad: str, status: int
) -> None:
    await keep_grid(client, sqlite_worker)
    assert (await client.get("/lhp?dims=5,6")).status_code == 200
    for _ in range(2):
        refused = await client.get(f"/lhp?{bad}")
        assert refused.status_code == status
        assert refused.headers["content-type"] == "application/problem+json"


@pytest.mark.anyio
async def test_an_answer_that_may_be_too_old_later_is_not_kept(
    client: httpx.AsyncClient, sqlite_worker: Worker, found: list[str]
) -> None:
    await keep_grid(client, sqlite_worker)
    for number in (1, 2, 3):
        assert (await client.get("/lhp?dims=5,6&max_age=100000d")).status_code == 200
        assert len(found) == number
    # Without an age, it is another question.
    await client.get("/lhp?dims=5,6")
    assert len(found) == 4


@pytest.mark.anyio
async def test_a_new_curve_answers_however_the_question_is_written(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    await keep_grid(client, sqlite_worker)
    assert (await client.get("/lhp?dims=5,6")).json()["lhp"] == [8, 8]
    keep_curve(sqlite_worker.store, square(1, 64), stairs(16))
    await client.get("/curves")
    assert (await client.get("/lhp?workload=linear&dims=5,6")).json()["lhp"] == [16, 16]


@pytest.mark.parametrize(
    "query",
    ["", "a", "a=", "=b", "a=b=c", "a=1&&b=2", "&a=1&", "a=1&a=2", "a=%31", "a=b+c", "a=%", "ä=ö"],
)
def test_parameters_are_read_as_starlette_reads_them(query: str) -> None:
    assert _read_items(query) == QueryParams(query).multi_items()
