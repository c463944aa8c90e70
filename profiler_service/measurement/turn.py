"""The turn to measure on a device: of all processes that measure there, one at a time has it.

The device's lock (`device_lock`) belongs to a worker for as long as it lives. A user's command that
measures the user's own code has no such lock: it and the worker take a turn for each batch.

A turn is a turnstile of two locks. Who wants a turn first takes the place at the head of the line,
then the turn, and then leaves the place to others. Who has just had a turn must take that place
again, so of two processes that both want to measure, each gets every second turn. Each lock is a
listening Unix socket with a name in Linux's abstract namespace, as the device's lock is: the kernel
frees it however its holder ends. Who waits is connected to the holder's socket, and the kernel ends
that connection when the lock is free. Source of the turnstile: A. Downey, The Little Book of
Semaphores, section 3.7; that of sockets: unix(7).
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
from collections.abc import Callable, Iterator
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
        self._passed_over: int | None = None

    def is_awaited(self) -> bool:
        """Whether another process waits for its turn. True, too, while this one waits for it."""
        return _find_holder(self._head) is not None

    def must_yield(self, *, under_way_s: float, num_done: int) -> bool:
        """Whether the batch under way must be broken off, because another process waits.

        `num_done` is the number of its visits that are done. In each turn, at least one is made.
        """
        return num_done > 0 and under_way_s >= UNBROKEN_S and self.is_awaited()

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

        After `patience_s` it gives False, and logs whom it passed over. It then doesn't wait for
        that process again until it has had a turn in good order: the process may be suspended.
        """
        started_s = time.monotonic()

        def must_give_up(pid: int | None) -> bool:
            if must_stop():
                raise MeasurementInterruptedError("the wait for a turn was interrupted")
            if pid is None:
                return False
            waited_s = time.monotonic() - started_s
            if pid == self._passed_over:
                return True
            if waited_s >= patience_s:
                self._passed_over = pid
                logger.warning(
                    "process %s has measured on %s for %.0f s without a pause, or is suspended:"
                    " not waiting for it any longer",
                    pid or "of a container",
                    self._place,
                    waited_s,
                )
                return True
            on_wait(pid, waited_s)
            return False

        with contextlib.ExitStack() as stack:
            head = _take(self._head, must_give_up)
            with head or contextlib.nullcontext():
                turn = _take(self._turn, must_give_up) if head is not None else None
                if turn is not None:
                    stack.enter_context(turn)
            if turn is not None:
                self._passed_over = None
            yield turn is not None


def hold_turn(device_id: str, *, partition: str = "") -> contextlib.AbstractContextManager[bool]:
    """In this context, only this process measures on the device; waits as long as it must."""
    return DeviceTurn(device_id, partition=partition).held()


def _take(address: str, must_give_up: Callable[[int | None], bool]) -> socket.socket | None:
    """The lock of that name, once it is free; None if `must_give_up` says so of its holder."""
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
        if not _wait_until_free(address, must_give_up):
            return None


def _wait_until_free(address: str, must_give_up: Callable[[int | None], bool]) -> bool:
    """Returns once the lock's holder has given it back; False if it must be waited for no more."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as waiting:
        waiting.settimeout(_LOOK_EVERY_S)
        try:
            waiting.connect(address)
        except OSError:
            time.sleep(_RETRY_S)
            return not must_give_up(None)
        pid = _read_pid(waiting)
        while not must_give_up(pid):
            try:
                waiting.recv(1)
            except TimeoutError:
                continue
            except OSError:
                pass  # the holder closed it, or died
            return True
        return False


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
