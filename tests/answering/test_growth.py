"""What many curves and many clients cost: one reading for all, and never without a limit."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Collection

import pytest

from profiler_service.answering import curves, queue, race_history
from profiler_service.answering.curves import HeadersKey
from profiler_service.answering.duration import MAX_HEADERS, find_least_call_s
from profiler_service.answering.lhp import LhpQuestion
from profiler_service.answering.polling import SharedPoll
from profiler_service.answering.questions import Where
from profiler_service.answering.race_history import RaceHistory
from profiler_service.answering.services import Services, open_services
from profiler_service.answering.shutdown import Shutdown
from profiler_service.errors import (
    NotReadyError,
    StoreLostError,
    StoreUnavailableError,
    TooManyRequestsError,
)
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.settings import Settings
from profiler_service.storage.store import CurveHeader, Store, Sweep
from profiler_service.wire import LhpAnswer, RaceInfo
from tests.api.conftest import HOST, Worker, keep_curve
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs

pytestmark = pytest.mark.anyio


@pytest.fixture
async def services(
    anyio_backend: str, settings: Settings, sqlite_worker: Worker
) -> AsyncIterator[Services]:
    async with open_services(
        settings, shutdown=Shutdown(), store=sqlite_worker.store, enqueue=sqlite_worker.enqueue
    ) as services:
        yield services


# Polls


class Reads:
    """A reading that finds what it is told to, and counts."""

    def __init__(self) -> None:
        self.asked: list[set[str]] = []
        self.found: dict[str, int] = {}
        self.error: Exception | None = None

    def __call__(self, keys: Collection[str]) -> dict[str, int]:
        self.asked.append(set(keys))
        if self.error is not None:
            raise self.error
        return dict(self.found)


async def test_all_who_wait_share_one_reading() -> None:
    reads = Reads()
    poll = SharedPoll(reads, interval_s=0.02)
    waiting = [asyncio.create_task(poll.get(f"{n % 50}")) for n in range(200)]
    await asyncio.sleep(0)
    while len(reads.asked) < 3:
        await asyncio.sleep(0.005)
    reads.found = {f"{n}": n for n in range(50)}
    assert await asyncio.gather(*waiting) == [n % 50 for n in range(200)]
    assert len(reads.asked) <= 5
    assert all(len(keys) == 50 for keys in reads.asked)
    await poll.close()


async def test_nobody_is_asked_for_nothing() -> None:
    reads = Reads()
    poll = SharedPoll(reads, interval_s=0.001)
    waiting = asyncio.create_task(poll.get("a"))
    while not reads.asked:
        await asyncio.sleep(0.001)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.sleep(0.02)
    num_reads = len(reads.asked)
    await asyncio.sleep(0.02)
    assert len(reads.asked) == num_reads


async def test_while_the_database_is_away_a_poll_waits_and_what_stays_wrong_is_raised() -> None:
    reads = Reads()
    reads.error = StoreUnavailableError("away")
    poll = SharedPoll(reads, interval_s=0.001)
    waiting = asyncio.create_task(poll.get("a"))
    while len(reads.asked) < 3:
        await asyncio.sleep(0.001)
    reads.error, reads.found = None, {"a": 1}
    assert await waiting == 1
    reads.error = StoreLostError("gone")
    with pytest.raises(StoreLostError):
        await poll.get("a")
    await poll.close()


async def test_many_who_wait_for_sweeps_cost_as_much_as_one(
    services: Services, sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sqlite_worker.store
    sweeps = [
        store.create_sweep(
            SweepSpec(workload=LINEAR.describe(), mode="grid", grid=square(n, n + 1)), host=HOST
        )[0]
        for n in range(1, 41)
    ]
    num_reads = 0
    for name in ("find_ended", "find_sweeps", "get_sweep"):

        def counted(*args: object, read: object = getattr(store, name)) -> object:
            nonlocal num_reads
            num_reads += 1
            return read(*args)  # type: ignore[operator]

        monkeypatch.setattr(store, name, counted)
    waiting = [asyncio.create_task(services.queue.wait_final(each.id)) for each in sweeps]
    await asyncio.sleep(10 * queue.POLL_S)
    assert num_reads <= 12
    for sweep in sweeps:
        store.request_cancel(sweep.id)
    assert {each.state for each in await asyncio.gather(*waiting)} == {SweepState.CANCELLED}


async def test_streams_of_events_are_limited(
    services: Services, sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "MAX_FOLLOWERS", 2)
    with (
        services.queue.follow("a"),
        services.queue.follow("b"),
        pytest.raises(TooManyRequestsError),
        services.queue.follow("c"),
    ):
        pass
    with services.queue.follow("c"):  # there is room again
        pass


async def test_one_token_has_only_its_share_of_the_streams(services: Services) -> None:
    # A quarter of 256.
    with contextlib.ExitStack() as streams:
        for _ in range(64):
            streams.enter_context(services.queue.follow("a", token_id="one"))
        with (
            pytest.raises(TooManyRequestsError, match="with this token"),
            services.queue.follow("a", token_id="one"),
        ):
            pass
        streams.enter_context(services.queue.follow("a", token_id="other"))
    with services.queue.follow("a", token_id="one"):  # there is room again
        pass


# Curves


def keep_race(store: Store, first: int) -> str:
    """The id of a race from `(first, first)`."""
    grid = Grid.window((first, first), (32, 32))
    sweep, _ = store.create_sweep(
        SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid), host=HOST
    )
    return Worker(store).finish(sweep, stairs(8))


def question(dims: str) -> LhpQuestion:
    return LhpQuestion.parse(
        dims=dims,
        workload="linear",
        fixed_parameters={},
        prefer="fastest",
        effort="quick",
        max_growth=0.125,
    )


async def test_a_question_reads_the_races_from_its_own_point_only(
    services: Services, sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sqlite_worker.store
    kept = {first: keep_race(store, first) for first in range(5, 25)}
    await services.known.refresh()
    read: list[CurveHeader] = []
    find_answering = store.find_answering

    def noting(*args: object, **named: object) -> list[CurveHeader]:
        headers = find_answering(*args, **named)  # type: ignore[arg-type]
        read.extend(headers)
        return headers

    monkeypatch.setattr(store, "find_answering", noting)
    answer = await services.asking.ask(question("7,7"), Where(), wait_s=0)
    assert isinstance(answer, LhpAnswer) and answer.curve == kept[7]
    assert [header.id for header in read] == [kept[7]]


async def test_a_question_without_races_from_its_point_asks_the_store_for_none(
    services: Services, sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sqlite_worker.store
    keep_race(store, 3)
    grid = keep_curve(store, square(1, 64), stairs(8))
    await services.known.refresh()
    calls: list[str] = []

    def count(name: str) -> None:
        read = getattr(store, name)

        def counted(*args: object, limit: int) -> object:
            calls.append(name)
            return read(*args, limit=limit)

        monkeypatch.setattr(store, name, counted)

    count("find_answering")
    count("find_raced_points")
    for first in (5, 6, 7, 8):
        answer = await services.asking.ask(question(f"{first},{first}"), Where(), wait_s=0)
        assert isinstance(answer, LhpAnswer) and answer.curve == grid
    # The grids, and the points where races began: each once.
    assert sorted(calls) == ["find_answering", "find_raced_points"]
    # A race from such a point is known as soon as it is stored.
    raced = keep_race(store, 6)
    await services.known.refresh()
    answer = await services.asking.ask(question("6,6"), Where(), wait_s=0)
    assert isinstance(answer, LhpAnswer) and answer.curve == raced


async def test_races_from_too_many_points_to_remember_are_found(
    services: Services, sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "MAX_RACED_POINTS", 2)
    store = sqlite_worker.store
    kept = {first: keep_race(store, first) for first in (5, 6, 7)}
    await services.known.refresh()
    for first, curve_id in kept.items():
        answer = await services.asking.ask(question(f"{first},{first}"), Where(), wait_s=0)
        assert isinstance(answer, LhpAnswer) and answer.curve == curve_id


async def test_newer_curves_are_added_to_what_is_in_memory_page_by_page(
    services: Services, sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "PAGE_SIZE", 3)
    store = sqlite_worker.store
    keep_race(store, 5)
    await services.known.refresh()
    await services.asking.ask(question("5,5"), Where(), wait_s=0)
    newest = [keep_race(store, 5) for _ in range(7)][-1]
    await services.known.refresh()
    monkeypatch.setattr(store, "find_answering", None)  # not needed any more
    answer = await services.asking.ask(question("5,5"), Where(), wait_s=0)
    assert isinstance(answer, LhpAnswer) and answer.curve == newest


async def test_of_many_curves_for_one_point_the_newest_are_kept(
    services: Services, sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "MAX_HEADERS_PER_KEY", 2)
    store = sqlite_worker.store
    kept = [keep_race(store, 5) for _ in range(3)]
    await services.known.refresh()
    await services.asking.ask(question("5,5"), Where(), wait_s=0)
    key = HeadersKey(LINEAR.describe().key, PLATFORM.key, PROTOCOL.key, (5, 5))
    headers = services.known.curves._headers
    assert [header.id for header in await headers.get(key)] == [kept[2], kept[1]]
    newest = keep_race(store, 5)
    await services.known.refresh()
    assert [header.id for header in await headers.get(key)] == [newest, kept[2]]


async def test_a_database_that_went_back_is_believed(
    services: Services, sqlite_worker: Worker
) -> None:
    """As after restoring a backup: what was known since is gone."""
    store = sqlite_worker.store
    keep_race(store, 5)
    await services.known.refresh()
    assert isinstance(await services.asking.ask(question("5,5"), Where(), wait_s=0), LhpAnswer)
    with store._write() as connection:
        for table in ("curve_arrays", "curves"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
        connection.exec_driver_sql("UPDATE generation SET value = 1")
    await services.known.refresh()
    assert isinstance(await services.asking.ask(question("5,5"), Where(), wait_s=0), Sweep)


async def test_the_least_time_of_a_call_is_looked_up_in_some_of_the_newest_curves(
    sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sqlite_worker.store
    keep_curve(store, square(1, 9), stairs(8))
    asked: list[object] = []
    find_curves = store.find_curves

    def noting(*args: str, **named: int) -> list[CurveHeader]:
        asked.append(named["limit"])
        return find_curves(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "find_curves", noting)
    host = store.get_host(HOST)
    assert find_least_call_s(store, LINEAR.describe(), square(1, 9), host) is not None
    assert asked == [MAX_HEADERS]


# Races


@pytest.fixture
def race(sqlite_worker: Worker) -> Sweep:
    curve_id = keep_race(sqlite_worker.store, 5)
    return sqlite_worker.store.get_sweep(sqlite_worker.store.get_curve_header(curve_id).sweep_id)


async def test_a_race_that_takes_long_is_waited_for_only_so_long_and_kept_in_the_end(
    race: Sweep, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    replays: list[str] = []

    def slow(sweep: Sweep, _batches: object) -> RaceInfo:
        replays.append(sweep.id)
        may_end.wait()
        return RaceInfo(sweep=sweep.id, asked=[5, 5], noise=0.0, stages=[])

    monkeypatch.setattr(race_history, "_replay", slow)
    monkeypatch.setattr(race_history, "PATIENCE_S", 0.1)
    history = RaceHistory(sqlite_store)
    for asking in await asyncio.gather(
        history.get(race.id), history.get(race.id), return_exceptions=True
    ):
        assert isinstance(asking, NotReadyError)
    may_end.set()
    monkeypatch.setattr(race_history, "PATIENCE_S", 10)
    assert (await history.get(race.id)).sweep == race.id
    assert (await history.get(race.id)).sweep == race.id
    assert replays == [race.id]  # shared, and kept
    history.close()


async def test_races_that_wait_to_be_replayed_are_limited(
    race: Sweep, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()

    def slow(sweep: Sweep, _batches: object) -> RaceInfo:
        may_end.wait()
        return RaceInfo(sweep=sweep.id, asked=[5, 5], noise=0.0, stages=[])

    monkeypatch.setattr(race_history, "_replay", slow)
    monkeypatch.setattr(race_history, "PATIENCE_S", 0.01)
    monkeypatch.setattr(race_history, "MAX_REPLAYING", 1)
    header = sqlite_store.get_curve_header(keep_race(sqlite_store, 9))
    history = RaceHistory(sqlite_store)
    with pytest.raises(NotReadyError):
        await history.get(race.id)
    with pytest.raises(TooManyRequestsError):
        await history.get(header.sweep_id)
    may_end.set()
    history.close()
