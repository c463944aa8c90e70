"""Whether the database answers: it has its time, however busy this process is, and no more."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from profiler_service.answering.database_watch import DatabaseWatch
from profiler_service.errors import StoreUnavailableError

pytestmark = pytest.mark.anyio

ANSWER_S = 0.5


@dataclass
class Database:
    """A database that answers once it is told to."""

    asked: threading.Event = field(default_factory=threading.Event)
    told: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        self.asked.set()
        assert self.told.wait(60)


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def watch(anyio_backend: str, database: Database) -> AsyncIterator[DatabaseWatch]:
    watch = DatabaseWatch(database.check, answer_s=ANSWER_S)
    yield watch
    database.told.set()
    watch._thread.shutdown()


async def test_one_that_never_answers_is_away_in_time(
    watch: DatabaseWatch, caplog: pytest.LogCaptureFixture
) -> None:
    began_s = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"hasn't answered for 0\.5 s"):
        await watch.check()
    assert time.monotonic() - began_s >= ANSWER_S
    with pytest.raises(StoreUnavailableError, match="hasn't answered"):
        watch.refuse_unless_usable()
    assert "hasn't answered" in caplog.text


async def test_one_that_answers_later_is_there_again(
    watch: DatabaseWatch, database: Database
) -> None:
    with pytest.raises(StoreUnavailableError):
        await watch.check()
    database.told.set()
    await watch.check()
    watch.refuse_unless_usable()


async def test_time_in_which_the_process_stood_still_is_not_the_databases(
    watch: DatabaseWatch, database: Database
) -> None:
    """The collector of garbage may stop all threads; here, the event loop stands still."""
    checking = asyncio.create_task(watch.check())
    await asyncio.to_thread(database.asked.wait)
    time.sleep(2 * ANSWER_S)
    # It has the rest of its time, which is more than half of it.
    asyncio.get_running_loop().call_later(ANSWER_S / 4, database.told.set)
    await checking
    watch.refuse_unless_usable()
