"""What a service says of its own worker, and how long questions wait for one on its way."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import httpx
import pytest
import sqlalchemy as sa

from profiler_service.answering.own_worker import OwnWorker, WorkerState
from profiler_service.app import create_app
from profiler_service.processes.attendance import HEARTBEAT_S
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from profiler_service.storage.tables import hosts
from tests.api.conftest import DTYPES, HOST, Worker, ask, check_problem
from tests.api.curves import PLATFORM, PROTOCOL, stairs

pytestmark = pytest.mark.anyio

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
PRESENCE_S = 600.0
"""So long that no host falls silent because the machine is slow."""


@dataclass
class Machine:
    """A host whose worker is as the test says."""

    store: Store
    worker: OwnWorker = field(default_factory=lambda: OwnWorker(state="starting", since=NOW))
    measured: Worker = field(init=False)

    def __post_init__(self) -> None:
        self.measured = Worker(self.store)

    def set(self, state: WorkerState, **changes: object) -> None:
        """Puts the worker into that state."""
        self.worker = replace(self.worker, state=state, **changes)  # type: ignore[arg-type]

    def register(self, name: str = HOST) -> None:
        """What a worker does when it starts, and with each heartbeat."""
        self.store.register_host(name, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)

    def fall_silent(self, name: str = HOST) -> None:
        """Makes the host's last heartbeat one that is longer ago than PRESENCE_S."""
        seen_at = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1.5 * PRESENCE_S)
        with self.store._engine.begin() as connection:
            changed = sa.update(hosts).where(hosts.c.name == name).values(last_seen_at=seen_at)
            assert connection.execute(changed).rowcount == 1

    @contextlib.asynccontextmanager
    async def beating(self, name: str = HOST) -> AsyncIterator[None]:
        """In this context, the host's worker is there."""

        async def beat() -> None:
            while True:
                await asyncio.to_thread(self.register, name)
                await asyncio.sleep(HEARTBEAT_S)

        task = asyncio.create_task(beat())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def machine(sqlite_store: Store) -> Machine:
    return Machine(sqlite_store)


@pytest.fixture
async def client(anyio_backend: str, machine: Machine) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that has a worker of its own."""
    settings = Settings(database_url="sqlite:///unused", host=HOST, presence_s=PRESENCE_S)
    app = create_app(
        settings,
        store=machine.store,
        enqueue=machine.measured.enqueue,
        own_worker=lambda: machine.worker,
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://here", timeout=60
        ) as client,
    ):
        yield client


class TestHealth:
    async def test_a_worker_that_measures_is_well(
        self, client: httpx.AsyncClient, machine: Machine
    ) -> None:
        machine.register()
        machine.set("measuring", pid=17)
        for address in ("/healthz", "/readyz"):
            told = (await client.get(address)).json()
            assert (told["status"], told["detail"]) == ("ok", "")
            assert (told["worker"]["state"], told["worker"]["pid"]) == ("measuring", 17)

    @pytest.mark.parametrize(
        ("state", "changes", "said"),
        [
            ("starting", {}, "is starting since 2026-01-02 03:04:05 UTC"),
            (
                "starting",
                {"num_ends": 2, "last_exit": "SIGKILL"},
                "; before, it ended 2 times in a row (SIGKILL)",
            ),
            (
                "restarting",
                {"num_ends": 9, "last_exit": "SIGKILL", "next_try_at": NOW},
                "ended 9 times in a row (SIGKILL); it is started again at 2026-01-02 03:04:05 UTC",
            ),
            (
                "unable",
                {"last_exit": "exit code 78", "reason": "no CUDA device", "next_try_at": NOW},
                "can't run: no CUDA device; it is started again at 2026-01-02 03:04:05 UTC",
            ),
            ("suspended", {"pid": 17}, "was suspended (process 17)"),
        ],
    )
    async def test_health_says_what_is_wrong_with_the_worker(
        self,
        client: httpx.AsyncClient,
        machine: Machine,
        state: WorkerState,
        changes: dict[str, object],
        said: str,
    ) -> None:
        # Its last heartbeat, from before, doesn't make it well.
        machine.register()
        machine.set(state, **changes)
        response = await client.get("/healthz")
        assert response.status_code == 200
        told = response.json()
        assert told["status"] == "degraded"
        assert f"the worker of host {HOST!r} " in told["detail"]
        assert said in told["detail"]
        assert told["worker"]["state"] == state
        assert told["worker"]["hint"]
        for name, value in changes.items():
            assert told["worker"][name] == ("2026-01-02T03:04:05Z" if value == NOW else value)
        unready = await client.get("/readyz")
        check_problem(unready, 503, "/healthz")
        assert unready.json()["detail"] == told["detail"]

    async def test_a_worker_that_runs_but_is_silent_isnt_ready(
        self, client: httpx.AsyncClient, machine: Machine
    ) -> None:
        machine.register()
        machine.set("measuring", pid=17)
        machine.fall_silent()
        unready = await client.get("/readyz")
        check_problem(unready, 503)
        assert "runs (process 17), but is silent" in unready.json()["detail"]

    async def test_a_worker_that_cant_measure_now_isnt_ready_and_says_why(
        self, client: httpx.AsyncClient, machine: Machine
    ) -> None:
        machine.register()
        machine.set("paused", pid=17, reason="the measuring process died (SIGKILL)")
        unready = await client.get("/readyz")
        check_problem(unready, 503, "/healthz")
        assert "can't measure since 2026-01-02 03:04:05 UTC" in unready.json()["detail"]
        assert "the measuring process died (SIGKILL)" in unready.json()["detail"]
        health = (await client.get("/healthz")).json()
        assert (health["status"], health["worker"]["state"]) == ("degraded", "paused")
        machine.set("measuring", reason="")
        assert (await client.get("/readyz")).status_code == 200

    async def test_a_worker_that_stands_by_is_well_while_the_other_one_measures(
        self, client: httpx.AsyncClient, machine: Machine
    ) -> None:
        machine.set("standing by", reason="a worker of host 'here' is running already")
        check_problem(await client.get("/readyz"), 503)
        machine.register()
        ready = await client.get("/readyz")
        assert ready.status_code == 200
        assert "running already" in ready.json()["worker"]["detail"]


class TestWaiting:
    @pytest.mark.parametrize("state", ["starting", "restarting", "measuring"])
    async def test_a_worker_on_its_way_is_waited_for_longer_than_presence(
        self, client: httpx.AsyncClient, machine: Machine, state: WorkerState
    ) -> None:
        """As when it takes 22 s to start, and LHP_PRESENCE_S is 15: the host is known, and away."""
        machine.register()
        machine.fall_silent()
        machine.set(state, next_try_at=NOW, last_exit="SIGKILL", num_ends=1)
        asking = asyncio.create_task(ask(client, wait=60))
        unready = await ask(client, wait=0)
        check_problem(unready, 503)
        assert unready.json()["type"] == "/problems/host-starting"
        async with machine.beating():
            machine.set("measuring")
            machine.measured.finish(await machine.measured.take(), stairs(8))
            assert (await asking).json()["lhp"] == [8, 8]

    async def test_at_the_end_of_its_wait_a_question_says_how_the_worker_is(
        self, client: httpx.AsyncClient, machine: Machine
    ) -> None:
        started_s = asyncio.get_running_loop().time()
        late = await ask(client, wait=0.5)
        assert asyncio.get_running_loop().time() - started_s >= 0.5
        check_problem(late, 503)
        assert late.json()["type"] == "/problems/host-starting"
        assert "is starting since" in late.json()["detail"]

    @pytest.mark.parametrize("state", ["unable", "suspended"])
    async def test_a_worker_that_isnt_on_its_way_is_not_waited_for(
        self, client: httpx.AsyncClient, machine: Machine, state: WorkerState
    ) -> None:
        machine.set(state, pid=17, reason="no CUDA device", next_try_at=NOW)
        async with asyncio.timeout(30):  # half of what it may wait
            away = await ask(client, wait=60)
        check_problem(away, 503)
        assert away.json()["type"] == "/problems/host-away"

    async def test_a_question_that_waits_is_told_once_the_worker_cant_run(
        self, client: httpx.AsyncClient, machine: Machine
    ) -> None:
        asking = asyncio.create_task(ask(client, wait=60))
        check_problem(await ask(client, wait=0), 503)
        machine.set("unable", reason="no CUDA device", next_try_at=NOW)
        async with asyncio.timeout(30):
            away = await asking
        assert "can't run: no CUDA device" in away.json()["detail"]

    async def test_a_platform_whose_only_host_is_on_its_way_is_waited_for(
        self, client: httpx.AsyncClient, machine: Machine
    ) -> None:
        machine.register()
        machine.fall_silent()
        asking = asyncio.create_task(ask(client, platform=PLATFORM.key, wait=60))
        check_problem(await ask(client, platform=PLATFORM.key, wait=0), 503)
        async with machine.beating():
            machine.measured.finish(await machine.measured.take(), stairs(8))
            assert (await asking).json()["host"] == HOST

    async def test_another_host_that_was_heard_of_a_moment_ago_is_waited_for(
        self, client: httpx.AsyncClient, machine: Machine
    ) -> None:
        """Its worker has been started again, most likely, by whoever looks after it there."""
        machine.register("there")
        machine.fall_silent("there")
        asking = asyncio.create_task(ask(client, host="there", wait=60))
        unready = await ask(client, host="there", wait=0)
        assert unready.json()["type"] == "/problems/host-starting"
        async with machine.beating("there"):
            machine.measured.finish(await machine.measured.take(), stairs(8))
            assert (await asking).json()["host"] == "there"
