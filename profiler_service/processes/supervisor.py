"""Keeps one worker process running beside the service, and only one worker for each host.

Knows neither HTTP nor what a worker does.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from profiler_service.answering.own_worker import OwnWorker
from profiler_service.errors import (
    HostTakenError,
    UnknownHostError,
    WorkerAlreadyRunningError,
)
from profiler_service.processes.exit_codes import CANNOT_RUN, TRY_LATER
from profiler_service.processes.keeper_line import Tell, Told, hear
from profiler_service.settings import Settings

logger = logging.getLogger(__name__)

WORKER_GRACE_S = 10.0
"""How long the worker may take to finish and keep its batch before it is killed."""
OTHER_WORKER_POLL_S = 5.0
"""How often to look whether another worker of this host has ended."""


@dataclass(frozen=True, kw_only=True)
class Pauses:
    """Pauses before a worker is started again: each is twice the one before, up to a longest."""

    first_s: float
    longest_s: float

    def after(self, num_ends: int) -> float:
        """The pause after so many ends in a row (1 or more), seconds."""
        # So many doublings exceed any limit, and more would overflow.
        return min(self.longest_s, self.first_s * 2.0 ** min(num_ends - 1, 30))


RESTART_PAUSES = Pauses(first_s=1, longest_s=30)
"""Pauses after an end for which the next start may succeed: a signal, a crash, a database that is
away."""
UNABLE_PAUSES = Pauses(first_s=60, longest_s=600)
"""After `CANNOT_RUN`. Even that may pass while the service runs: somebody installs a driver or a
missing package, or another user's job frees the GPU's memory. A try takes seconds, and there is no
measurement here that it could disturb."""


class WorkerKeeper:
    """Keeps one worker process running until told to stop: always starts it again when it ends.

    A worker that ends, or can't be started, is started again after one of `restart_pauses`. One
    that ends with `CANNOT_RUN` says that the machine isn't set up for it, and gets one of
    `unable_pauses`. After a worker that ran for `healthy_s`, the first pause is used again.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        restart_pauses: Pauses = RESTART_PAUSES,
        unable_pauses: Pauses = UNABLE_PAUSES,
        healthy_s: float = 60.0,
    ) -> None:
        self._command = list(command)
        self._restart_pauses = restart_pauses
        self._unable_pauses = unable_pauses
        self._healthy_s = healthy_s
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._worker = OwnWorker(state="starting", since=_now())
        self._suspended_since: dt.datetime | None = None
        self._thread = threading.Thread(target=self._keep, name="worker-keeper")

    @property
    def worker(self) -> OwnWorker:
        """The worker's state now. Never waits."""
        worker = self._worker
        if worker.pid is None or not _is_suspended(worker.pid):
            self._suspended_since = None
            return worker
        self._suspended_since = self._suspended_since or _now()
        return replace(worker, state="suspended", since=self._suspended_since)

    def start(self) -> None:
        """Starts the first worker."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Asks the worker to end, and starts no other one. Returns at once."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                self._process.terminate()
                # A suspended process ends only when it may go on.
                self._process.send_signal(signal.SIGCONT)

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
        while not self._stopping.is_set():
            started_s = time.monotonic()
            code, reason = None, ""
            try:
                code, reason = self._run_worker()
                last_exit = _describe_exit(code)
            except Exception as error:  # noqa: BLE001  nothing may end this thread
                # OSError, most likely: no memory or no process number is left at this moment.
                last_exit = f"it couldn't be started: {error}"
            if self._stopping.is_set():
                return
            is_healthy = time.monotonic() - started_s >= self._healthy_s
            num_ends = 1 if is_healthy else self._worker.num_ends + 1
            pauses = self._unable_pauses if code == CANNOT_RUN else self._restart_pauses
            pause_s = pauses.after(num_ends)
            self._worker = replace(
                self._worker,
                state="unable" if code == CANNOT_RUN else "restarting",
                since=_now(),
                pid=None,
                num_ends=num_ends,
                last_exit=f"{last_exit}: {reason}" if reason else last_exit,
                reason=reason,
                next_try_at=_now() + dt.timedelta(seconds=pause_s),
            )
            _log_end(self._worker, code, pause_s)
            self._stopping.wait(pause_s)

    def _run_worker(self) -> tuple[int, str]:
        """The exit code of a worker, once it has ended, and why it says it has ended.

        Meanwhile, records the states that it reports.
        """
        reason = ""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, self._lock:
                if self._stopping.is_set():
                    return 0, reason
                # The worker gets its own session, so that Ctrl-C reaches only this process.
                process = self._process = subprocess.Popen(
                    self._command, stdin=theirs.fileno(), start_new_session=True
                )
            self._worker = replace(
                self._worker,
                state="starting",
                since=_now(),
                pid=process.pid,
                reason="",
                next_try_at=None,
            )
            with process:
                for told in hear(ours):
                    if told.state == "ending":
                        reason = told.reason
                    else:
                        self._worker = replace(
                            self._worker, state=told.state, since=_now(), reason=told.reason
                        )
                return process.wait(), reason


def _log_end(worker: OwnWorker, code: int | None, pause_s: float) -> None:
    if code == CANNOT_RUN:
        logger.error(
            "the worker can't run (see above): this machine doesn't measure; stored curves are"
            " still served; trying again in %g s",
            pause_s,
        )
    elif code == TRY_LATER:
        logger.warning("the worker can't run now (see above): trying again in %g s", pause_s)
    else:
        logger.warning(
            "the worker ended unexpectedly (%s): starting it again in %g s (end %d in a row)",
            worker.last_exit,
            pause_s,
            worker.num_ends,
        )


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _is_suspended(pid: int) -> bool:
    """Whether somebody has stopped the process, with SIGSTOP or a debugger."""
    try:
        # The name, in brackets, may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except OSError:
        return False


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def run_worker_alone(settings: Settings, run: Callable[[Settings], None], tell: Tell) -> None:
    """Calls `run`, the worker, as soon as no other worker measures here; then returns.

    If another one runs, logs and tells that once. Raises what `run` raises.
    """
    told = ""
    while True:
        try:
            run(settings)
        except WorkerAlreadyRunningError as error:
            if str(error) != told:
                taken = isinstance(error, HostTakenError)
                advice = error.hint if taken else _describe_other_worker(settings, error.host)
                logger.warning("%s: %s", error, advice)
                tell(Told(state="standing by", reason=f"{error}: {advice}"))
            told = str(error)
        else:
            return
        time.sleep(OTHER_WORKER_POLL_S)


def _describe_other_worker(settings: Settings, other_host: str) -> str:
    """Says whether the worker that already runs measures for the service on this database."""
    from profiler_service.answering.host_states import is_present
    from profiler_service.storage.store import Store

    if other_host not in ("", settings.host):
        # Our own host may still seem present: its worker has just ended.
        return f"nothing new is measured for host {settings.host!r} here until it ends"
    with contextlib.closing(Store.open(settings.database_url)) as store:
        try:
            present = is_present(store.get_host(settings.host), presence_s=settings.presence_s)
        except UnknownHostError:
            present = False
    if present:
        return "this service uses it"
    return (
        f"unless it is just starting, nothing new is measured for host {settings.host!r} here"
        " until it ends"
    )
