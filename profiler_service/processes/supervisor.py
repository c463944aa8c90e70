"""Keeps one worker process running beside the service, and only one worker for each host.

Knows neither HTTP nor what a worker does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from profiler_service.errors import UnknownHostError, WorkerAlreadyRunningError
from profiler_service.processes.exit_codes import CANNOT_RUN, TRY_LATER
from profiler_service.settings import Settings

logger = logging.getLogger(__name__)

MAX_DELAY_S = 30.0
"""Longest pause before a worker is started again."""
WORKER_GRACE_S = 10.0
"""How long the worker may take to finish and keep its batch before it is killed."""
OTHER_WORKER_POLL_S = 5.0
"""How often to look whether another worker of this host has ended."""


class WorkerKeeper:
    """Keeps one worker process running until told to stop.

    A worker that ends unexpectedly is started again after 1, 2, 4, … seconds, at most
    `max_restarts` times in a row. If a worker ran for `healthy_s`, the count starts at 0 again. A
    worker that ends with `CANNOT_RUN` is not started again. A worker that ends with `TRY_LATER`
    is started again without a limit. Both have logged the reason.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        first_delay_s: float = 1.0,
        max_restarts: int = 8,
        healthy_s: float = 60.0,
    ) -> None:
        self._command = list(command)
        self._first_delay_s = first_delay_s
        self._max_restarts = max_restarts
        self._healthy_s = healthy_s
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="worker-keeper")

    def start(self) -> None:
        """Starts the first worker."""
        self._thread.start()

    def join(self) -> None:
        """Returns when no further worker will be started."""
        self._thread.join()

    def ask_to_stop(self) -> None:
        """Asks the worker to end, and starts no other one. Returns at once."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                self._process.terminate()

    def stop(self) -> None:
        """Ends the worker: asks it first, and kills it after `WORKER_GRACE_S`."""
        self.ask_to_stop()
        process = self._process
        if process is not None:
            try:
                process.wait(WORKER_GRACE_S)
            except subprocess.TimeoutExpired:
                logger.warning("the worker didn't end in %g s: killing it", WORKER_GRACE_S)
                process.kill()
        self._thread.join()

    def _keep(self) -> None:
        restarts = postponed = 0
        while True:
            started = time.monotonic()
            with self._lock:
                if self._stopping.is_set():
                    return
                # The worker gets its own session, so that Ctrl-C reaches only this process. The
                # pipe closes whenever this process dies, so that no worker stays behind.
                process = self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, start_new_session=True
                )
            with process:
                code = process.wait()
            if self._stopping.is_set():
                return
            if code == CANNOT_RUN:
                logger.error(
                    "the worker can't run (see above): this machine doesn't measure;"
                    " stored curves are still served"
                )
                return
            if time.monotonic() - started >= self._healthy_s:
                restarts = postponed = 0
            if code == TRY_LATER:
                if not postponed:
                    logger.warning(
                        "the worker can't run now (see above): trying again at intervals"
                    )
                self._stopping.wait(self._delay_s(postponed))
                postponed += 1
                continue
            if restarts == self._max_restarts:
                logger.error("the worker keeps ending: giving up after %d restarts", restarts)
                return
            delay_s = self._delay_s(restarts)
            restarts += 1
            logger.warning(
                "the worker ended unexpectedly (%s): starting it again in %g s (restart %d of %d)",
                _describe_exit(code),
                delay_s,
                restarts,
                self._max_restarts,
            )
            self._stopping.wait(delay_s)

    def _delay_s(self, num_before: int) -> float:
        # So many doublings exceed any limit, and more would overflow.
        return min(MAX_DELAY_S, self._first_delay_s * 2.0 ** min(num_before, 30))


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def run_worker_alone(settings: Settings, run: Callable[[Settings], None]) -> None:
    """Calls `run`, the worker, as soon as no other worker of this host runs; then returns.

    If another one runs, logs that once. Raises what `run` raises.
    """
    told = False
    while True:
        try:
            run(settings)
        except WorkerAlreadyRunningError as error:
            if not told:
                logger.warning("%s: %s", error, _describe_other_worker(settings))
            told = True
        else:
            return
        time.sleep(OTHER_WORKER_POLL_S)


def _describe_other_worker(settings: Settings) -> str:
    """Says whether the worker that already runs measures for the service on this database."""
    from profiler_service.answering.resources import is_present
    from profiler_service.storage.store import Store

    with contextlib.closing(Store.open(settings.database_url)) as store:
        try:
            present = is_present(store.get_host(settings.host), presence_s=settings.presence_s)
        except UnknownHostError:
            present = False
    if present:
        return "this service uses it"
    return (
        "it measures for another database, or is just starting; if it measures for another,"
        " nothing new is measured here until it ends"
    )


def end_when_stdin_closes() -> None:
    """Sends this process SIGTERM when its standard input closes, because its parent has ended."""

    def watch() -> None:
        # os.read, because sys.stdin's lock can't be released when the interpreter exits.
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="stdin-watch", daemon=True).start()
