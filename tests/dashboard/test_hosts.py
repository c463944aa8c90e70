"""Hosts: their noise and their queues, in the list and on the page of one."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence

import httpx
import pytest

from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import Progress, SweepSpec
from profiler_service.plan.turns import Demand
from tests.api.conftest import DTYPES, HOST, Worker
from tests.api.curves import MEASURED_AT, PLATFORM, PROTOCOL, square, stairs
from tests.api.test_queue import SAMPLES
from tests.dashboard.conftest import Page, follow, read_page
from tests.plots.reading import notes, traces

pytestmark = pytest.mark.anyio

NEWER = dataclasses.replace(PLATFORM, framework="none 2.0")


def race(
    worker: Worker,
    noise: Sequence[float | None],
    *,
    days: int,
    num_pairs: int = 400,
    newer: bool = False,
) -> str:
    """The curve of a race with a fact of each noise, `days` after the first one."""
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=square(5, 12), seed=days)
    sweep, _ = worker.store.create_sweep(spec, host=HOST)
    pairs = [
        ConfirmedPair(
            dims=(5, 6),
            rival=(8, 8 + number),
            verdict="faster",
            ratio=0.8,
            low=0.79,
            high=0.81,
            num_pairs=num_pairs,
            noise=each,
        )
        for number, each in enumerate(noise)
    ]
    return worker.finish(
        sweep,
        stairs(8),
        confirmed=pairs,
        platform=NEWER if newer else PLATFORM,
        measured_at=MEASURED_AT + dt.timedelta(days=days),
    )


async def read(client: httpx.AsyncClient, address: str = f"/ui/hosts/{HOST}") -> Page:
    reply = await client.get(address)
    assert reply.status_code == 200, reply.text
    return read_page(reply.text)


async def test_noise_is_shown_over_time(client: httpx.AsyncClient, sqlite_worker: Worker) -> None:
    # 2.8 standard errors: of 0.1 %, exp(0.0028) - 1 = 0.280 %; of the median, 0.3 %, 0.844 %.
    race(sqlite_worker, [0.001], days=0)
    race(sqlite_worker, [0.002, 0.003, 0.02, None], days=1)
    # 100 pairs, of which 400 would show half: exp(0.0014) - 1 = 0.140 %.
    curve = race(sqlite_worker, [0.001], days=2, num_pairs=100)
    page = await read(client)
    assert f"{HOST} resolves differences of 0.14 %, and was too noisy in 1 of 3 races" in page.text
    assert page.find("a", href=f"../../ui/curves/{curve}")
    for text in ("0.28 %", "0.84 %", "0.14 %"):
        assert page.text.count(text) >= 1
    [address] = [has["data-figure"] for has in page.find("div") if "data-figure" in has]
    figure = (await client.get(follow(address, f"/ui/hosts/{HOST}"))).json()
    drawn = traces(figure)
    assert (len(drawn["measured"]["x"]), len(drawn["noisy"]["x"])) == (2, 1)
    assert "limit: 0.500 %" in notes(figure)
    listed = await read(client, "/ui/hosts")
    assert listed.find("span", **{"class": "pill faster"})
    assert "0.14 %" in listed.text
    assert listed.find("a", href=f"../ui/hosts/{HOST}")


async def test_noise_of_an_earlier_platform_is_not_that_of_the_host(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    race(sqlite_worker, [0.001], days=0)
    sqlite_worker.store.register_host(HOST, NEWER, protocol=PROTOCOL, dtypes=DTYPES)
    page = await read(client)
    assert f"How noisy {HOST} is isn't known yet" in page.text
    assert "0.28 %" in page.text  # in the table, with its platform
    assert "not known" in (await read(client, "/ui/hosts")).text
    race(sqlite_worker, [0.002], days=1, newer=True)
    page = await read(client)
    assert "resolves differences of 0.56 %" in page.text
    assert "2025-11-23 12:00: framework: none 1.0 → none 2.0." in page.text


async def test_a_host_without_races_says_how_its_noise_is_found(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    race(sqlite_worker, [None], days=0)  # of a version that didn't note it
    page = await read(client)
    assert f"How noisy {HOST} is isn't known yet" in page.text
    assert "lhp doctor" in page.text and "Nothing waits" in page.text
    assert not [has for has in page.find("div") if "data-figure" in has]
    figure = await client.get(f"/ui/hosts/{HOST}/noise")
    assert figure.status_code == 200 and figure.json()["layout"]


async def test_the_queue_is_shown_in_the_order_of_measuring(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    store = sqlite_worker.store
    assert "empty" in (await read(client, "/ui/hosts")).text
    ids = []
    for last, expected_s in ((20, 90.0), (30, 30.0)):
        spec = SweepSpec(workload=LINEAR.describe(), mode="grid", grid=square(3, last))
        demand = Demand(expected_s=expected_s, is_awaited=False)
        sweep, _ = store.create_sweep(spec, host=HOST, demand=demand)
        ids.append(sweep.id)
    listed = await read(client, "/ui/hosts")
    assert "2 waiting" in listed.text and "about 2 min" in listed.text
    page = await read(client)
    links = [has["href"] for has in page.find("a") if "/sweeps/" in has.get("href", "")]
    # What is expected to end soonest is measured first.
    assert [link.rpartition("/")[2] for link in links] == [ids[1], ids[0]]
    told = " ".join(page.text.split())
    assert "queued now 30.0 s" in told and "queued 30.0 s 90.0 s" in told
    store.start_sweep(ids[1])
    progress = Progress(fraction=0.5, stage="round 3", num_samples=1, seconds=10.0)
    store.commit_batch(ids[1], 0, SAMPLES, progress)
    assert "1 measuring, 1 waiting" in (await read(client, "/ui/hosts")).text
    assert "running round 3 now 10.0 s" in " ".join((await read(client)).text.split())


async def test_a_host_that_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    for address in ("/ui/hosts/nowhere", "/ui/hosts/nowhere/noise", "/ui/hosts/%3Cb%3E"):
        reply = await client.get(address)
        assert reply.status_code == 404
        assert "<b>" not in reply.text
