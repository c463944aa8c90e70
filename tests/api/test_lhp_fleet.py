"""Asking a fleet: which platform a question is about, and which host measures."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import httpx
import pytest

from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec
from profiler_service.plan.turns import Demand
from profiler_service.settings import Settings
from profiler_service.storage.records import HostStatus
from profiler_service.storage.store import Store
from tests.api.conftest import DTYPES, Worker, ask, check_problem, keep_curve, serving
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs

pytestmark = pytest.mark.anyio

OTHER = dataclasses.replace(PLATFORM, device_model="Another 1")


@pytest.fixture
async def api(
    anyio_backend: str, settings: Settings, store: Store
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service whose own machine never measures. Two hosts do, on one platform."""
    for name in ("gpu-a", "gpu-b"):
        store.register_host(name, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
    async with serving(settings.model_copy(update={"host": "api"}), Worker(store)) as client:
        yield client


async def refresh(client: httpx.AsyncClient) -> None:
    """Returns when the service has seen everything that was stored."""
    services = client._transport.app.state.services  # type: ignore[attr-defined]
    await services.known.refresh()


def queue(store: Store, host: str, expected_s: float, size: int = 8) -> None:
    """Gives the host something to measure for somebody who waits."""
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=Grid.window((size, 8), (4, 4)))
    store.create_sweep(spec, host=host, demand=Demand(expected_s=expected_s, is_awaited=True))


async def test_a_service_that_never_measures_answers_for_the_only_platform(
    api: httpx.AsyncClient, store: Store
) -> None:
    curve = keep_curve(store, square(1, 48), stairs(8), host="gpu-b")
    await refresh(api)
    found = (await ask(api)).json()
    assert (found["lhp"], found["curve"]) == ([8, 8], curve)
    # From memory, the same question gets the same answer.
    assert (await ask(api)).json() == found


async def test_several_platforms_are_listed_instead_of_chosen_from(
    api: httpx.AsyncClient, store: Store
) -> None:
    keep_curve(store, square(1, 48), stairs(8), host="gpu-b")
    keep_curve(store, square(1, 48), stairs(16), host="gpu-c", platform=OTHER)
    await refresh(api)
    refused = await ask(api)
    check_problem(refused, 422, "platforms=all")
    for listed in (f"{PLATFORM.key} (Synthetic 9000: gpu-a, gpu-b)", f"{OTHER.key} (Another 1"):
        assert listed in refused.json()["detail"]
    # Each of these names one.
    for given in ({"host": "gpu-c"}, {"platform": OTHER.key[:8]}):
        assert (await ask(api, **given)).json()["lhp"] == [16, 16]


async def test_hosts_that_left_the_fleet_make_no_question_ambiguous(
    api: httpx.AsyncClient, store: Store
) -> None:
    keep_curve(store, square(1, 48), stairs(8), host="gpu-b")
    store.register_host("gpu-c", OTHER, protocol=PROTOCOL, dtypes=DTYPES)
    await refresh(api)
    check_problem(await ask(api), 422)
    for status in (HostStatus.PENDING, HostStatus.QUARANTINED):
        store.set_status("gpu-c", status)
        await refresh(api)
        assert (await ask(api)).json()["lhp"] == [8, 8]


async def test_a_label_names_the_platform_of_its_hosts(
    api: httpx.AsyncClient, store: Store
) -> None:
    store.register_host("gpu-c", OTHER, protocol=PROTOCOL, dtypes=DTYPES)
    store.set_labels("gpu-c", {"pool": "train"})
    keep_curve(store, square(1, 48), stairs(16), host="gpu-c", platform=OTHER)
    await refresh(api)
    for label in ("pool:train", "pool=train"):
        assert (await ask(api, label=label)).json()["lhp"] == [16, 16]
    check_problem(await ask(api, label="pool:serve"), 404, "labels are: pool:train")
    check_problem(await ask(api, label="pool"), 422, "pool:train")
    check_problem(await ask(api, label="pool:train", host="gpu-a"), 422, "leave out")
    check_problem(await ask(api, label="pool:train", platform=PLATFORM.key), 404, "leave out")
    store.set_labels("gpu-a", {"pool": "train"})
    await refresh(api)
    check_problem(await ask(api, label="pool:train"), 422, "name one")
    assert (await ask(api, label="pool:train", platform=OTHER.key)).json()["lhp"] == [16, 16]


async def test_the_least_loaded_host_measures(api: httpx.AsyncClient, store: Store) -> None:
    queue(store, "gpu-a", 10.0)
    found = (await ask(api, wait=0)).json()
    assert found["host"] == "gpu-b"
    # gpu-b has ten seconds now, and gpu-a gets less.
    queue(store, "gpu-b", 30.0, size=16)
    assert (await ask(api, "7,7", wait=0)).json()["host"] == "gpu-a"
    # A host that measures the same already is asked, however much it has.
    again = (await ask(api, wait=0)).json()
    assert (again["host"], again["id"]) == ("gpu-b", found["id"])


async def test_only_hosts_with_the_label_that_take_sweeps_measure(
    api: httpx.AsyncClient, store: Store
) -> None:
    store.register_host("gpu-c", PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
    for name in ("gpu-b", "gpu-c"):
        store.set_labels(name, {"pool": "train"})
    store.set_status("gpu-b", HostStatus.DRAINING)
    await refresh(api)
    assert (await ask(api, wait=0, label="pool:train")).json()["host"] == "gpu-c"
    store.set_status("gpu-c", HostStatus.DRAINING)
    await refresh(api)
    check_problem(await ask(api, "7,7", wait=0, label="pool:train"), 503, "another host")
    check_problem(await ask(api, "7,7", wait=0, host="gpu-b"), 503, "another host")


async def test_equal_questions_are_measured_once_whichever_host_is_free(
    api: httpx.AsyncClient, store: Store
) -> None:
    sweeps = await asyncio.gather(*(ask(api, wait=0) for _ in range(4)))
    assert len({each.json()["id"] for each in sweeps}) == 1
