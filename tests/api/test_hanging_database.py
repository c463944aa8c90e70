"""A database that doesn't answer: what is known is answered, and everything else ends in time."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import httpx
import pytest
import sqlalchemy as sa

from profiler_service.answering.predicted import QUEUE_S
from profiler_service.answering.services import Services
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec
from profiler_service.settings import Settings
from profiler_service.storage.store import HostStatus, Store
from tests.api.conftest import DTYPES, HOST, Worker, ask, check_problem, keep_curve, serving
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs
from tests.api.learned import teach
from tests.storage.proxy import Proxy, proxied

pytestmark = pytest.mark.anyio

TIMEOUT_S = 1.0
BOUND_S = TIMEOUT_S + 1
"""What a request takes beyond its `wait` at most, as the settings' documentation says."""
SLACK_S = 1.0
"""For a machine that does other things, too."""
AWAY = dataclasses.replace(PLATFORM, driver="older")
"""A platform that no host is on any more."""
KNOWN = [
    "/lhp?dims=5,6",
    "/lhp?dims=%205%20,6",
    "/lhp?prefer=fastest&dims=5,6",
    "/lhp?dims=5,6&workload=linear&effort=quick",
    "/lhp?dims=5,6&batch=16&dtype=float32&backend=dense",
    "/lhp?dims=5,6&max_growth=0.125&wait=0",
    "/lhp?dims=5,6&wait=7",
    f"/lhp?dims=5,6&host={HOST}",
    f"/lhp?dims=5,6&platform={PLATFORM.key}",
    f"/lhp?dims=5,6&platform={PLATFORM.key[:8]}",
    f"/lhp?dims=5,6&platform={PLATFORM.key}&host={HOST}",
    "/lhp?dims=9,9&prefer=nearest",
    "/lhp?dims=5,6&budget=3",
    f"/lhp?dims=5,6&platform={AWAY.key}",
]
"""Questions that the same curves answer."""


@dataclass(kw_only=True)
class Hanging:
    """A service, and the database that can be made to hang."""

    client: httpx.AsyncClient
    worker: Worker
    proxy: Proxy

    @property
    def services(self) -> Services:
        transport = self.client._transport
        assert isinstance(transport, httpx.ASGITransport)
        services = transport.app.state.services  # type: ignore[attr-defined]
        assert isinstance(services, Services)
        return services


@pytest.fixture
def bounded_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"database_timeout_s": TIMEOUT_S, "database_answer_s": 2})


@pytest.fixture
def proxied_url(migrated_postgres_url: str) -> Iterator[tuple[Proxy, str]]:
    with proxied(migrated_postgres_url) as (proxy, url):
        yield proxy, url


@pytest.fixture
async def hanging(
    anyio_backend: str, bounded_settings: Settings, proxied_url: tuple[Proxy, str]
) -> AsyncIterator[Hanging]:
    """A service that has answered some questions."""
    proxy, url = proxied_url
    with closing(Store.open(url, timeout_s=TIMEOUT_S)) as store:
        keep_curve(store, square(1, 48), stairs(8), platform=AWAY, host="old")
        store.register_host("old", PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
        keep_curve(store, square(1, 48), stairs(8))
        worker = Worker(store)
        async with serving(bounded_settings, worker) as client:
            for address in ("/lhp?dims=5,6", f"/lhp?dims=5,6&platform={AWAY.key}"):
                assert (await client.get(address)).status_code == 200
            yield Hanging(client=client, worker=worker, proxy=proxy)
            proxy.recover()
        # Threads that nobody waits for any more may still use the store.
        await asyncio.get_running_loop().shutdown_default_executor()


async def timed(request: Awaitable[httpx.Response]) -> tuple[httpx.Response, float]:
    """The response, and the seconds it took."""
    began = time.monotonic()
    response = await request
    return response, time.monotonic() - began


async def test_what_is_known_is_answered_however_it_is_asked(hanging: Hanging) -> None:
    hanging.proxy.hang()
    for address in KNOWN:
        response, seconds = await timed(hanging.client.get(address))
        assert response.status_code == 200, (address, response.text)
        assert seconds < 0.5, address
        assert response.json()["lhp"] in ([8, 8], [16, 16])


async def test_what_is_known_of_a_platform_is_answered_although_all_hosts_have_left(
    hanging: Hanging,
) -> None:
    store, known = hanging.worker.store, hanging.services.known
    for host in store.list_hosts():
        store.change_host(host.name, status=HostStatus.RETIRED)
    while any(host.status.takes_sweeps for host in known.curves.snapshot.hosts.values()):
        await asyncio.sleep(0.01)
    hanging.proxy.hang()
    for where in ({"platform": PLATFORM.key}, {"host": HOST}):
        response, seconds = await timed(ask(hanging.client, **where))
        assert (response.status_code, response.json()["lhp"]) == (200, [8, 8])
        assert seconds < 0.5


async def test_what_was_learned_before_it_hung_is_known_too(hanging: Hanging) -> None:
    """Also where only the background has seen the newer curve, and other curves have come."""
    newer = keep_curve(hanging.worker.store, square(1, 48), stairs(16))
    keep_curve(
        hanging.worker.store, square(1, 9), stairs(8), workload=LINEAR.describe({"batch": 3})
    )
    while hanging.services.known.curves.snapshot.generation < hanging.worker.store.generation():
        await asyncio.sleep(0.01)
    hanging.proxy.hang()
    response, seconds = await timed(ask(hanging.client, max_growth=0.1))
    assert (response.status_code, response.json()["curve"]) == (200, newer)
    assert seconds < 0.5


async def test_an_answer_is_marked_while_the_database_is_away_and_only_then(
    hanging: Hanging,
) -> None:
    response = await hanging.client.get(KNOWN[0])
    assert "Age" not in response.headers and "Cache-Status" not in response.headers
    plain = response.json()
    assert "database_away_s" not in plain
    hanging.proxy.hang()
    begun_s = time.monotonic()
    for address in (KNOWN[0], KNOWN[1]):  # by its address, and by its meaning
        while "Age" not in (response := await hanging.client.get(address)).headers:
            assert time.monotonic() - begun_s < 30
            await asyncio.sleep(0.05)
        assert response.status_code == 200
        assert int(response.headers["Age"]) >= 2
        assert response.headers["Cache-Status"] == 'lhp; hit; detail="database away"'
        # The body says so, too, and is the same otherwise.
        away_s = int(response.headers["Age"])
        assert response.json() == {**plain, "database_away_s": away_s}
    batch, seconds = await timed(hanging.client.post("/lhp/batch", json=[{"dims": "5,6"}]))
    [item] = batch.json()["items"]
    away_s = int(batch.headers["Age"])
    assert (away_s >= 2, seconds < BOUND_S + SLACK_S) == (True, True)
    assert item == {"status": 200, "answer": {**plain, "database_away_s": away_s}}
    hanging.proxy.recover()
    while "Age" in (await hanging.client.get(KNOWN[0])).headers:
        assert time.monotonic() - begun_s < 60
        await asyncio.sleep(0.05)


async def test_what_was_predicted_lately_is_predicted_from_memory(hanging: Hanging) -> None:
    teach(hanging.worker.store)
    before = await ask(hanging.client, "101,203", basis="predicted")
    assert before.json()["candidate"] == [104, 208]
    hanging.proxy.hang()
    for dims in ("101,203", "300,301"):
        response, seconds = await timed(ask(hanging.client, dims, basis="predicted"))
        assert (response.status_code, response.json()["basis"]) == (200, "predicted")
        assert seconds < 0.5
    # The race can't be queued, which is said in time.
    response, seconds = await timed(ask(hanging.client, "101,203", basis="any"))
    assert response.json()["candidate"] == [104, 208]
    assert "no race was queued" in response.json()["caveats"][-1]
    assert seconds < QUEUE_S + BOUND_S + SLACK_S
    # What isn't in memory is refused in time.
    response, seconds = await timed(ask(hanging.client, "101,203", basis="predicted", batch=3))
    check_problem(response, 503)
    assert seconds < BOUND_S + SLACK_S


@pytest.mark.parametrize("wait_s", [0, 2])
async def test_what_is_not_known_is_refused_in_time(hanging: Hanging, wait_s: int) -> None:
    hanging.proxy.hang()
    for asked in ({"dims": "500,600"}, {"dims": "500,600", "platform": "nobody's"}):
        response, seconds = await timed(ask(hanging.client, wait=wait_s, **asked))
        check_problem(response, 503)
        assert seconds < wait_s + BOUND_S + SLACK_S


async def test_who_waits_for_a_sweep_is_told_of_it_in_time_whatever_the_database_does(
    hanging: Hanging,
) -> None:
    asking = asyncio.create_task(timed(ask(hanging.client, "300,400", wait=3)))
    sweep = await hanging.worker.take()
    hanging.proxy.hang()
    response, seconds = await asking
    assert (response.status_code, response.json()["id"]) == (202, sweep.id)
    assert seconds < 3 + BOUND_S + SLACK_S


async def test_a_sweep_that_ends_after_the_database_was_away_is_noticed(hanging: Hanging) -> None:
    asking = asyncio.create_task(ask(hanging.client, "300,400", wait=60))
    sweep = await hanging.worker.take(asking)
    hanging.proxy.hang()
    hanging.proxy.cut()
    await asyncio.sleep(2 * TIMEOUT_S)  # polls fail meanwhile
    hanging.proxy.recover()
    await asyncio.to_thread(hanging.worker.finish, sweep, stairs(8))
    assert (await asking).status_code == 200


ADDRESSES: list[tuple[str, str]] = [
    ("GET", "/hosts"),
    ("GET", f"/hosts/{HOST}"),
    ("GET", "/platforms"),
    ("GET", f"/platforms/{PLATFORM.key}"),
    ("GET", "/sweeps"),
    ("GET", "/sweeps/{sweep}"),
    ("GET", "/sweeps/{sweep}/race"),
    ("GET", "/sweeps/{sweep}/events"),
    ("POST", "/sweeps/{sweep}/cancel"),
    ("POST", "/sweeps"),
    ("GET", "/curves"),
    ("GET", "/curves/{curve}"),
    ("GET", "/curves/{curve}?format=csv"),
    ("GET", "/crossover?dims=7,7&wait=0"),
    ("GET", "/readyz"),
]


async def test_every_other_address_answers_in_time_and_together_with_many(
    hanging: Hanging,
) -> None:
    curve = hanging.worker.store.list_curves().items[0]
    filled = [(m, a.format(sweep=curve.sweep_id, curve=curve.id)) for m, a in ADDRESSES]
    body = {"workload": "matmul", "axes": [{"first": 1, "last": 9}]}
    hanging.proxy.hang()
    requests = [
        timed(
            hanging.client.request(
                method, address, json=body if (method, address) == ("POST", "/sweeps") else None
            )
        )
        for method, address in filled * 8
    ]
    together = asyncio.gather(*requests)
    await asyncio.sleep(0.5 * TIMEOUT_S)
    # Those who hang keep nobody else waiting.
    for address, status in (("/healthz", 200), (KNOWN[2], 200), ("/workloads", 200)):
        response, seconds = await timed(hanging.client.get(address))
        assert (response.status_code, seconds < 0.5) == (status, True), address
    for (method, address), (response, seconds) in zip(filled * 8, await together, strict=True):
        assert response.status_code == 503, (method, address, response.text)
        assert seconds < BOUND_S + 2 * SLACK_S, (method, address)


async def test_it_works_again_without_a_restart(hanging: Hanging) -> None:
    hanging.proxy.hang()
    check_problem(await hanging.client.get("/readyz"), 503)
    check_problem(await hanging.client.get("/hosts"), 503)
    hanging.proxy.recover()
    assert (await hanging.client.get("/hosts")).status_code == 200
    assert (await hanging.client.get("/readyz")).status_code == 200
    asking = asyncio.create_task(ask(hanging.client, "300,400", wait=60))
    hanging.worker.finish(await hanging.worker.take(asking), stairs(8))
    assert (await asking).status_code == 200


async def test_a_sqlite_file_that_another_has_locked_holds_up_nobody_for_long(
    bounded_settings: Settings, sqlite_url: str
) -> None:
    other = sa.create_engine(sqlite_url)
    with closing(Store.open(sqlite_url, timeout_s=TIMEOUT_S)) as store:
        keep_curve(store, square(1, 48), stairs(8))
        async with serving(bounded_settings, Worker(store)) as client:
            with other.connect() as connection:
                connection.exec_driver_sql("BEGIN EXCLUSIVE")
                response, seconds = await timed(ask(client))
                assert (response.status_code, seconds < 0.5) == (200, True)
                for wait_s in (0, 1):
                    response, seconds = await timed(ask(client, "500,600", wait=wait_s))
                    check_problem(response, 503)
                    assert seconds < wait_s + BOUND_S + SLACK_S
                check_problem(await client.get("/readyz"), 503)
            assert (await client.get("/readyz")).status_code == 200
    other.dispose()


Change = Callable[[Store], object]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda store: store.touch_host(HOST), id="heartbeat"),
        pytest.param(
            lambda store: store.create_sweep(
                SweepSpec(workload=LINEAR.describe(), mode="grid", grid=square(2, 3)), host=HOST
            ),
            id="sweep",
        ),
    ],
)
async def test_a_writer_who_hung_is_found_out(hanging: Hanging, change: Change) -> None:
    """Hung in the commit: nobody knows whether it is kept. Doing it again is safe."""
    hanging.proxy.hang_at(b"COMMIT")
    with pytest.raises(Exception, match="no answer"):
        await asyncio.to_thread(change, hanging.worker.store)
    hanging.proxy.recover()
    await asyncio.to_thread(change, hanging.worker.store)
    assert (await hanging.client.get("/readyz")).status_code == 200


async def test_a_body_that_comes_slowly_isnt_blamed_on_the_database(
    bounded_settings: Settings, sqlite_worker: Worker
) -> None:
    """How long a body may take is the connection's limit: `tests/processes`."""

    async def body() -> AsyncIterator[bytes]:
        yield b'{"axes": [{"first": 5, "last": 6},'
        await asyncio.sleep(BOUND_S + 0.5)
        yield b' {"first": 5, "last": 6}]}'

    async with serving(bounded_settings, sqlite_worker) as client:
        sqlite_worker.store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
        posted = await client.post(
            "/sweeps", content=body(), headers={"Content-Type": "application/json"}
        )
    assert posted.status_code == 201, posted.text
