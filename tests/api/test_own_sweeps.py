"""Sweeps of a user's own code: what the user's command sends is checked, kept and answered from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from profiler_service.analysis.curve import PointStatus
from profiler_service.analysis.samples import Platform, Samples
from profiler_service.answering import own_sweeps
from profiler_service.cli.posting import make_batch, make_request
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import CALLABLE
from profiler_service.plan.base import Planner
from profiler_service.plan.create import create_planner
from profiler_service.plan.replay import replay
from profiler_service.plan.running_sweep import RunningSweep
from profiler_service.plan.spec import RaceTerms, SweepSpec
from profiler_service.plan.window import build_window
from profiler_service.storage.store import Store
from tests.api.conftest import HOST, Worker, check_problem
from tests.api.curves import PLATFORM, PROTOCOL
from tests.synthetic import SyntheticDevice

pytestmark = pytest.mark.anyio

GIVEN: dict[str, str | int] = {
    "function": "my_models:build",
    "source": "0123456789ab",
    "vary": "hidden",
    "layers": 6,
}
WORKLOAD = CALLABLE.describe(GIVEN)
GRID = SweepSpec(
    workload=WORKLOAD, mode="grid", grid=Grid(axes=(GridAxis(first=8, count=5, step=2),)), seed=7
)
OWN_HOST = "workstation (own code)"


def body_of(spec: SweepSpec, *, measured_on: Platform = PLATFORM, **changes: Any) -> dict[str, Any]:
    request = make_request(spec, machine="workstation", platform=measured_on, protocol=PROTOCOL)
    return {**request.model_dump(mode="json"), **changes}


def batch_body(spec: SweepSpec = GRID, number: int = 0, **changes: Any) -> dict[str, Any]:
    """The first batch of such a sweep, measured on a device of 1 ms."""
    planner = create_planner(spec)
    batch = planner.next_batch()
    assert batch is not None
    samples = SyntheticDevice(np.full(spec.grid.size, 1e-3)).measure(batch)
    made = make_batch(number, samples, planner.progress()).model_dump(mode="json")
    return {**made, **changes}


async def begin(
    client: httpx.AsyncClient, spec: SweepSpec = GRID, *, platform: Platform = PLATFORM
) -> str:
    response = await client.post("/own-sweeps", json=body_of(spec, measured_on=platform))
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def measure(
    client: httpx.AsyncClient,
    spec: SweepSpec,
    device: SyntheticDevice,
    *,
    platform: Platform = PLATFORM,
) -> tuple[str, Planner]:
    """The sweep with all its batches, and the planner that has seen them."""
    sweep_id, planner, number = (
        await begin(client, spec, platform=platform),
        create_planner(spec),
        0,
    )
    while (batch := planner.next_batch()) is not None:
        samples = device.measure(batch)
        planner.record(samples)
        body = make_batch(number, samples, planner.progress()).model_dump(mode="json")
        added = await client.post(f"/own-sweeps/{sweep_id}/batches", json=body)
        assert added.status_code == 200, added.text
        number += 1
    return sweep_id, planner


async def end(client: httpx.AsyncClient, sweep_id: str, state: str = "done") -> httpx.Response:
    return await client.post(f"/own-sweeps/{sweep_id}/end", json={"state": state})


async def ask(client: httpx.AsyncClient, dims: int, **params: Any) -> httpx.Response:
    place = {} if "host" in params else {"platform": PLATFORM.key}
    asked = {**GIVEN, "workload": "callable", "dims": dims, **place, **params}
    return await client.get("/lhp", params=asked)


async def test_a_grid_is_kept_and_shown_like_any_other(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    client = both_client
    # The dims 8 to 16: 12 is faster than all larger ones, and 16 is faster than 14.
    device = SyntheticDevice(np.array([2e-3, 2e-3, 1e-3, 2e-3, 1.5e-3]), noise=0.001, spikes=0)
    sweep_id, planner = await measure(client, GRID, device)
    running = (await client.get(f"/sweeps/{sweep_id}")).json()
    assert (running["state"], running["host"]) == ("running", OWN_HOST)
    assert running["progress"]["num_samples"] == planner.progress().num_samples

    ended = (await end(client, sweep_id)).json()
    assert (ended["state"], ended["error"]) == ("done", "")
    curve = (await client.get(f"/curves/{ended['curve']}")).json()
    assert curve["workload"] == WORKLOAD.key
    assert curve["axis_names"] == ["hidden"]
    assert (curve["host"], curve["platform"], curve["stale"]) == (OWN_HOST, PLATFORM.key, False)
    assert curve["num_lhps"] == 1
    # The service made the plan again from the samples: its curve is the command's, to the bit.
    mine = planner.build_curve(PLATFORM, PROTOCOL, worker.store.last_measured_at(sweep_id))
    kept = worker.store.load_curve(ended["curve"])
    np.testing.assert_array_equal(kept.latency_s, mine.latency_s.astype(np.float32))
    # A point is an LHP if nothing larger is as fast; the last one is an edge.
    assert [PointStatus(each).name for each in kept.status[2:]] == ["LHP", "DOMINATED", "EDGE"]
    # It is listed and found, and no job was made of it: no worker may measure it.
    listed = (await client.get("/curves", params={"workload": "callable", "layers": 6})).json()
    assert [each["id"] for each in listed["items"]] == [ended["curve"]]
    other = (await client.get("/curves", params={"workload": "callable", "layers": 7})).json()
    assert other["items"] == []
    assert worker.handed_in.empty()
    assert worker.store.list_open(HOST) == []


async def test_a_question_is_answered_from_what_is_stored_and_never_measured(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    window = build_window(WORKLOAD, (100,), max_growth=0.125)
    spec = SweepSpec(workload=WORKLOAD, mode="race", grid=window, terms=RaceTerms(settle_s=1.0))
    refused = await ask(client, 100, settle=1)
    check_problem(refused, 422, "lhp query --callable my_models:build hidden=100 --param layers=6")
    assert refused.json()["type"] == "/problems/own-code"

    device = SyntheticDevice(np.where(np.arange(window.size) == 4, 0.5e-3, 1e-3), noise=0.002)
    sweep_id, _ = await measure(client, spec, device)
    assert (await end(client, sweep_id)).json()["state"] == "done"
    answered = await ask(client, 100, settle=1)
    assert answered.status_code == 200, answered.text
    answer = answered.json()
    assert (answer["lhp"], answer["verdict"]) == ([104], "faster")
    assert answer["host"] == OWN_HOST
    # It is on the platform of the host, so that a question about the host gets it, too.
    assert (await ask(client, 100, settle=1, host=HOST)).json()["lhp"] == [104]
    # Other dims, other text of the function, other arguments: not measured.
    for dims, changes in ((200, {}), (100, {"source": "ba9876543210"}), (100, {"layers": 5})):
        check_problem(await ask(client, dims, **changes), 422, "lhp query --callable")
    batch = [{**GIVEN, "workload": "callable", "dims": "200"}]
    asked = (await client.post("/lhp/batch", json=batch)).json()
    assert "own-code" in str(asked)
    swept = await client.post(
        "/sweeps",
        json={"workload": "callable", "params": GIVEN, "axes": [{"first": 1, "last": 9}]},
    )
    check_problem(swept, 422, "lhp sweep --callable my_models:build hidden=1:9 --param layers=6")
    assert sqlite_worker.handed_in.empty()


async def test_a_question_that_names_no_platform_is_about_the_only_one_of_own_code(
    client: httpx.AsyncClient, sqlite_store: Store
) -> None:
    """No worker measures on the user's platform: the service runs on another machine."""
    window = build_window(WORKLOAD, (100,), max_growth=0.125)
    spec = SweepSpec(workload=WORKLOAD, mode="race", grid=window, terms=RaceTerms(settle_s=1.0))
    device = SyntheticDevice(np.full(window.size, 1e-3), noise=0.002)
    asked = {**GIVEN, "workload": "callable", "dims": 100, "settle": 1}

    sweep_id, _ = await measure(client, spec, device, platform=replace(PLATFORM, threads=3))
    assert (await end(client, sweep_id)).json()["state"] == "done"
    for _ in range(2):  # the second answer is kept in memory
        answered = await client.get("/lhp", params=asked)
        assert answered.status_code == 200, answered.text
        assert answered.json()["host"] == OWN_HOST
    # On the platform of the service's worker, nothing was measured.
    there = await client.get("/lhp", params={**asked, "platform": PLATFORM.key})
    check_problem(there, 422, "name it: `platform`")


async def test_ctrl_c_and_cancelling_keep_what_was_measured(client: httpx.AsyncClient) -> None:
    sweep_id, _ = await measure(client, GRID, SyntheticDevice(np.full(5, 1e-3)))
    asked = (await client.post(f"/sweeps/{sweep_id}/cancel")).json()
    assert (asked["state"], asked["cancel_requested"]) == ("running", True)
    # The command sees it with its next batch, which is there already.
    added = await client.post(f"/own-sweeps/{sweep_id}/batches", json=batch_body())
    assert added.json()["cancel_requested"]
    ended = (await end(client, sweep_id, "cancelled")).json()
    assert ended["state"] == "cancelled" and ended["curve"]
    # To end it again changes nothing; there is nothing left to add.
    assert (await end(client, sweep_id, "cancelled")).json() == ended
    check_problem(
        await client.post(f"/own-sweeps/{sweep_id}/batches", json=batch_body(number=1_000)), 409
    )


async def test_a_sweep_whose_command_went_away_ends_with_its_curve(
    client: httpx.AsyncClient, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_id, _ = await measure(client, GRID, SyntheticDevice(np.full(5, 1e-3)))
    empty = await begin(client)
    services = client._transport.app.state.services  # type: ignore[attr-defined]
    await services.own_sweeps.end_silent()
    assert (await client.get(f"/sweeps/{sweep_id}")).json()["state"] == "running"
    monkeypatch.setattr("profiler_service.storage.own_sweeps.SILENCE_S", -1.0)
    await services.own_sweeps.end_silent()
    ended = (await client.get(f"/sweeps/{sweep_id}")).json()
    assert ended["state"] == "cancelled" and ended["curve"]
    nothing = (await client.get(f"/sweeps/{empty}")).json()
    assert (nothing["state"], nothing["curve"]) == ("cancelled", None)


async def test_a_cancelled_sweep_whose_command_went_away_ends_sooner(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_id, _ = await measure(client, GRID, SyntheticDevice(np.full(5, 1e-3)))
    other, _ = await measure(client, GRID, SyntheticDevice(np.full(5, 1e-3)))
    await client.post(f"/sweeps/{sweep_id}/cancel")
    services = client._transport.app.state.services  # type: ignore[attr-defined]
    await services.own_sweeps.end_silent()
    assert (await client.get(f"/sweeps/{sweep_id}")).json()["state"] == "running"
    monkeypatch.setattr("profiler_service.storage.own_sweeps.CANCELLED_SILENCE_S", -1.0)
    await services.own_sweeps.end_silent()
    assert (await client.get(f"/sweeps/{sweep_id}")).json()["state"] == "cancelled"
    assert (await client.get(f"/sweeps/{other}")).json()["state"] == "running"


async def test_a_sweep_that_no_curve_can_be_made_of_keeps_no_other_one_open(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = await begin(client)
    sound, _ = await measure(client, GRID, SyntheticDevice(np.full(5, 1e-3)))

    def fail_at_first(running: RunningSweep, batches: list[Samples]) -> None:
        if running.id == broken:
            raise ZeroDivisionError("a defect")
        replay(running, batches)

    monkeypatch.setattr(own_sweeps, "replay", fail_at_first)
    monkeypatch.setattr("profiler_service.storage.own_sweeps.SILENCE_S", -1.0)
    services = client._transport.app.state.services  # type: ignore[attr-defined]
    await services.own_sweeps.end_silent()
    ended = (await client.get(f"/sweeps/{broken}")).json()
    assert (ended["state"], ended["curve"]) == ("failed", None)
    assert ended["error"] == "no curve could be made of its samples: ZeroDivisionError"
    assert (await client.get(f"/sweeps/{sound}")).json()["state"] == "cancelled"


async def test_a_failed_sweep_says_why(client: httpx.AsyncClient) -> None:
    sweep_id = await begin(client)
    body = {"state": "failed", "error": "the measuring process died"}
    ended = (await client.post(f"/own-sweeps/{sweep_id}/end", json=body)).json()
    assert (ended["state"], ended["error"]) == ("failed", "the measuring process died")


async def test_points_that_failed_are_listed(client: httpx.AsyncClient) -> None:
    device = SyntheticDevice(np.full(5, 1e-3), failing=frozenset({4}))
    sweep_id, _ = await measure(client, GRID, device)
    curve = (await client.get(f"/curves/{(await end(client, sweep_id)).json()['curve']}")).json()
    assert curve["failures"] == [{"dims": [16], "reason": "synthetic failure"}]


async def test_another_platform_is_one_of_its_own(client: httpx.AsyncClient) -> None:
    other = body_of(GRID)
    other["platform"]["threads"] = 3
    assert (await client.post("/own-sweeps", json=other)).status_code == 201
    keys = [each["key"] for each in (await client.get("/platforms")).json()]
    assert PLATFORM.key in keys and len(keys) == 2
    # Nothing else changes: the host without a name is still the only one.
    assert (await client.get("/lhp", params={"dims": "5,6", "wait": 0})).status_code == 202
    assert [each["name"] for each in (await client.get("/hosts")).json()] == [HOST]


async def test_a_workers_sweep_takes_no_samples_of_others(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    sweep = (await client.post("/sweeps", json={"axes": [{"first": 8, "last": 8}] * 2})).json()
    for path, body in (("batches", batch_body()), ("end", {"state": "done"})):
        check_problem(await client.post(f"/own-sweeps/{sweep['id']}/{path}", json=body), 409)


async def test_samples_that_do_not_fit_the_plan_make_no_curve(client: httpx.AsyncClient) -> None:
    sweep_id = await begin(client)
    body = batch_body(point=[0, 1])  # the plan begins with the middle of the grid
    assert (await client.post(f"/own-sweeps/{sweep_id}/batches", json=body)).status_code == 200
    refused = await end(client, sweep_id)
    check_problem(refused, 409)
    assert refused.json()["type"] == "/problems/replay"
    failed = (await client.get(f"/sweeps/{sweep_id}")).json()
    assert (failed["state"], failed["curve"]) == ("failed", None)


async def test_a_plan_that_is_not_at_its_end_is_not_done(client: httpx.AsyncClient) -> None:
    sweep_id = await begin(client)
    await client.post(f"/own-sweeps/{sweep_id}/batches", json=batch_body())
    check_problem(await end(client, sweep_id), 409, "end it as cancelled")
    assert (await client.get(f"/sweeps/{sweep_id}")).json()["state"] == "running"
    assert (await end(client, sweep_id, "cancelled")).json()["state"] == "cancelled"


async def test_unknown_sweeps_are_not_found(client: httpx.AsyncClient) -> None:
    for path, body in (("batches", batch_body()), ("end", {"state": "done"})):
        check_problem(await client.post(f"/own-sweeps/{'0' * 32}/{path}", json=body), 404)


async def test_a_machine_can_have_the_name_of_no_worker(
    client: httpx.AsyncClient, sqlite_store: Store
) -> None:
    sqlite_store.register_host(OWN_HOST, PLATFORM, protocol=PROTOCOL, dtypes=["float32"])
    check_problem(await client.post("/own-sweeps", json=body_of(GRID)), 409, "LHP_HOST")


async def test_the_number_of_open_sweeps_is_bounded(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiler_service.storage.own_sweeps.MAX_OPEN", 1)
    await begin(client)
    response = await client.post("/own-sweeps", json=body_of(GRID))
    assert response.status_code == 429
    assert len((await client.get("/sweeps")).json()["items"]) == 1


async def test_a_curve_that_takes_long_is_asked_for_again(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_sweeps, "PATIENCE_S", 0.0)
    sweep_id, _ = await measure(client, GRID, SyntheticDevice(np.full(5, 1e-3)))
    answers = [await end(client, sweep_id)]
    check_problem(answers[0], 503, "ask again")
    while answers[-1].status_code == 503:
        answers.append(await end(client, sweep_id))
    assert answers[-1].json()["state"] == "done"
