"""The page that shows the latency at one point over time."""

from __future__ import annotations

import dataclasses
import datetime as dt

import httpx
import pytest

from profiler_service.analysis.evidence import Evidence
from profiler_service.answering.canaries import CANARY_WORKLOAD
from profiler_service.dashboard import canaries
from profiler_service.plan.spec import SweepSpec
from profiler_service.settings import Settings
from tests.api.conftest import DTYPES, HOST, Worker, keep_curve
from tests.api.curves import MEASURED_AT, PLATFORM, PROTOCOL, square
from tests.dashboard.conftest import Page, follow, read_page
from tests.plots.reading import notes, traces

pytestmark = pytest.mark.anyio

NEWER = dataclasses.replace(PLATFORM, framework="none 2.0", threads=PLATFORM.threads + 1)


@pytest.fixture
def settings() -> Settings:
    return Settings(database_url="sqlite:///unused", host=HOST, canaries="5,6;7,7")


def race(
    worker: Worker,
    latency_s: float,
    *,
    days: int,
    first: int = 5,
    newer: bool = False,
    evidence: Evidence | None = None,
    failing: bool = False,
) -> str:
    """The curve of a race from (first, first), `days` after the first one: ± 0.1 %."""
    spec = SweepSpec(workload=CANARY_WORKLOAD, mode="race", grid=square(first, 12), seed=days)
    sweep, _ = worker.store.create_sweep(spec, host=HOST)
    return worker.finish(
        sweep,
        lambda dims: latency_s,
        platform=NEWER if newer else PLATFORM,
        measured_at=MEASURED_AT + dt.timedelta(days=days),
        evidence=evidence,
        failing=[(first, first)] if failing else (),
    )


async def read(client: httpx.AsyncClient, dims: str = "5,5", **more: str) -> Page:
    reply = await client.get("/ui/history/canary", params={"dims": dims, "host": HOST, **more})
    assert reply.status_code == 200, reply.text
    return read_page(reply.text)


async def draw(client: httpx.AsyncClient, page: Page) -> dict[str, object]:
    [address] = [has["data-figure"] for has in page.find("div") if "data-figure" in has]
    reply = await client.get(follow(address, "/ui/history/canary"))
    found: dict[str, object] = reply.json()
    return found


async def test_a_point_is_shown_over_time(client: httpx.AsyncClient, sqlite_worker: Worker) -> None:
    for days, latency_s in enumerate((1e-3, 1.2e-3, 1.1e-3, 1.21e-3)):
        race(sqlite_worker, latency_s, days=days)
    race(sqlite_worker, 5.0, days=9, first=6)  # from another point
    keep_curve(sqlite_worker.store, square(5, 8), lambda dims: 6.0)  # no race
    page = await read(client)
    # The median of 1.0, 1.1 and 1.2 ms is 1.1; 1.21 / 1.1 is 1.1.
    assert "5 × 5 takes 1.21 ms, 10.0 % longer than the median of the 3 races before" in page.text
    assert page.text.count(PLATFORM.key) == 4
    assert "1.21 ms to 1.21 ms" in page.text  # ± 0.1 %
    figure = await draw(client, page)
    assert list(traces(figure)["measured"]["x"]) == [
        (MEASURED_AT + dt.timedelta(days=days)).isoformat() for days in range(4)
    ]


@pytest.mark.parametrize(
    ("latencies_s", "said"),
    [
        ((1e-3,), "takes 1.00 ms, measured once"),
        ((1e-3, 1e-3), "takes 1.00 ms, as long as the median of the 1 race before"),
        ((1e-3, 0.9e-3), "takes 900 µs, 10.0 % shorter than the median of the 1 race before"),
    ],
)
async def test_the_newest_is_compared_with_those_before(
    client: httpx.AsyncClient, sqlite_worker: Worker, latencies_s: tuple[float, ...], said: str
) -> None:
    for days, latency_s in enumerate(latencies_s):
        race(sqlite_worker, latency_s, days=days)
    assert said in (await read(client)).text


async def test_a_change_of_the_platform_is_marked_and_nothing_is_compared_across_it(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    race(sqlite_worker, 1e-3, days=0)
    sqlite_worker.store.register_host(HOST, NEWER, protocol=PROTOCOL, dtypes=DTYPES)
    race(sqlite_worker, 2e-3, days=1, newer=True)
    page = await read(client)
    assert "takes 2.00 ms, measured once since the platform changed" in page.text
    before, after = PLATFORM.threads, NEWER.threads
    told = f"framework: none 1.0 → none 2.0; threads: {before} → {after}"
    assert f"2025-11-23 12:00: {told}." in page.text
    assert "stale" in page.text
    assert "framework, threads" in notes(await draw(client, page))


async def test_what_disturbed_a_race_is_said(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    race(sqlite_worker, 1e-3, days=0)
    race(sqlite_worker, 1e-3, days=1, evidence=Evidence(disturbed=True, others_share=0.5))
    race(sqlite_worker, 1e-3, days=2, evidence=Evidence(samples=10, discarded=90))
    race(sqlite_worker, 1e-3, days=3, failing=True)
    page = await read(client)
    for said in ("disturbed", "noisy", "couldn't be measured"):
        assert page.text.count(said) == 1
    figure = traces(await draw(client, page))
    assert (len(figure["measured"]["x"]), len(figure["noisy"]["x"])) == (1, 2)


async def test_canaries_are_listed_with_the_hosts_that_measured_them(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    def links(page: Page) -> list[str]:
        return [has["href"] for has in page.find("a") if "/canary?" in has.get("href", "")]

    assert links(read_page((await client.get("/ui/history")).text)) == []
    race(sqlite_worker, 1e-3, days=0, first=7)
    race(sqlite_worker, 1e-3, days=0, first=8)  # no canary
    found = links(read_page((await client.get("/ui/history")).text))
    assert found == [f"../ui/history/canary?dims=7,7&host={HOST}"]
    assert (await client.get(follow(found[0], "/ui/history"))).status_code == 200
    for others in ("dims=5,6", "workload=matmul"):
        assert links(read_page((await client.get(f"/ui/history?{others}")).text)) == []


async def test_only_the_newest_races_are_shown(
    client: httpx.AsyncClient, sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canaries, "MAX_RACES", 2)
    for days in range(3):
        race(sqlite_worker, (1 + days) * 1e-3, days=days)
    page = await read(client)
    assert "The newest 2 races are shown" in page.text
    assert "2025-11-22" not in page.text and "2025-11-24" in page.text


async def test_a_point_without_races_is_not_found(client: httpx.AsyncClient) -> None:
    for params, status in (
        ({"dims": "5,5", "host": HOST}, 404),
        ({"dims": "five", "host": HOST}, 422),
        ({"dims": "5,5", "host": "<b>"}, 404),
        ({"dims": "5,5"}, 422),
    ):
        for address in ("/ui/history/canary", "/ui/history/canary/figure"):
            reply = await client.get(address, params=params)
            assert reply.status_code == status, reply.text
            assert "<b>" not in reply.text
