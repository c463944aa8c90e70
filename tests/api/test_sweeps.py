from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from profiler_service.answering import queue
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.settings import Settings
from profiler_service.wire import SweepInfo
from tests.api.conftest import DTYPES, HOST, Worker, check_problem, follow, serving
from tests.api.curves import PLATFORM, PROTOCOL, stairs
from tests.kind_packages import GROUPED, install_kind, loaded_anew

pytestmark = pytest.mark.anyio

REQUEST: dict[str, Any] = {
    "workload": "linear",
    "params": {"batch": 4},
    "axes": [{"first": 8, "last": 20, "step": 4}, {"first": 1, "last": 3}],
}


async def test_post_queues_a_sweep(client: httpx.AsyncClient, sqlite_worker: Worker) -> None:
    response = await client.post("/sweeps", json=REQUEST)

    assert response.status_code == 201, response.text
    info = SweepInfo.model_validate_json(response.content)
    assert response.headers["location"] == f"sweeps/{info.id}"
    assert (info.state, info.mode, info.host) == ("queued", "grid", HOST)
    # 8, 12, 16, 20 times 1, 2, 3.
    assert info.num_points == 12
    assert (await sqlite_worker.take()).spec.grid == Grid(
        axes=(GridAxis(first=8, count=4, step=4), GridAxis(first=1, count=3))
    )
    assert (await client.get(f"/sweeps/{info.id}")).json() == response.json()


@pytest.mark.parametrize(("mode", "side"), [("race", 1025), ("survey", 256)])
async def test_a_window_can_be_raced_within_bounds(
    client: httpx.AsyncClient, sqlite_worker: Worker, mode: str, side: int
) -> None:
    # The longest axis that is raced over, and 256² = 65,536 points, the most of a survey.
    request = {"mode": mode, "axes": [{"first": 8, "last": 7 + side}] * 2}
    response = await client.post("/sweeps", json=request)
    assert response.status_code == 201, response.text
    assert response.json()["mode"] == mode
    assert (await sqlite_worker.take()).spec.mode == mode
    request = {"mode": mode, "axes": [{"first": 8, "last": 8 + side}] * 2}
    check_problem(await client.post("/sweeps", json=request), 422, "fewer")


@pytest.mark.parametrize(
    ("mode", "query", "given"),
    [
        ("race", {}, {"margin": "2%", "settle": 1.5}),
        ("survey", {"effort": "thorough"}, {"margin": "0.02", "settle": 1.5}),
        ("nearest", {"prefer": "nearest"}, {"slack": "1%", "settle": 1.5}),
        ("largest", {"prefer": "largest"}, {"slack": "0.01"}),
    ],
)
async def test_a_sweep_takes_the_terms_that_a_question_has(
    client: httpx.AsyncClient,
    sqlite_worker: Worker,
    mode: str,
    query: dict[str, Any],
    given: dict[str, Any],
) -> None:
    # The window of a query for the multiples of 8 above 30 batches of 12, up to 32 above each.
    request = {
        "mode": mode,
        "params": {"vary": "batch,out_features", "in_features": 16},
        "axes": [
            {"first": 30, "second": 32, "last": 62, "step": 8},
            {"first": 12, "second": 16, "last": 44, "step": 8},
        ],
    }
    first = await client.post("/sweeps", json=request | given)
    assert first.status_code == 201, first.text
    # A question with the same terms is answered by that sweep: they are equal.
    asked = {"dims": "30,12", "multiple_of": "8", "vary": "batch,out_features", "in_features": "16"}
    second = await client.get("/lhp", params=asked | query | given | {"wait": 0})
    assert (second.status_code, second.json()["id"]) == (202, first.json()["id"])
    # Without them, it is another one.
    third = await client.post("/sweeps", json=request)
    assert (third.status_code, third.json()["mode"]) == (201, mode)


async def test_null_stands_for_what_is_not_given(client: httpx.AsyncClient) -> None:
    options = dict.fromkeys(("budget", "margin", "settle", "slack"))
    posted = await client.post("/sweeps", json=REQUEST | options | {"host": None})
    assert posted.status_code == 201, posted.text


async def test_a_stop_between_steps_is_not_reached(client: httpx.AsyncClient) -> None:
    axes = [{"first": 8, "last": 22, "step": 4}, {"first": 1, "last": 3}]
    info = (await client.post("/sweeps", json=REQUEST | {"axes": axes})).json()
    assert info["axes"][0] == {"first": 8, "last": 20, "step": 4}


async def test_an_equal_unfinished_sweep_is_given_back(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    first = await client.post("/sweeps", json=REQUEST)
    second = await client.post("/sweeps", json=REQUEST)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.headers["location"] == first.headers["location"]
    # Once it has ended, the same request measures anew.
    sqlite_worker.finish(await sqlite_worker.take(), stairs(8))
    assert (await client.post("/sweeps", json=REQUEST)).status_code == 201


BAD_REQUESTS = [
    (b"{", 422, "/docs"),
    (b'{"workload": "\xff"}', 422, "/docs"),
    (b'{"budget": ' + b"1" * 5000 + b"}", 422, "/docs"),
    (json.dumps(REQUEST | {"params": {"batch": True}}).encode(), 422, "/docs"),
    (b"[]", 422, "/docs"),
    (json.dumps(REQUEST | {"colour": "red"}).encode(), 422, "/docs"),
    (json.dumps(REQUEST | {"mode": "walk"}).encode(), 422, "/docs"),
    (json.dumps(REQUEST | {"workload": "conv"}).encode(), 404, "linear"),
    (json.dumps(REQUEST | {"params": {"colour": 3}}).encode(), 422, "batch"),
    (json.dumps(REQUEST | {"params": {"dtype": "float16"}}).encode(), 422, "bfloat16"),
    (json.dumps(REQUEST | {"axes": []}).encode(), 422, "/docs"),
    (json.dumps(REQUEST | {"axes": [{"first": 1, "last": 9}]}).encode(), 422, "out_features"),
    (json.dumps(REQUEST | {"axes": [{"first": 9, "last": 1}] * 2}).encode(), 422, "last"),
    (json.dumps(REQUEST | {"axes": [{"first": 1, "last": 70000}] * 2}).encode(), 422, "MAX_POINTS"),
    (
        json.dumps(REQUEST | {"axes": [{"first": 1048577, "last": 1048577}] * 2}).encode(),
        422,
        "LHP_MAX_DIM",
    ),
    (
        json.dumps(
            REQUEST
            | {
                "params": {"vary": "batch,out_features", "in_features": 1048577},
                "axes": [{"first": 8, "last": 9}] * 2,
            }
        ).encode(),
        422,
        "LHP_MAX_DIM",
    ),
    # A race over more than 1,025 rows would work longer than it measures.
    (
        json.dumps(
            REQUEST
            | {
                "mode": "race",
                "axes": [{"first": 8000, "last": 9025}, {"first": 8, "last": 8}],
            }
        ).encode(),
        422,
        "smaller range",
    ),
    # A grid has no terms of a race, a race for the fastest needs no slack, and others no margin.
    (json.dumps(REQUEST | {"margin": "1%"}).encode(), 422, "has it: race, survey"),
    (json.dumps(REQUEST | {"settle": 3}).encode(), 422, "race, survey, nearest, largest"),
    (json.dumps(REQUEST | {"mode": "race", "slack": "1%"}).encode(), 422, "nearest, largest"),
    (json.dumps(REQUEST | {"mode": "largest", "margin": "1%"}).encode(), 422, "race, survey"),
    (json.dumps(REQUEST | {"mode": "nearest", "slack": "1"}).encode(), 422, "slack=1%"),
    (json.dumps(REQUEST | {"mode": "race", "margin": "no"}).encode(), 422, "margin=1%"),
    (json.dumps(REQUEST | {"mode": "race", "settle": 0}).encode(), 422, "/docs"),
    (json.dumps(REQUEST | {"mode": "race", "settle": 5e-324}).encode(), 422, "/docs"),
    (json.dumps(REQUEST | {"budget": 5e-324}).encode(), 422, "/docs"),
    (json.dumps(REQUEST | {"budget": 1e308}).encode(), 422, "/docs"),
    # 1001² points are more than a million.
    (json.dumps(REQUEST | {"axes": [{"first": 1, "last": 1001}] * 2}).encode(), 422, "fewer"),
    # One point of 60,000² · 4 bytes = 13.4 GiB.
    (json.dumps(REQUEST | {"axes": [{"first": 60000, "last": 60000}] * 2}).encode(), 422, "small"),
    (json.dumps(REQUEST | {"host": "nowhere"}).encode(), 404, "/hosts"),
    (json.dumps(REQUEST | {"host": ""}).encode(), 404, "/hosts"),
    (b" " * (1 << 20) + b"1", 413, "smaller"),
]


@pytest.mark.parametrize(("body", "status", "hint"), BAD_REQUESTS)
async def test_bad_requests_say_what_to_do_and_queue_nothing(
    client: httpx.AsyncClient, sqlite_worker: Worker, body: bytes, status: int, hint: str
) -> None:
    response = await client.post(
        "/sweeps", content=body, headers={"content-type": "application/json"}
    )
    check_problem(response, status, hint)
    assert not sqlite_worker.store.list_sweeps().items


async def test_combinations_that_the_kind_refuses_are_refused_before_they_are_measured(
    client: httpx.AsyncClient,
    sqlite_worker: Worker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with loaded_anew():
        install_kind(tmp_path, "grouped", GROUPED, attribute="GROUPED")
        asked: dict[str, Any] = {"workload": "grouped", "vary": "batch,size", "wait": 0}
        refused = await client.get("/lhp", params=asked | {"dims": "61,8"})
        check_problem(refused, 422, "choose a multiple of groups")
        assert refused.json()["detail"] == "at batch=61, size=8: groups must divide batch"
        # A grid of batches 60 to 64 has some that 4 doesn't divide.
        request = {
            "workload": "grouped",
            "params": {"vary": "batch,size"},
            "axes": [{"first": 60, "last": 64}, {"first": 8, "last": 9}],
        }
        refused = await client.post("/sweeps", json=request)
        check_problem(refused, 422, "choose a multiple of groups")
        assert refused.json()["detail"].startswith("at batch=61, size=8: ")
        assert not sqlite_worker.store.list_sweeps().items
        # In steps of 4 it has none, and a race leaves them out.
        axes = [{"first": 60, "last": 64, "step": 4}, {"first": 8, "last": 9}]
        assert (await client.post("/sweeps", json=request | {"axes": axes})).status_code == 201
        assert (await client.post("/sweeps", json=request | {"mode": "race"})).status_code == 201
        assert (await client.get("/lhp", params=asked | {"dims": "60,8"})).status_code == 202


async def test_a_body_without_a_length_is_bounded_too(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65536

    response = await client.post(
        "/sweeps", content=endless(), headers={"content-type": "application/json"}
    )
    check_problem(response, 413, "smaller")


async def test_a_host_that_is_away_gets_no_sweep(sqlite_worker: Worker) -> None:
    settings = Settings(database_url="sqlite:///unused", host=HOST, presence_s=1e-6)
    async with serving(settings, sqlite_worker) as client:
        check_problem(await client.post("/sweeps", json=REQUEST), 503, "lhp worker")
    assert not sqlite_worker.store.list_sweeps().items


async def test_cancel(client: httpx.AsyncClient, sqlite_worker: Worker) -> None:
    address = (await client.post("/sweeps", json=REQUEST)).headers["location"]
    response = await client.post(f"{address}/cancel")
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")
    check_problem(await client.post(f"{address}/cancel"), 409)
    check_problem(await client.post("/sweeps/nothing/cancel"), 404)


async def test_list_pages_newest_first(client: httpx.AsyncClient, sqlite_worker: Worker) -> None:
    sqlite_worker.store.register_host("there", PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
    # Without a host, the one that has less to measure would get it.
    mine = REQUEST | {"host": HOST}
    ids = [
        (await client.post("/sweeps", json=mine | {"params": {"batch": n}})).json()["id"]
        for n in (1, 2, 3)
    ]
    other = (await client.post("/sweeps", json=REQUEST | {"host": "there"})).json()["id"]
    await client.post(f"/sweeps/{ids[0]}/cancel")

    first = (await client.get("/sweeps", params={"limit": 3})).json()
    assert [item["id"] for item in first["items"]] == [other, ids[2], ids[1]]
    second = (await client.get("/sweeps", params={"cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in second["items"]] == [ids[0]]
    assert second["next_cursor"] is None
    there = (await client.get("/sweeps", params={"host": "there"})).json()
    assert [item["id"] for item in there["items"]] == [other]
    cancelled = (await client.get("/sweeps", params={"state": "cancelled"})).json()
    assert [item["id"] for item in cancelled["items"]] == [ids[0]]
    race = SweepSpec(workload=LINEAR.describe(), mode="race", grid=Grid.window((5, 6), (32, 32)))
    race_id = sqlite_worker.store.create_sweep(race, host=HOST)[0].id
    races = (await client.get("/sweeps", params={"mode": "race"})).json()
    assert [item["id"] for item in races["items"]] == [race_id]


@pytest.mark.parametrize(
    "query", ["cursor=made-up", "limit=0", "limit=501", "state=asleep", "mode=walk"]
)
async def test_bad_pages_are_422(client: httpx.AsyncClient, query: str) -> None:
    check_problem(await client.get(f"/sweeps?{query}"), 422)


async def test_unknown_sweeps_are_404(client: httpx.AsyncClient) -> None:
    check_problem(await client.get("/sweeps/nothing"), 404)
    check_problem(await client.get("/sweeps/nothing/events"), 404)


def parse_events(text: str) -> list[tuple[str, SweepInfo]]:
    """(event, data) of every event in a text/event-stream body."""
    events = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
        if fields:
            events.append((fields["event"], SweepInfo.model_validate_json(fields["data"])))
    return events


async def test_events_of_an_ended_sweep_are_its_end(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    address = (await client.post("/sweeps", json=REQUEST)).headers["location"]
    curve_id = sqlite_worker.finish(await sqlite_worker.take(), stairs(8))
    response = await client.get(f"{address}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    ((event, info),) = parse_events(response.text)
    assert (event, info.state, info.curve) == ("end", "done", curve_id)


async def test_events_follow_a_sweep_to_its_end(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    address = (await client.post("/sweeps", json=REQUEST)).headers["location"]
    sweep = await sqlite_worker.take()
    following = await follow(client, f"{address}/events")
    assert not following.done()  # without the sweep's end the stream has none
    sqlite_worker.store.start_sweep(sweep.id)
    sqlite_worker.store.finish_sweep(sweep.id, None, state=SweepState.CANCELLED)
    events = parse_events((await following).text)
    assert events[0][0] == "progress"
    assert (events[-1][0], events[-1][1].state) == ("end", "cancelled")


async def test_a_host_takes_a_limited_number_of_sweeps(
    settings: Settings, sqlite_worker: Worker
) -> None:
    def asked(last: int) -> dict[str, object]:
        return {"workload": "matmul", "axes": [{"first": 1, "last": last}]}

    async with serving(settings.model_copy(update={"max_queued": 2}), sqlite_worker) as client:
        first, _ = [await client.post("/sweeps", json=asked(last)) for last in (2, 3)]
        for refused in (
            await client.post("/sweeps", json=asked(4)),
            await client.get("/lhp", params={"dims": "5,6", "wait": 0}),
        ):
            assert (refused.status_code, refused.json()["type"]) == (
                429,
                "/problems/too-many-requests",
            )
            assert "retry-after" in refused.headers
        assert len(sqlite_worker.store.list_sweeps().items) == 2
        # An equal one is no new one, and room can be made.
        assert (await client.post("/sweeps", json=asked(3))).status_code == 200
        await client.post(f"/sweeps/{first.json()['id']}/cancel")
        assert (await client.post("/sweeps", json=asked(4))).status_code == 201


async def test_one_stream_too_many_is_refused(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = (await client.post("/sweeps", json=REQUEST)).json()["id"]
    monkeypatch.setattr(queue, "MAX_FOLLOWERS", 0)
    refused = await client.get(f"/sweeps/{sweep}/events")
    assert refused.status_code == 429
    assert "retry-after" in refused.headers
    assert (await client.get("/sweeps/nothing/events")).status_code == 404
