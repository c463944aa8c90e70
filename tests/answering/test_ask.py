"""The way from a question to its answer: what questions that wait at the same time share."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from profiler_service.answering.curves import Conditions
from profiler_service.answering.known import Known
from profiler_service.answering.lhp import LhpQuestion
from profiler_service.answering.questions import Where
from profiler_service.answering.services import Services, open_services
from profiler_service.answering.shutdown import Shutdown
from profiler_service.settings import Settings
from profiler_service.storage.store import Host, Sweep
from profiler_service.wire import LhpAnswer
from tests.api.conftest import DTYPES, HOST, Worker, keep_curve
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs

pytestmark = pytest.mark.anyio

OTHER_PLATFORM = dataclasses.replace(PLATFORM, driver="newer")


class Waits(Shutdown):
    """Tells when somebody begins to wait for a measurement."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Semaphore(0)

    async def wait(self, *futures: asyncio.Future[Any], timeout_s: float) -> None:
        self.begun.release()
        await super().wait(*futures, timeout_s=timeout_s)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
async def services(
    anyio_backend: str, settings: Settings, sqlite_worker: Worker, waits: Waits
) -> AsyncIterator[Services]:
    async with open_services(
        settings, shutdown=waits, store=sqlite_worker.store, enqueue=sqlite_worker.enqueue
    ) as services:
        yield services


async def at_once() -> None:
    """What questions wait for that wait for nothing."""


@dataclass(frozen=True, kw_only=True)
class Question(LhpQuestion):
    """A question that waits before it looks at curves, and tells before its sweep is queued."""

    waiting: Callable[[], Awaitable[object]] = at_once
    telling: Callable[[], object] = lambda: None

    async def find(
        self, known: Known, conditions: Conditions, *, measured: str | None = None
    ) -> LhpAnswer | None:
        await self.waiting()
        return await super().find(known, conditions, measured=measured)

    def check_host(self, host: Host) -> None:
        self.telling()


def question(
    prefer: str = "fastest",
    *,
    waiting: Callable[[], Awaitable[object]] = at_once,
    telling: Callable[[], object] = lambda: None,
) -> Question:
    asked = Question.parse(
        dims="5,6",
        workload="linear",
        fixed_parameters={},
        prefer=prefer,  # type: ignore[arg-type]
        effort="quick",
        max_growth=0.125,
    )
    assert isinstance(asked, Question)
    return dataclasses.replace(asked, waiting=waiting, telling=telling)


def ask(services: Services, asked: Question) -> asyncio.Task[LhpAnswer]:
    """The answer of one who waits for it, and is never told of the sweep instead."""

    async def wait() -> LhpAnswer:
        answer = await services.asking.ask(asked, Where(), wait_s=60)
        assert isinstance(answer, LhpAnswer)
        return answer

    return asyncio.create_task(wait())


async def test_questions_that_one_sweep_answers_share_it_to_its_end(
    services: Services, sqlite_worker: Worker, waits: Waits
) -> None:
    """Also if it ends just as they come."""
    nearest = ask(services, question("nearest"))
    sweep = await sqlite_worker.take()
    await waits.begun.acquire()

    def finish() -> None:
        if not sqlite_worker.store.get_sweep(sweep.id).state.is_final:
            sqlite_worker.finish(sweep, stairs(8))

    another = ask(services, question("nearest", telling=finish))
    await waits.begun.acquire()
    finish()
    # From (5,6) the window reaches 37 and 38; every multiple of 8 is faster than (5,6).
    assert (await nearest).lhp == [8, 8]
    assert [each.id for each in sqlite_worker.store.list_sweeps().items] == [sweep.id]
    assert (await another).lhp == [8, 8]


async def test_who_asked_before_the_platform_changed_is_answered_from_the_new_one(
    services: Services, sqlite_worker: Worker, waits: Waits
) -> None:
    before = ask(services, question())
    sweep = await sqlite_worker.take()
    await waits.begun.acquire()
    # The worker starts again on another platform, and measures the sweep there.
    sqlite_worker.store.register_host(HOST, OTHER_PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
    after = ask(services, question())
    await waits.begun.acquire()
    sqlite_worker.finish(sweep, stairs(8), platform=OTHER_PLATFORM)
    # Both asked about the host, whatever platform it is on. Asked again, it would say the same.
    for asked in (after, before):
        answer = await asked
        assert (answer.lhp, answer.platform) == ([8, 8], OTHER_PLATFORM.key)
    assert [each.id for each in sqlite_worker.store.list_sweeps().items] == [sweep.id]


async def test_what_turns_out_to_be_known_of_another_platform_is_measured_on_this_one(
    services: Services,
    sqlite_worker: Worker,
    waits: Waits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, may_look = asyncio.Semaphore(0), asyncio.Semaphore(1)

    async def take_turn() -> None:
        looks.release()
        await may_look.acquire()

    before = ask(services, question(waiting=take_turn))
    for _ in range(2):  # in memory, and once more when that is fresh
        await looks.acquire()
    # Meanwhile a curve comes from elsewhere, and then the host starts again on another platform.
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    await services.known.refresh()
    sqlite_worker.store.register_host(HOST, OTHER_PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
    await services.known.refresh()
    chosen = asyncio.Event()
    choose = services.hosts.choose

    async def tell_when_chosen(where: Where, **options: Any) -> Host:
        host = await choose(where, **options)
        chosen.set()  # what follows, up to waiting for the same sweep, needs no turn of the loop
        return host

    monkeypatch.setattr(services.hosts, "choose", tell_when_chosen)
    after = ask(services, question())
    await chosen.wait()
    for _ in range(2):
        may_look.release()
    answer = await before
    assert (answer.lhp, answer.platform) == ([8, 8], PLATFORM.key)
    sqlite_worker.finish(await sqlite_worker.take(), stairs(16), platform=OTHER_PLATFORM)
    answer = await after
    assert (answer.lhp, answer.platform) == ([16, 16], OTHER_PLATFORM.key)


async def test_who_asks_again_for_what_is_queued_has_nothing_checked_again(
    services: Services, sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that poll after a 202 cost little, whatever is stored."""
    checked: list[str] = []
    find_awaited = services.queue.find_awaited

    async def note_search(spec_key: str, host: str) -> Sweep | None:
        checked.append("searched")
        return await find_awaited(spec_key, host)

    monkeypatch.setattr(services.queue, "find_awaited", note_search)

    async def ask_soon(name: str) -> Sweep | LhpAnswer:
        asked = question(telling=lambda: checked.append(name))
        return await services.asking.ask(asked, Where(), wait_s=0)

    first, again = [await ask_soon(name) for name in ("first", "again")]
    assert isinstance(first, Sweep) and isinstance(again, Sweep)
    assert again.id == first.id
    assert checked == ["searched", "first"]
    # Nobody waits while it ends. Who asks then gets the answer; a new sweep isn't needed.
    sqlite_worker.finish(await sqlite_worker.take(), stairs(8))
    answer = await ask_soon("last")
    assert isinstance(answer, LhpAnswer)
    assert answer.lhp == [8, 8]
    assert checked == ["searched", "first"]


async def test_a_sweep_that_was_cancelled_while_nobody_waited_is_measured_anew(
    services: Services, sqlite_worker: Worker
) -> None:
    first = await services.asking.ask(question(), Where(), wait_s=0)
    assert isinstance(first, Sweep)
    sqlite_worker.store.request_cancel(first.id)
    second = await services.asking.ask(question(), Where(), wait_s=0)
    assert isinstance(second, Sweep)
    assert second.id != first.id
