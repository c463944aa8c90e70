"""What a service knows about its own worker: the process that measures on the same machine for it.

The supervisor of the process fills it in. Knows no process and no HTTP.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from profiler_service.errors import NotReadyError

WorkerState = Literal[
    "starting", "measuring", "paused", "standing by", "suspended", "restarting", "unable"
]


@dataclass(frozen=True, kw_only=True)
class OwnWorker:
    """The service's own worker, and its state.

    - `starting`: the process runs, and will register its host.
    - `measuring`: it has registered, and takes sweeps.
    - `paused`: it can't measure now: its device is lost, or its measuring process can't be started;
      it tries again by itself.
    - `standing by`: another worker measures on the device, or under the host's name; this one takes
      over when that ends.
    - `suspended`: somebody has stopped the process (SIGSTOP); it does nothing.
    - `restarting`: it has ended, or couldn't be started; it is started again at `next_try_at`.
    - `unable`: it can't run as the machine is set up, and says why; tried again, but less often.
    """

    state: WorkerState
    since: dt.datetime
    """When it came into this state, UTC."""
    pid: int | None = None
    num_ends: int = 0
    """How often it has ended in a row, without having run for a while in between."""
    last_exit: str = ""
    """How it last ended: `SIGKILL`, `exit code 75: …`. Empty if it never ended."""
    reason: str = ""
    """Its own reason for its state: why it pauses, stands by, or can't run. May be empty."""
    next_try_at: dt.datetime | None = None
    """When it is started again, UTC; None while it runs."""

    @property
    def is_on_its_way(self) -> bool:
        """Whether waiting for it makes sense, because nobody has to do anything first."""
        return self.state not in ("suspended", "unable")

    def describe(self, *, is_present: bool = True) -> str:
        """What is wrong, as the end of a sentence about the worker; empty if nothing is.

        `is_present` is whether its host's heartbeat was heard lately.
        """
        if self.state == "measuring":
            return "" if is_present else f"runs (process {self.pid}), but is silent"
        if self.state == "paused":
            return f"can't measure since {_clock(self.since)}, and tries again: {self.reason}"
        if self.state == "standing by":
            return f"waits for another worker to end: {self.reason}"
        if self.state == "suspended":
            return f"was suspended (process {self.pid}) and does nothing since {_clock(self.since)}"
        if self.state == "unable":
            return f"can't run: {self.reason or self.last_exit}; {self._next_try()}"
        if self.state == "restarting":
            return f"{self._ends()}; {self._next_try()}"
        before = f"; before, it {self._ends()}" if self.num_ends else ""
        return f"is starting since {_clock(self.since)}{before}"

    @property
    def hint(self) -> str:
        """What to do about it."""
        if self.state == "suspended":
            return f"`kill -CONT {self.pid}` lets it go on"
        if self.state == "measuring":
            return "does it reach the database? see the service's log"
        if self.state == "unable":
            return "correct that; the service needn't be started again"
        if self.last_exit == "SIGKILL":
            return (
                "nothing, unless it goes on; most likely the kernel kills it because memory runs"
                " out: see `dmesg`"
            )
        if self.state == "starting" and not self.num_ends:
            return "it takes some seconds to start; see the service's log if it takes longer"
        return "nothing, unless it goes on; then see the service's log"

    def _ends(self) -> str:
        times = "" if self.num_ends == 1 else f" {self.num_ends} times in a row"
        return f"ended{times} ({self.last_exit})"

    def _next_try(self) -> str:
        assert self.next_try_at is not None
        return f"it is started again at {_clock(self.next_try_at)}"


FindOwnWorker = Callable[[], OwnWorker]


def check_measuring(worker: OwnWorker, *, host: str, is_present: bool) -> None:
    """Returns if sweeps of `host` are measured: by this worker, or by one that it waits for.

    `is_present` is whether the host's worker was heard of lately. Raises NotReadyError.
    """
    if not is_present or worker.state not in ("measuring", "standing by"):
        wrong = worker.describe(is_present=is_present)
        raise NotReadyError(
            f"the worker of host {host!r} {wrong}", hint=worker.hint, see="/healthz"
        )


def _clock(moment: dt.datetime) -> str:
    return f"{moment:%F %T} UTC"
