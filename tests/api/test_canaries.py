"""Hosts of one platform that differ at their canaries are named, in /hosts and in /metrics."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import AsyncIterator

import httpx
import pytest

from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.samples import Platform
from profiler_service.answering import canaries, fleet_metrics
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec
from profiler_service.settings import Settings
from profiler_service.storage.store import HostStatus
from tests.api.conftest import DTYPES, HOST, Worker, serving
from tests.api.curves import PLATFORM, PROTOCOL
from tests.api.test_lhp_facts import WINDOW
from tests.api.test_metrics import key, scrape

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def read_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_metrics, "READ_EVERY_S", 0.0)
    monkeypatch.setattr(canaries, "COMPARE_EVERY_S", 0.0)


@pytest.fixture
async def client(
    anyio_backend: str, settings: Settings, worker: Worker
) -> AsyncIterator[httpx.AsyncClient]:
    """Of a service with one canary, once on SQLite and once on PostgreSQL."""
    async with serving(settings.model_copy(update={"canaries": "5,6"}), worker) as client:
        yield client


def measure(
    worker: Worker,
    host: str,
    latency_s: float,
    *,
    count: int = 3,
    age: dt.timedelta = dt.timedelta(minutes=1),
    platform: Platform = PLATFORM,
    evidence: Evidence | None = None,
) -> None:
    """Races the canary on that host so many times; the host registers if it hasn't yet."""
    worker.store.register_host(host, platform, protocol=PROTOCOL, dtypes=DTYPES)
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=WINDOW)
    for _ in range(count):
        sweep, _ = worker.store.create_sweep(spec, host=host)
        worker.finish(
            sweep,
            lambda _: latency_s,
            platform=platform,
            measured_at=dt.datetime.now(dt.UTC) - age,
            evidence=evidence,
        )


async def find_wrong(client: httpx.AsyncClient) -> dict[str, str]:
    """What is wrong with each host."""
    listed = (await client.get("/hosts")).json()
    for each in listed:
        alone = (await client.get(f"/hosts/{each['name']}")).json()
        assert alone["wrong"] == each["wrong"]
    return {each["name"]: each["wrong"] for each in listed if each["wrong"]}


async def test_of_two_hosts_that_differ_both_are_named(
    client: httpx.AsyncClient, worker: Worker
) -> None:
    measure(worker, HOST, 2.0e-3)
    measure(worker, "slow", 2.4e-3, count=2)
    assert await find_wrong(client) == {}  # two measurements aren't enough
    measure(worker, "slow", 2.4e-3, count=1)
    # 2.4 / 2.0 = 1.2, and 2.0 / 2.4 = 0.83.
    assert await find_wrong(client) == {
        "slow": "its canaries take 1.20 times as long as on the other host of its platform",
        HOST: "its canaries take 0.83 times as long as on the other host of its platform",
    }


async def test_of_three_hosts_the_odd_one_is_named_and_has_its_metrics(
    client: httpx.AsyncClient, worker: Worker
) -> None:
    assert key("lhp_host_deviates", host=HOST) not in await scrape(client)
    for host, latency_s in ((HOST, 2.0e-3), ("third", 2.0e-3), ("slow", 2.4e-3)):
        measure(worker, host, latency_s)
    assert await find_wrong(client) == {
        "slow": "its canaries take 1.20 times as long as on most other hosts of its platform"
    }
    read = await scrape(client)
    assert read[key("lhp_host_deviates", host="slow")] == 1
    assert read[key("lhp_host_deviates", host=HOST)] == 0
    assert read[key("lhp_canary_ratio", host="slow")] == pytest.approx(1.2)
    # Beside "third" the ratio is 1, beside "slow" 1 / 1.2: the median of their logarithms.
    assert read[key("lhp_canary_ratio", host=HOST)] == pytest.approx(1.2**-0.5)
    # Repaired: two of its three newest are as those of the others.
    measure(worker, "slow", 2.0e-3, count=2)
    assert await find_wrong(client) == {}


async def test_only_quiet_and_new_latencies_of_hosts_at_work_on_one_platform_count(
    client: httpx.AsyncClient, worker: Worker
) -> None:
    measure(worker, HOST, 2.0e-3)
    other = dataclasses.replace(PLATFORM, threads=2)
    measure(worker, "larger", 1.0e-3, platform=other)
    measure(worker, "old", 9.0e-3, age=dt.timedelta(days=8))
    measure(worker, "disturbed", 9.0e-3, evidence=Evidence(disturbed=True, others_share=0.5))
    measure(worker, "removed", 9.0e-3)
    worker.store.set_status("removed", HostStatus.RETIRED)
    assert await find_wrong(client) == {}
    assert key("lhp_canary_ratio", host=HOST) not in await scrape(client)


async def test_many_curves_are_read_little_by_little(
    client: httpx.AsyncClient, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canaries, "MAX_LOADED", 4)
    monkeypatch.setattr(canaries, "COMPARE_EVERY_S", 600.0)
    for host, latency_s in ((HOST, 2.0e-3), ("slow", 2.4e-3)):
        measure(worker, host, latency_s)
    # Six curves, in two readings, the second of which doesn't wait for ten minutes.
    assert (await client.get("/hosts")).json()[0]["wrong"] == ""
    assert (await client.get("/hosts")).json()[0]["wrong"] != ""
