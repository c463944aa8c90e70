"""POST /lhp/batch: many questions in one request, each with its own outcome."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from profiler_service.settings import Settings
from profiler_service.wire import MAX_BATCH, LhpBatchAnswer, LhpBatchItem
from tests.api.conftest import Worker, check_problem, keep_curve, serving
from tests.api.curves import square, stairs

pytestmark = pytest.mark.anyio


async def post(client: httpx.AsyncClient, *questions: object, **params: Any) -> list[LhpBatchItem]:
    response = await client.post("/lhp/batch", json=list(questions), params={"wait": 0} | params)
    assert response.status_code == 200, response.text
    return LhpBatchAnswer.model_validate_json(response.content).items


async def test_each_question_has_its_own_outcome(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    bad: list[tuple[object, int, str]] = [
        ({"dims": "5"}, 422, "out_features,in_features"),
        ({"dims": "5,6", "colour": "red"}, 422, "batch"),
        ({"dims": "5,6", "workload": "conv"}, 404, "linear"),
        ({"dims": "5,6", "host": "nowhere"}, 404, ""),
        ({"dims": "5,6", "multiple_of": 64}, 422, "max_growth"),
        ({"dims": "5,6", "vary": "dtype,batch"}, 422, "can vary"),
        ({"dims": "5,6", "prefer": "cheapest"}, 422, "/docs"),
        ({"dims": "5,6", "wait": 3}, 422, "once"),
        ({"dims": "5,6", "batch": True}, 422, "no value"),
        ({"dims": [[5], 6]}, 422, "no value"),
        ({"dims": None}, 422, "no value"),
        ({}, 422, "/docs"),
        ("5,6", 422, "dims"),
        (None, 422, "dims"),
    ]
    items = await post(
        client,
        {"dims": "5,6"},
        *(question for question, _, _ in bad),
        {"dims": [7, 8], "prefer": "fastest", "batch": 16},
        {"dims": "700,800"},
    )
    known, *refused, also_known, unknown = items
    assert known.answer is not None and known.answer.lhp == [8, 8]
    assert also_known.answer is not None and also_known.answer.dims == [7, 8]
    for (question, status, hint), item in zip(bad, refused, strict=True):
        assert item.problem is not None, question
        assert (item.status, item.problem.status) == (status, status), question
        assert item.problem.name and hint in item.problem.hint + item.problem.see, question
    assert unknown.status == 202 and unknown.sweep is not None
    assert (await sqlite_worker.take()).id == unknown.sweep.id


async def test_the_description_calls_no_batch_wrong_that_is_answered(
    client: httpx.AsyncClient,
) -> None:
    described = (await client.get("/openapi.json")).json()["paths"]["/lhp/batch"]["post"]
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    # Neither a type nor a field is required of a question: what is none has its own problem.
    assert schema["items"].keys() == {"description"}
    assert (schema["type"], schema["minItems"], schema["maxItems"]) == ("array", 1, MAX_BATCH)
    nothings: list[object] = [{}, [], "", None, 5, {"dims": {}}]
    for nothing in nothings:
        [item] = await post(client, nothing)
        assert item.status == 422 and item.problem is not None


async def test_equal_questions_are_measured_once_and_all_wait_together(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(
        post(
            client, {"dims": "5,6"}, {"dims": "5, 6", "dtype": "float32"}, {"dims": "9,6"}, wait=30
        )
    )
    sweeps = [await sqlite_worker.take(), await sqlite_worker.take()]
    for sweep in sweeps:
        sqlite_worker.finish(sweep, stairs(8))
    one, equal, other = await asking
    assert one.answer is not None and one.answer.lhp == [8, 8]
    assert one == equal
    assert other.answer is not None and other.answer.lhp == [16, 8]
    assert len(sqlite_worker.store.list_sweeps().items) == 2


async def test_what_no_longer_fits_into_the_queue_says_so_and_the_rest_is_queued(
    settings: Settings, sqlite_worker: Worker
) -> None:
    narrow = settings.model_copy(update={"max_queued": 10})
    async with serving(narrow, sqlite_worker) as client:
        questions = [{"dims": f"{100 + 50 * n},300"} for n in range(30)]
        items = await post(client, *questions)
    queued = [item for item in items if item.status == 202]
    full = [item for item in items if item.status == 429]
    assert len(queued) + len(full) == 30 and full
    assert 0 < len(queued) <= 10
    assert len(sqlite_worker.store.list_sweeps(limit=100).items) == len(queued)
    assert all(item.is_open for item in items)
    assert {item.problem.name for item in full if item.problem} == {"too-many-requests"}


async def test_a_thousand_known_questions_are_answered_together(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    questions = [{"dims": [1 + n % 15, 1 + n // 15 % 15]} for n in range(MAX_BATCH)]
    items = await post(client, *questions)
    # The next multiples of 8 above.
    expected = [[-(-dim // 8) * 8 for dim in each["dims"]] for each in questions]
    assert [item.answer.lhp for item in items if item.answer] == expected
    assert sqlite_worker.handed_in.empty()


@pytest.mark.parametrize(
    ("body", "status", "hint"),
    [
        (b"[]", 422, "/docs"),
        (json.dumps([{"dims": "5,6"}] * (MAX_BATCH + 1)).encode(), 422, "/docs"),
        (b'{"dims": "5,6"}', 422, "/docs"),
        (b"[", 422, "/docs"),
        (b"[" + b" " * (1 << 20) + b"]", 413, "smaller"),
    ],
)
async def test_a_body_that_is_no_list_of_questions_is_refused(
    client: httpx.AsyncClient, sqlite_worker: Worker, body: bytes, status: int, hint: str
) -> None:
    response = await client.post(
        "/lhp/batch", content=body, headers={"content-type": "application/json"}
    )
    check_problem(response, status, hint)
    assert sqlite_worker.handed_in.empty()


async def test_parameters_of_the_request_are_checked(client: httpx.AsyncClient) -> None:
    question = [{"dims": "5,6"}]
    check_problem(await client.post("/lhp/batch?wait=121", json=question), 422, "202")
    check_problem(await client.post("/lhp/batch?wait=-1", json=question), 422, "/docs")
    check_problem(await client.post("/lhp/batch?dims=5,6", json=question), 422, "wait")
    origin = {"origin": "http://elsewhere.example"}
    check_problem(await client.post("/lhp/batch", json=question, headers=origin), 403)
