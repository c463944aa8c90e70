"""Finds out at intervals whether the database can be used, and says so in the log.

Knows no HTTP. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor

from profiler_service.errors import StoreError, StoreUnavailableError

logger = logging.getLogger(__name__)

CHECK_S = 2.0
"""How often to look."""
PARTS = 20
"""Parts in which an answer is waited for."""


class DatabaseWatch:
    """Whether the database answers, and whether something could be kept in it.

    The checks run in a thread of their own: a database that hangs holds up this one, and no other.
    """

    def __init__(self, check: Callable[[], None], *, answer_s: float) -> None:
        """`check` asks the database, and raises StoreError if it can't be used.

        A database that needs longer than `answer_s` for that can't be used either.
        """
        self._check = check
        self._answer_s = answer_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database-watch")
        self._next: Future[None] | None = None
        self.problem: StoreError | None = None
        """What the last check found; None if all was well."""

    def refuse_unless_usable(self) -> None:
        """Returns if the last check was good. Raises its StoreError otherwise."""
        if self.problem is not None:
            raise self.problem.with_traceback(None)

    async def check(self) -> None:
        """Returns if the database can be used now, after `answer_s` at most. Raises StoreError.

        Those who ask at the same time share one check. Time in which this process stood still
        isn't the database's, and doesn't count: it may have been stopped, or have collected
        garbage.
        """
        if self._next is None or self._next.running() or self._next.done():
            self._next = self._thread.submit(self._check)
        checking = asyncio.wrap_future(self._next)
        checking.add_done_callback(lambda each: each.cancelled() or each.exception())
        for _ in range(PARTS):
            # However long the event loop stood still, it was in one part. The check had no more
            # of that time, and has the rest.
            if checking.done():
                break
            await asyncio.wait({checking}, timeout=self._answer_s / PARTS)
        try:
            if not checking.done():
                raise StoreUnavailableError(
                    f"the database hasn't answered for {self._answer_s:g} s",
                    hint="see whether it works; known questions are answered from memory meanwhile",
                )
            checking.result()
        except StoreError as error:
            self._note(error)
            raise
        self._note(None)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """In this context, the database is checked at intervals."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            # Not before the check under way has ended, which uses the store.
            await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def _watch(self) -> None:
        while True:
            try:
                await self.check()
            except StoreError:
                pass  # noted
            except Exception:
                logger.exception("the check of the database failed")
            await asyncio.sleep(CHECK_S)

    def _note(self, problem: StoreError | None) -> None:
        if problem is not None and str(problem) != str(self.problem):
            logger.error("%s (%s)", problem, problem.hint)
        elif problem is None and self.problem is not None:
            logger.info("the database can be used again")
        self.problem = problem
