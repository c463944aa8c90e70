"""GET /lhp: platforms, hosts, and hosts that are away."""

from __future__ import annotations

import asyncio
import dataclasses

import httpx
import pytest

from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from tests.api.conftest import DTYPES, HOST, Worker, ask, check_problem, keep_curve, serving
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs

pytestmark = pytest.mark.anyio

OTHER_PLATFORM = dataclasses.replace(PLATFORM, driver="newer")
OTHER_PROTOCOL = dataclasses.replace(PROTOCOL, version=2)


class TestPlatforms:
    """Curves of another platform never answer silently."""

    async def test_a_host_on_a_new_platform_measures_anew(
        self, both_client: httpx.AsyncClient, worker: Worker
    ) -> None:
        old_id = keep_curve(worker.store, square(1, 48), stairs(8))
        assert (await ask(both_client)).status_code == 200
        worker.store.register_host(HOST, OTHER_PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)

        async with asyncio.timeout(5):
            while (await ask(both_client, wait=0)).status_code == 200:
                await asyncio.sleep(0.02)

        # Asked for by name, the old platform answers, and says that it is old.
        old = (await ask(both_client, platform=PLATFORM.key)).json()
        assert (old["curve"], old["stale"], old["platform"]) == (old_id, True, PLATFORM.key)
        assert old["stale_because"] == ["driver: none → newer"]
        worker.finish(await worker.take(), stairs(16), platform=OTHER_PLATFORM)
        new = (await ask(both_client)).json()
        assert (new["lhp"], new["stale"], new["platform"]) == ([16, 16], False, OTHER_PLATFORM.key)
        assert new["stale_because"] == []

    async def test_a_host_that_takes_time_otherwise_measures_anew(
        self, both_client: httpx.AsyncClient, worker: Worker
    ) -> None:
        old_id = keep_curve(worker.store, square(1, 48), stairs(8))
        assert (await ask(both_client)).status_code == 200
        worker.store.register_host(HOST, PLATFORM, protocol=OTHER_PROTOCOL, dtypes=DTYPES)

        async with asyncio.timeout(5):
            while (await ask(both_client, wait=0)).status_code == 200:
                await asyncio.sleep(0.02)

        # Not even if the platform, which is the same, is asked for by name.
        assert (await ask(both_client, platform=PLATFORM.key, wait=0)).status_code == 202
        worker.finish(await worker.take(), stairs(16), protocol=OTHER_PROTOCOL)
        new = (await ask(both_client)).json()
        assert (new["lhp"], new["stale"]) == ([16, 16], False)
        assert (await ask(both_client, platform=PLATFORM.key)).json() == new
        assert (await both_client.get(f"/curves/{old_id}")).json()["stale"]
        page = (await both_client.get("/curves")).json()["items"]
        assert [(item["id"], item["stale"]) for item in page] == [
            (new["curve"], False),
            (old_id, True),
        ]

    async def test_a_platform_no_host_is_on_answers_under_its_newest_protocol(
        self, both_client: httpx.AsyncClient, worker: Worker
    ) -> None:
        # (5,6) → (8,8) as time was taken at first; → (16,16) as it was taken later on.
        keep_curve(worker.store, square(1, 48), stairs(8))
        keep_curve(worker.store, square(1, 40), stairs(16), protocol=OTHER_PROTOCOL)
        worker.store.register_host(HOST, OTHER_PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
        await both_client.get("/curves")  # brings the service up to date
        answer = (await ask(both_client, platform=PLATFORM.key)).json()
        assert (answer["lhp"], answer["stale"]) == ([16, 16], True)
        # Its window, up to (48,48), is covered by the older curve only, which doesn't answer.
        check_problem(await ask(both_client, "16,16", platform=PLATFORM.key), 503, "lhp worker")

    async def test_the_host_asked_decides_how_time_is_taken(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
        sqlite_worker.store.register_host("there", PLATFORM, protocol=OTHER_PROTOCOL, dtypes=DTYPES)
        keep_curve(
            sqlite_worker.store, square(1, 48), stairs(16), host="there", protocol=OTHER_PROTOCOL
        )
        for named in ({}, {"platform": PLATFORM.key}):
            assert (await ask(client, **named)).json()["lhp"] == [8, 8]
            assert (await ask(client, host="there", **named)).json()["lhp"] == [16, 16]

    async def test_a_platform_no_host_is_on_cannot_measure(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        sqlite_worker.store.register_host(HOST, OTHER_PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
        check_problem(await ask(client, platform=PLATFORM.key), 503, "lhp worker")
        check_problem(await ask(client, platform=PLATFORM.key, host=HOST), 409)

    @pytest.mark.parametrize("way", ["failed", "begun anew there"])
    async def test_who_waits_while_the_platform_changes_is_answered_from_the_new_one(
        self, both_client: httpx.AsyncClient, worker: Worker, way: str
    ) -> None:
        asking = asyncio.create_task(ask(both_client))
        sweep = await worker.take(asking)
        worker.store.start_sweep(sweep.id)
        worker.store.register_host(HOST, OTHER_PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
        if way == "failed":
            worker.store.fail_sweep(sweep.id, "the host's platform has changed")
            sweep = await worker.take()
        worker.finish(sweep, stairs(16), platform=OTHER_PLATFORM)
        answer = await asking
        assert answer.status_code == 200, answer.text
        assert answer.json()["lhp"] == [16, 16]
        assert answer.json()["platform"] == OTHER_PLATFORM.key
        assert worker.handed_in.empty()

    async def test_who_waits_for_a_platform_that_goes_away_is_told_so(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        store = sqlite_worker.store
        for named, status in (({}, 503), ({"host": HOST}, 409)):
            asking = asyncio.create_task(ask(client, platform=PLATFORM.key, wait=2, **named))
            sweep = await sqlite_worker.take(asking)
            store.start_sweep(sweep.id)
            store.register_host(HOST, OTHER_PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
            store.fail_sweep(sweep.id, "the host's platform has changed")
            check_problem(await asking, status)
            store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)

    async def test_a_platform_is_measured_by_a_present_host_on_it(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        sqlite_worker.store.register_host("there", OTHER_PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
        asking = asyncio.create_task(ask(client, platform=OTHER_PLATFORM.key))
        sweep = await sqlite_worker.take(asking)
        assert sweep.host == "there"
        sqlite_worker.finish(sweep, stairs(8), platform=OTHER_PLATFORM)
        assert (await asking).json()["host"] == "there"

    async def test_hosts_on_one_platform_share_its_curves(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
        sqlite_worker.store.register_host("twin", PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
        answer = (await ask(client, host="twin")).json()
        assert (answer["host"], answer["stale"]) == (HOST, False)

    async def test_unknown_ones_are_404(self, client: httpx.AsyncClient) -> None:
        check_problem(await ask(client, platform="0123456789abcdef"), 404, "/platforms")
        check_problem(await ask(client, host="nowhere"), 404, "/hosts")
        check_problem(await ask(client, host="nowhere", platform=PLATFORM.key), 404, "/hosts")


class TestHostsAway:
    async def test_a_host_not_heard_of_is_503(self, sqlite_worker: Worker) -> None:
        sqlite_worker.store.register_host("there", PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
        settings = Settings(database_url="sqlite:///unused", host=HOST, presence_s=1e-6)
        async with serving(settings, sqlite_worker) as client:
            check_problem(await ask(client, host="there"), 503, "lhp worker")
            check_problem(await ask(client), 503, "lhp worker")
        assert not sqlite_worker.store.list_sweeps().items

    async def test_what_is_measured_is_answered_all_the_same(self, sqlite_worker: Worker) -> None:
        keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
        settings = Settings(database_url="sqlite:///unused", host=HOST, presence_s=1e-6)
        async with serving(settings, sqlite_worker) as client:
            assert (await ask(client)).status_code == 200

    async def test_the_own_host_is_waited_for(
        self, settings: Settings, sqlite_store: Store
    ) -> None:
        worker = Worker(sqlite_store)
        async with serving(settings, worker) as client:
            check_problem(await ask(client, wait=0), 503, "lhp worker")
            asking = asyncio.create_task(ask(client))
            await client.get("/healthz")  # lets the query get going
            worker.store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
            worker.finish(await worker.take(), stairs(8))
            assert (await asking).json()["lhp"] == [8, 8]
