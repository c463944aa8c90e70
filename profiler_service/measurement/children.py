"""The measuring children of one device, numbered from 0.

What a process has of its own, such as the pages of a library's buffers, changes latencies by some
tenths of a percent. So pairs are confirmed in more than one process. Only one of them measures at a
time. Never imports torch.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from profiler_service.errors import (
    DeviceLostError,
    LhpError,
    MeasurementFailedError,
    PlatformMismatchError,
)
from profiler_service.measurement.child_process import ChildProcess
from profiler_service.measurement.exchange import Ready, Setup

logger = logging.getLogger(__name__)


class Children:
    """Child processes with the same setup; those that end are replaced. Not safe to share.

    Creating it waits for the first child alone. The others get ready meanwhile, in threads: see
    `wait`. Raises what `ChildProcess` raises for the first one.
    """

    def __init__(self, setup: Setup, *, count: int = 1) -> None:
        self._running: dict[int, ChildProcess] = {0: ChildProcess(setup)}
        self.ready: Ready = self._running[0].ready
        # Only this device from now on: if it were lost, `auto` would choose another one.
        self._setup = replace(setup, device=self.ready.platform.device)
        self._count = count
        self._pool = ThreadPoolExecutor(max(1, count - 1), thread_name_prefix="measuring-child")
        self._starting: dict[int, Future[ChildProcess]] = {
            number: self._pool.submit(ChildProcess, self._setup) for number in range(1, count)
        }

    def get(self, number: int) -> tuple[int, ChildProcess]:
        """A running child, and its number: `number` modulo their count.

        It is child 0 as long as the wanted one isn't ready, or if it could not be started: nothing
        waits for a second child.

        Raises PlatformMismatchError if a new child has another platform or timing protocol;
        DeviceLostError, MeasurementChildDiedError if child 0 can't be started again.
        """
        number %= self._count
        if number in self._starting:
            if not self._starting[number].done():
                number = 0
            else:
                self._take_started(number)
        if number not in self._running and number > 0:
            # One that has died gets ready again beside the measuring.
            self._starting[number] = self._pool.submit(ChildProcess, self._setup)
            number = 0
        if number not in self._running:
            self._running[0] = self._check(self._restart())
        return number, self._running[number]

    def wait(self) -> None:
        """Returns when all children are ready, or have failed to start.

        Meanwhile they use processors and caches, so that what is measured beside them is noisy.
        """
        concurrent.futures.wait(self._starting.values())

    def find_running(self, number: int) -> ChildProcess | None:
        """The child of that number if it runs."""
        return self._running.get(number)

    def drop(self, number: int) -> None:
        """Ends the child of that number; the next `get` starts a new one."""
        if (child := self._running.pop(number, None)) is not None:
            child.close()

    def stop(self) -> None:
        """Makes every child stop after the call under way. Safe to call from other threads."""
        for child in [*self._running.values()]:
            child.block.stop = True

    def close(self) -> None:
        """Ends all children. A later `get` starts a new one."""
        for number in [*self._running]:
            self.drop(number)
        for starting in self._starting.values():
            with contextlib.suppress(LhpError):
                starting.result().close()
        self._starting.clear()

    def _restart(self) -> ChildProcess:
        try:
            return ChildProcess(self._setup)
        except MeasurementFailedError as error:
            raise DeviceLostError(
                f"the measuring process can't be started again: {error}", hint=error.hint
            ) from error

    def _take_started(self, number: int) -> None:
        try:
            child = self._starting.pop(number).result()
        except LhpError as error:
            logger.warning("measuring goes on with fewer processes: %s", error)
            self._count = number
        else:
            self._running[number] = self._check(child)

    def _check(self, child: ChildProcess) -> ChildProcess:
        mine, theirs = self.ready, child.ready
        if (mine.platform, mine.protocol, mine.dtypes, mine.backends) != (
            theirs.platform,
            theirs.protocol,
            theirs.dtypes,
            theirs.backends,
        ):
            # Not kept, because the next call would assume that it is on the same platform.
            child.close()
            raise PlatformMismatchError(
                "the platform changed while it was measured",
                hint="start the worker again: it registers the new platform",
            )
        return child
