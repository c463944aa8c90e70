"""The application: its parts put together, and taken apart at the end.

Knows no route's work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from profiler_service.answering.closing import Closing
from profiler_service.answering.crossover import CrossoverBook
from profiler_service.answering.known import AnswerBook
from profiler_service.answering.on_demand import OnDemand
from profiler_service.answering.queue import SweepDesk
from profiler_service.answering.race_history import RaceBook
from profiler_service.answering.services import Parts
from profiler_service.api import (
    crossover,
    curves,
    health,
    hosts,
    lhp,
    problems,
    races,
    sweeps,
    workloads,
)
from profiler_service.api.closing import EndRequestsQuietly
from profiler_service.api.limits import RequestLimits
from profiler_service.api.problems import install_problem_handlers
from profiler_service.distribution import find_version
from profiler_service.errors import StoreError
from profiler_service.kinds import workload_kinds
from profiler_service.settings import Settings
from profiler_service.storage.store import Store, Sweep

logger = logging.getLogger(__name__)

REFRESH_S = 0.25

DESCRIPTION = """
Measures how long matrix products take, depending on their dimensions, and answers:
**which larger dimension costs no more time than mine?**

Latency is no smooth function of a dimension: `1197 × 317` may take longer than `1200 × 320`.
A *latency hysteresis point* (LHP) is a point that no larger one beats: growing a layer to it
is free. `GET /lhp?dims=1197,317` names it. What isn't measured yet is measured when asked.

Latencies are seconds a call. Errors are `application/problem+json` (RFC 9457) with a `hint`
that says what to do.
"""

TAGS = [
    {"name": "query", "description": "The central question, and its sparse sister."},
    {"name": "sweeps", "description": "Measurements asked for, under way, and done."},
    {"name": "curves", "description": "Latency over a grid of dims: what a sweep leaves."},
    {"name": "hosts", "description": "Machines that measure, and the platforms they are."},
    {"name": "workloads", "description": "What can be measured, with its fixed parameters."},
    {"name": "problems", "description": "What can be wrong: every `type` of an error."},
    {"name": "health", "description": "For supervisors and load balancers."},
]


def create_app(
    settings: Settings,
    *,
    store: Store | None = None,
    enqueue: Callable[[Sweep], None] | None = None,
) -> FastAPI:
    """The service as an ASGI application, whose lifespan must run.

    Call `app.state.closing.begin()` before waiting for the open requests to end: those that
    wait for a measurement then answer at once, and streams end.

    Args:
        settings: what operators have set.
        store: where everything is kept; opened from `settings.database_url`, and closed,
            where none is given.
        enqueue: hands a sweep to the host that measures it. May be called more than once for
            the same sweep. Where none is given, the job engine's.
    """

    closing = Closing()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        workload_kinds()  # what is left out is named in the log now, not at the first question
        async with contextlib.AsyncExitStack() as stack:
            opened = store
            if opened is None:
                opened = await asyncio.to_thread(Store.open, settings.database_url)
                stack.push_async_callback(asyncio.to_thread, opened.close)
            hand_over = enqueue
            if hand_over is None:
                # Slow to import, and not needed by whoever brings an engine of their own.
                from profiler_service.jobs import JobClient

                client = await asyncio.to_thread(JobClient, settings)
                stack.push_async_callback(asyncio.to_thread, client.close)
                hand_over = client.enqueue
            book = AnswerBook(opened)
            await book.refresh()
            desk = SweepDesk(opened, settings, hand_over, closing)
            stack.push_async_callback(desk.close)
            app.state.parts = Parts(
                settings=settings,
                store=opened,
                book=book,
                desk=desk,
                on_demand=OnDemand(book, desk, settings, closing),
                crossovers=CrossoverBook(opened),
                races=RaceBook(opened),
                closing=closing,
            )
            refreshing = asyncio.create_task(_refresh_forever(book))
            stack.push_async_callback(_end, refreshing)
            yield

    # /docs with its script and style from here: a machine that measures may have no internet.
    app = FastAPIOffline(
        title="lhp",
        summary="Latency hysteresis points as a service.",
        description=DESCRIPTION,
        version=find_version(),
        openapi_tags=TAGS,
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
    )
    app.state.closing = closing
    app.add_middleware(RequestLimits)
    app.add_middleware(EndRequestsQuietly, closing=closing)
    for part in (lhp, crossover, sweeps, races, curves, hosts, workloads, problems, health):
        app.include_router(part.router)
    install_problem_handlers(app)
    return app


async def _refresh_forever(book: AnswerBook) -> None:
    """Keeps the book's snapshot fresh.

    While the database is away, what is known goes on being answered; /readyz tells.
    """
    away = False
    while True:
        await asyncio.sleep(REFRESH_S)
        try:
            await book.refresh()
        except StoreError as error:
            if not away:
                logger.warning("answers may be out of date: %s", error)
            away = True
        except Exception:
            # A refresher that dies would leave the answers old for ever, and nobody would know.
            if not away:
                logger.exception("answers may be out of date")
            away = True
        else:
            away = False


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
