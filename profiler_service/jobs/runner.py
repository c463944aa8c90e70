"""Runs a host's jobs in the worker."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer

from profiler_service.errors import StoreUnavailableError
from profiler_service.jobs import engine as engines
from profiler_service.jobs.engine import (
    APPLICATION,
    APPLICATION_VERSION,
    SCHEMA,
    STEP,
    WORKFLOW,
    create_client,
    create_engine,
    engine_errors,
    engine_url,
    log_through_logging,
    queue_name,
    to_text,
)
from profiler_service.settings import Settings

logger = logging.getLogger(__name__)

STEP_S = 0.25
"""Batches that are shorter share a step of the engine, which writes each of its steps down."""
POLLING_INTERVAL_S = 0.05
LEAVE_S = 0.5


class _LeaveJob(BaseException):
    """Ends a job's thread so that the engine doesn't notice. The job stays and can be resumed."""


@contextlib.contextmanager
def run_jobs(settings: Settings, run_batch: Callable[[str], bool]) -> Iterator[Collection[str]]:
    """In this context, the sweeps enqueued for `settings.host` run, one after the other.

    Gives the set of sweep ids that run at the moment, for `JobClient.reconcile`. Calls
    `run_batch(sweep_id)` in a thread until it returns True (the sweep has ended). Jobs that an
    earlier process left unfinished come first.

    If `run_batch` raises StoreUnavailableError, or something that is no Exception (such as
    SystemExit), the job stays: `reconcile` or the next process resumes it. Any other Exception
    ends the job, and `reconcile` starts it again if the sweep is still open. To leave, make
    `run_batch` raise SystemExit: leaving waits a short time for the current job. `upgrade` must
    have run before. Raises StoreUnavailableError.
    """
    log_through_logging()
    url = engine_url(settings.database_url)
    engine, files = create_engine(settings)
    config: DBOSConfig = {
        "name": APPLICATION,
        "application_version": APPLICATION_VERSION,
        "executor_id": settings.host,
        "system_database_url": to_text(url),
        "system_database_engine": engine,
        "dbos_system_schema": SCHEMA,
        "serializer": DBOSPortableJSONSerializer(),
        "run_migrations": False,
        "enable_otlp": False,
        "log_level": "ERROR",
    }
    running: set[str] = set()
    busy = threading.Lock()
    try:
        with engine_errors(url):
            # Before the launch, because the engine looks for new queues only once a second.
            client = create_client(engine)
            try:
                client.register_queue(
                    queue_name(settings.host),
                    worker_concurrency=1,
                    polling_interval_sec=POLLING_INTERVAL_S,
                )
            finally:
                client.destroy()
            DBOS(config=config)

            @DBOS.step(name=STEP)
            def step(sweep_id: str) -> bool:
                try:
                    if files is not None:
                        files.check()
                    ends_at_s = time.monotonic() + STEP_S
                    while not (has_ended := run_batch(sweep_id)):
                        if time.monotonic() >= ends_at_s:
                            break
                    return has_ended
                except StoreUnavailableError as error:
                    logger.warning("sweep %s is put off: %s", sweep_id, error)
                    raise _LeaveJob from error

            @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=engines.MAX_RESTARTS)
            def run_sweep(sweep_id: str) -> None:
                with busy:
                    running.add(sweep_id)
                    try:
                        while not step(sweep_id):
                            pass
                    finally:
                        running.discard(sweep_id)

            DBOS.listen_queues([queue_name(settings.host)])
            DBOS.launch()
        yield running
    finally:
        busy.acquire(timeout=LEAVE_S)
        # From here on, the engine's threads may report closed connections. That is no error.
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        DBOS.destroy(destroy_registry=True)
        engine.dispose()
