"""The turn to measure on a device: of all processes that measure there, one at a time has it.

The device's lock (`device_lock`) belongs to a worker for as long as it lives. A user's command that
measures the user's own code has no such lock: it and the worker take a turn for each batch.

A turn is a turnstile of two locks. A process that wants a turn first takes the place at the head of
the line, then the turn, and then leaves the place to others. After its turn it must take that place
again, so of two processes that both want to measure, each gets every second turn. Each lock is a
listening Unix socket with a name in Linux's abstract namespace, as the device's lock is: the kernel
frees it however its holder ends. A process that waits is connected to the holder's socket, and the
kernel ends that connection when the lock is free. Source of the turnstile: A. Downey, The Little
Book of Semaphores, section 3.7; that of sockets: unix(7).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import math
import socket
import struct
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from profiler_service.errors import MeasurementInterruptedError
from profiler_service.measurement.identity import CPU

logger = logging.getLogger(__name__)

PATIENCE_S: Final = 60.0
"""How long a worker waits for its turn. Then it measures beside a holder that may be suspended."""
UNBROKEN_S: Final = 1.0
"""A batch is broken off for the next in line only after this time."""
_LOOK_EVERY_S: Final = 0.25
"""How often a process that waits looks whether it must stop."""
_RETRY_S: Final = 0.002
"""Pause if the holder has bound its lock, but doesn't listen yet, or has too many in line."""
_MAX_WAITING: Final = 4096
"""Those who only look are in line, too, until the lock is free."""


def never() -> bool:
    """False."""
    return False


class DeviceTurn:
    """The turn to measure on a device, or on a `partition` of it. One thread at a time may use it.

    Processes in containers with a network of their own don't see each other's turns.
    """

    def __init__(self, device_id: str, *, partition: str = "") -> None:
        """`device_id` is that of `identity.find_device_id`."""
        self._place = "this machine's processors" if device_id == CPU else f"the GPU {device_id}"
        part = f"/{hashlib.sha256(partition.encode()).hexdigest()[:16]}" if partition else ""
        self._turn = f"\0lhp-turn/{device_id}{part}"
        self._head = f"\0lhp-next-turn/{device_id}{part}"
        self._passed_over: dict[str, socket.socket] = {}
        """For each lock, a connection to the holder that was passed over, open as long as that one
        holds it."""
        weakref.finalize(self, _close_all, self._passed_over)
        self._is_mine = False

    def is_awaited(self) -> bool:
        """Whether another process waits for its turn. True, too, while this one waits for it."""
        return _find_holder(self._head) is not None

    def must_yield(self, *, under_way_s: float, num_done: int) -> bool:
        """Whether the batch under way must be broken off, because another process waits.

        `num_done` is the number of its visits that are done. In each turn, at least one is made.
        False if this process has no turn, but measures beside a holder that it has passed over: the
        others wait for that holder, so nobody would gain by it.
        """
        is_due = self._is_mine and num_done > 0 and under_way_s >= UNBROKEN_S
        return is_due and self.is_awaited()

    @contextlib.contextmanager
    def held(
        self,
        *,
        patience_s: float = math.inf,
        must_stop: Callable[[], bool] = never,
        on_wait: Callable[[int, float], None] = lambda _pid, _waited_s: None,
    ) -> Iterator[bool]:
        """In this context, only this process measures. Gives whether that is so.

        It waits for its turn. While it waits, it calls `on_wait` about four times a second with the
        process that it waits for (0 for one of a container that isn't seen from here), and how
        long it has waited. Raises MeasurementInterruptedError once `must_stop` says so.

        After `patience_s` of one holder's turn it gives False, and logs whom it passed over: that
        process may be suspended. It doesn't wait for the end of that same turn again.
        """
        started_s = time.monotonic()

        def must_go_on(pid: int | None, holds_for_s: float) -> bool:
            if must_stop():
                raise MeasurementInterruptedError("the wait for a turn was interrupted")
            if pid is None:
                return True
            if holds_for_s >= patience_s:
                logger.warning(
                    "process %s has measured on %s for %.0f s without a pause, or is suspended:"
                    " not waiting for it any longer",
                    pid or "of a container",
                    self._place,
                    holds_for_s,
                )
                return False
            on_wait(pid, time.monotonic() - started_s)
            return True

        with contextlib.ExitStack() as stack:
            head = self._take(self._head, must_go_on)
            with head or contextlib.nullcontext():
                turn = None if head is None else self._take(self._turn, must_go_on)
                if turn is not None:
                    stack.enter_context(turn)
            self._is_mine = turn is not None
            yield self._is_mine

    def _take(
        self, address: str, must_go_on: Callable[[int | None, float], bool]
    ) -> socket.socket | None:
        """The lock of that name, once it is free; None if its holder was passed over."""
        while True:
            lock = socket.socket(socket.AF_UNIX)
            try:
                lock.bind(address)
                lock.listen(_MAX_WAITING)
            except OSError as error:
                lock.close()
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return lock
            if not self._wait_until_free(address, must_go_on):
                return None

    def _wait_until_free(
        self, address: str, must_go_on: Callable[[int | None, float], bool]
    ) -> bool:
        """Returns once the lock's holder has given it back; False if that one was passed over."""
        if (passed_over := self._passed_over.get(address)) is not None:
            if not _has_ended(passed_over, timeout_s=0.0):
                return False
            self._passed_over.pop(address).close()
        since_s = time.monotonic()
        with contextlib.ExitStack() as stack:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.settimeout(_LOOK_EVERY_S)
            try:
                waiting.connect(address)
            except OSError:
                time.sleep(_RETRY_S)
                return must_go_on(None, 0.0)
            pid = _read_pid(waiting)
            while must_go_on(pid, time.monotonic() - since_s):
                if _has_ended(waiting, timeout_s=_LOOK_EVERY_S):
                    return True
            stack.pop_all()
            self._passed_over[address] = waiting
            return False


def _close_all(connections: Mapping[str, socket.socket]) -> None:
    for connection in connections.values():
        connection.close()


def _has_ended(connection: socket.socket, *, timeout_s: float) -> bool:
    """Whether the holder has closed the other side, or died, within that time."""
    connection.settimeout(timeout_s)
    try:
        connection.recv(1)
    except (TimeoutError, BlockingIOError):
        return False
    except OSError:
        pass
    return True


def hold_turn(device_id: str, *, partition: str = "") -> contextlib.AbstractContextManager[bool]:
    """In this context, only this process measures on the device; waits as long as it must."""
    return DeviceTurn(device_id, partition=partition).held()


def _find_holder(address: str) -> int | None:
    """The process that holds the lock: its id, 0 if it isn't seen from here; None if it is free."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as asking:
        asking.settimeout(_LOOK_EVERY_S)
        try:
            asking.connect(address)
        except ConnectionRefusedError:
            return None
        except OSError:
            return 0  # too many are in line, so that it is held
        return _read_pid(asking)


def _read_pid(connection: socket.socket) -> int:
    """Who called `listen` on the other side, as the kernel says."""
    size = struct.calcsize("3i")
    pid, _, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return int(pid)
