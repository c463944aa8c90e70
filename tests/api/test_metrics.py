"""/metrics: what it counts, what it knows of hosts, and what is left while the database is away."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from profiler_service.analysis.samples import Samples
from profiler_service.answering import fleet_metrics
from profiler_service.grid import Grid, GridAxis
from profiler_service.plan.spec import Progress
from profiler_service.settings import Settings
from profiler_service.storage.store import CurveFilter, HostStatus
from tests.api.conftest import HOST, Worker, ask, keep_curve, serving
from tests.api.curves import square, stairs
from tests.api.test_queue import SAMPLES

pytestmark = pytest.mark.anyio

PROGRESS = Progress(fraction=0.5, stage="", num_samples=1, seconds=1.0)


@pytest.fixture(autouse=True)
def read_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_metrics, "READ_EVERY_S", 0.0)


async def scrape(client: httpx.AsyncClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


async def test_it_has_the_metrics_of_hosts(both_client: httpx.AsyncClient, worker: Worker) -> None:
    store = worker.store
    keep_curve(
        store, Grid(axes=(GridAxis(first=1, count=9), GridAxis(first=1, count=9))), stairs(4)
    )
    await ask(both_client, wait=0)
    sweep = await worker.take()
    store.start_sweep(sweep.id)
    disturbed: Samples = dataclasses.replace(SAMPLES, num_discarded=3)
    for index in range(2):
        assert store.commit_batch(sweep.id, index, disturbed, PROGRESS)
    assert not store.commit_batch(sweep.id, 1, disturbed, PROGRESS)  # kept once, counted once

    read = await scrape(both_client)
    assert read[key("lhp_database_up")] == 1
    assert read[key("lhp_host_up", host=HOST)] == 1
    assert 0 <= read[key("lhp_host_heartbeat_age_seconds", host=HOST)] < 15
    assert read[key("lhp_queue_depth", host=HOST)] == 1
    assert read[key("lhp_sweeps_total", host=HOST, mode="grid", state="done")] == 1
    assert read[key("lhp_samples_discarded_total", host=HOST)] == 6  # two batches of three
    # 4,4 and 8,8 take 1 ms and what lies between and below 2 ms, so there are LHPs and others.
    [header] = store.list_curves(CurveFilter(host=HOST)).items
    assert 4 <= header.num_lhps < header.num_measured == 81
    ratio = 1 - header.num_lhps / 81
    assert read[key("lhp_curve_redundancy_ratio", host=HOST, kind="linear")] == pytest.approx(ratio)

    await both_client.post(f"/sweeps/{sweep.id}/cancel")
    store.finish_sweep(sweep.id, None, state=sweep.state.CANCELLED)
    await ask(both_client, dims="50,60", wait=0)
    queued = await worker.take()
    await both_client.post(f"/sweeps/{queued.id}/cancel")
    read = await scrape(both_client)
    assert read[key("lhp_queue_depth", host=HOST)] == 0
    assert read[key("lhp_sweeps_total", host=HOST, mode="race", state="cancelled")] == 2


async def test_answers_are_counted_however_they_are_found(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    before = await scrape(client)
    assert before[key("lhp_answers_total", verdict="faster", settled="false")] == 0
    keep_curve(sqlite_worker.store, square(1, 64), stairs(8))
    await client.get("/curves")  # brings the service up to date
    # Computed; by its address; by its meaning; in a batch.
    answers = [(await client.get("/lhp?dims=5,6")).json() for _ in range(2)]
    answers.append((await client.get("/lhp?dims=5,+6")).json())
    batch = await client.post("/lhp/batch", json=[{"dims": "5,6"}] * 2)
    answers += [each["answer"] for each in batch.json()["items"]]
    [said] = {(each["verdict"], each["settled"]) for each in answers}
    read = await scrape(client)
    counted = {
        labels: value
        for (name, labels), value in read.items()
        if name == "lhp_answers_total" and value
    }
    assert counted == {key("", verdict=said[0], settled=str(said[1]).lower())[1]: 5}


async def test_requests_are_timed_by_route_whatever_is_asked(client: httpx.AsyncClient) -> None:
    for path in ("/sweeps/a1b2c3d4", "/sweeps/00000000", "/nothing/1", "/nothing/2"):
        assert (await client.get(path)).status_code == 404
    await client.head("/healthz")
    await client.request("BREW", "/healthz")
    read = await scrape(client)
    timed = {labels: v for (name, labels), v in read.items() if name.endswith("seconds_count")}
    assert timed == {
        key("", method="GET", route="/sweeps/{sweep_id}", code="404")[1]: 2,
        key("", method="GET", route="other", code="404")[1]: 2,
        key("", method="HEAD", route="/healthz", code="200")[1]: 1,
        key("", method="other", route="/healthz", code="405")[1]: 1,
    }


async def test_what_was_read_last_stays_while_the_database_is_away(
    client: httpx.AsyncClient, sqlite_url: str
) -> None:
    before = await scrape(client)
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    path.rename(path.with_name("moved"))
    read = await scrape(client)
    assert (before[key("lhp_database_up")], read[key("lhp_database_up")]) == (1, 0)
    for name in ("lhp_host_up", "lhp_queue_depth", "lhp_samples_discarded_total"):
        assert read[key(name, host=HOST)] == before[key(name, host=HOST)]
    path.with_name("moved").rename(path)
    assert (await scrape(client))[key("lhp_database_up")] == 1


async def test_retired_hosts_are_not_shown(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    assert key("lhp_host_up", host=HOST) in await scrape(client)
    sqlite_worker.store.set_status(HOST, HostStatus.RETIRED)
    assert not [name for name, _ in await scrape(client) if name.startswith("lhp_host")]


async def test_a_canary_is_the_newest_latency_at_its_point(
    settings: Settings, sqlite_worker: Worker
) -> None:
    configured = settings.model_copy(update={"canaries": "5,6;7,7"})
    async with serving(configured, sqlite_worker) as client:
        assert not [name for name, _ in await scrape(client) if name.startswith("lhp_canary")]
        for latency in (stairs(4), lambda dims: 3e-3):
            await ask(client, wait=0, max_age=0)
            sqlite_worker.finish(await sqlite_worker.take(), latency)
        read = await scrape(client)
    canaries = {labels: value for (name, labels), value in read.items() if "canary" in name}
    # The second measurement found 3 ms everywhere. Nobody asked for 7,7.
    assert canaries == {key("", host=HOST, dims="5,6")[1]: pytest.approx(3e-3)}
