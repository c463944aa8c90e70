"""The objects that answer questions: made when the service starts, closed when it ends. No HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from profiler_service.answering.admission import Admission
from profiler_service.answering.ask import Asking
from profiler_service.answering.canaries import CANARY_WORKLOAD, CanaryWatch, list_canaries
from profiler_service.answering.database_watch import DatabaseWatch
from profiler_service.answering.fleet_metrics import MAX_HOSTS, FleetMetrics
from profiler_service.answering.hosts import HostDirectory
from profiler_service.answering.known import Known
from profiler_service.answering.own_sweeps import OwnSweeps
from profiler_service.answering.own_worker import FindOwnWorker, check_measuring
from profiler_service.answering.platforms import PlatformsAsking
from profiler_service.answering.predictions import Predictions
from profiler_service.answering.queue import MAX_FOLLOWERS, SweepQueue
from profiler_service.answering.race_history import RaceHistory
from profiler_service.answering.race_latencies import RaceLatencies
from profiler_service.answering.shutdown import Shutdown
from profiler_service.answering.tokens import KnownTokens
from profiler_service.errors import NotReadyError, StoreError
from profiler_service.kinds import workload_kinds
from profiler_service.settings import Settings
from profiler_service.storage.store import Store, Sweep

logger = logging.getLogger(__name__)

REFRESH_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Services:
    """What routes call, from the start of the service to its end."""

    settings: Settings
    store: Store
    known: Known
    hosts: HostDirectory
    admission: Admission
    queue: SweepQueue
    predictions: Predictions
    asking: PlatformsAsking
    own_sweeps: OwnSweeps
    races: RaceHistory
    race_latencies: RaceLatencies
    tokens: KnownTokens
    database: DatabaseWatch
    fleet_metrics: FleetMetrics
    canaries: CanaryWatch
    shutdown: Shutdown
    own_worker: FindOwnWorker | None
    """The state of this service's own worker; None if it has none. It isn't ready without it."""

    async def check_ready(self) -> None:
        """Returns if questions can be answered, measured and kept. Asks the store.

        Raises NotReadyError, which says what the service waits for.
        """
        try:
            await self.database.check()
            own_is_present = self.own_worker is None or await asyncio.to_thread(
                self.hosts.is_own_present
            )
        except StoreError as error:
            raise NotReadyError(f"waiting for the database: {error}", hint=error.hint) from error
        if self.own_worker is not None:
            check_measuring(self.own_worker(), host=self.settings.host, is_present=own_is_present)


@contextlib.asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    shutdown: Shutdown,
    store: Store | None = None,
    enqueue: Callable[[Sweep], None] | None = None,
    own_worker: FindOwnWorker | None = None,
) -> AsyncIterator[Services]:
    """The services, until the context ends. Raises StoreError.

    Args:
        settings: the operator's settings.
        shutdown: tells the services that the service is about to end.
        store: the store to use. If None, the one at `settings.database_url` is opened, and
            closed at the end.
        enqueue: gives a sweep to the host that measures it. May be called more than once for
            the same sweep. If None, the job engine's is used, and its files are watched, too.
        own_worker: tells how the worker is that belongs to the service, and measures for this
            machine's own host. None if there is no such worker.
    """
    workload_kinds()  # logs now which kinds are left out, and not at the first question
    async with contextlib.AsyncExitStack() as stack:
        if store is None:
            store = await asyncio.to_thread(
                Store.open, settings.database_url, timeout_s=settings.database_timeout_s
            )
            stack.push_async_callback(asyncio.to_thread, store.close)
        checks: list[Callable[[], None]] = [store.check_usable]
        if enqueue is None:
            # Slow to import, and not needed by callers that give their own `enqueue`.
            from profiler_service.jobs import JobClient

            client = await asyncio.to_thread(JobClient, settings)
            stack.push_async_callback(asyncio.to_thread, client.close)
            enqueue = client.enqueue
            checks.append(client.check_usable)
        known = Known(store, max_cached_points=settings.max_cached_points)
        await known.refresh()
        hosts = HostDirectory(store, known.curves, settings, shutdown, own_worker)
        stack.push_async_callback(hosts.close)
        database = DatabaseWatch(lambda: _run_all(checks), answer_s=settings.database_answer_s)
        await stack.enter_async_context(database.running())
        admission = Admission(store, settings, refuse_unless_usable=database.refuse_unless_usable)
        predictions = Predictions(store, is_on=settings.learn)
        queue = SweepQueue(
            store,
            enqueue,
            max_queued=settings.max_queued,
            max_queued_per_client=settings.max_queued_per_client,
            max_followers_per_token=settings.share_of_client(MAX_FOLLOWERS),
            predictions=predictions,
        )
        stack.push_async_callback(queue.close)
        tokens = KnownTokens(store, is_exposed=settings.is_exposed)
        await stack.enter_async_context(tokens.running())
        own_sweeps = OwnSweeps(store, admission)
        await stack.enter_async_context(own_sweeps.running())
        races = RaceHistory(store)
        stack.callback(races.close)
        points = list_canaries(settings)
        canaries = CanaryWatch(store, points, tolerance=settings.canary_tolerance)
        fleet_metrics = FleetMetrics(
            functools.partial(
                store.read_fleet,
                kinds=[*workload_kinds()],
                max_hosts=MAX_HOSTS,
                canaries=[(CANARY_WORKLOAD.key, dims) for dims in points],
            ),
            is_database_up=lambda: database.problem is None,
            presence_s=settings.presence_s,
            load_curve=store.load_curve,
            compare_hosts=canaries.compare,
        )
        stack.push_async_callback(fleet_metrics.close)
        refreshing = asyncio.create_task(_refresh_forever(known))
        stack.push_async_callback(_end, refreshing)
        yield Services(
            settings=settings,
            store=store,
            known=known,
            hosts=hosts,
            admission=admission,
            queue=queue,
            predictions=predictions,
            asking=PlatformsAsking(
                Asking(
                    known=known,
                    hosts=hosts,
                    admission=admission,
                    queue=queue,
                    shutdown=shutdown,
                    beyond_wait_s=settings.longest_answer_s,
                ),
                known,
                hosts,
            ),
            own_sweeps=own_sweeps,
            races=races,
            race_latencies=RaceLatencies(store.load_curve),
            tokens=tokens,
            database=database,
            fleet_metrics=fleet_metrics,
            canaries=canaries,
            shutdown=shutdown,
            own_worker=own_worker,
        )


def _run_all(checks: list[Callable[[], None]]) -> None:
    for check in checks:
        check()


async def _refresh_forever(known: Known) -> None:
    """Refreshes `known` at intervals.

    While the database is away, questions are answered from memory, and /readyz says so.
    """
    away = False
    while True:
        await asyncio.sleep(REFRESH_S)
        try:
            await known.refresh()
        except StoreError as error:
            if not away:
                logger.warning("answers may be out of date: %s", error)
            away = True
        except Exception:
            # If the refresher ended here, answers would stay old for ever without a sign.
            if not away:
                logger.exception("answers may be out of date")
            away = True
        else:
            away = False


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
