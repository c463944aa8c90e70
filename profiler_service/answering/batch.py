"""Asks many questions together: equal ones once, and each with its own outcome.

Knows no HTTP. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from profiler_service.answering.lhp import LhpQuestion
from profiler_service.answering.platforms import PlatformsAsking
from profiler_service.answering.questions import Where
from profiler_service.errors import LhpError, StoreUnavailableError
from profiler_service.storage.store import Sweep
from profiler_service.wire import LhpAnswer

AT_A_TIME = 8
"""So many questions of one request are looked up or queued at the same time. All of them wait
together for what is measured."""
TURN_S = 30.0
"""How much longer than `wait_s` it may take until it is a question's turn."""

Asked = tuple[LhpQuestion, Where]
Outcome = LhpAnswer | Sweep | LhpError


class _Turn:
    """One of the turns of a semaphore. It ends once, however often it is ended."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._has_ended = False

    def end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._turns.release()


async def ask_all(
    asking: PlatformsAsking, questions: Sequence[Asked], *, wait_s: float, client: str | None = None
) -> list[Outcome]:
    """The outcome of each question, in their order: as `Asking.ask`, with errors as values.

    All of them wait until the same moment. The time that the database may take counts from a
    question's own turn. A defect of the service is raised.
    """
    turns = asyncio.Semaphore(AT_A_TIME)
    deadline_s = time.monotonic() + wait_s

    async def ask(question: LhpQuestion, where: Where) -> Outcome:
        await turns.acquire()
        turn = _Turn(turns)
        left_s = deadline_s - time.monotonic()
        try:
            if left_s < -TURN_S:
                raise StoreUnavailableError(
                    f"other questions of the request took more than {TURN_S:g} s to look up",
                    hint="ask this one again later, or fewer at a time",
                )
            return await asking.ask(
                question, where, wait_s=max(0.0, left_s), client=client, when_queued=turn.end
            )
        except LhpError as error:
            return error
        finally:
            turn.end()

    async with asyncio.TaskGroup() as group:
        tasks = {asked: group.create_task(ask(*asked)) for asked in dict.fromkeys(questions)}
    return [tasks[asked].result() for asked in questions]
