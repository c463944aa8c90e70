"""The lock that lets one process at a time measure on a device, whichever user runs it.

It is a listening Unix socket with a name in Linux's abstract namespace. Such a name belongs to no
file system: no home directory, private /tmp or cleaner of old files divides the processes of a
machine, and the kernel frees the name however its holder ends. It does belong to a network
namespace: containers with a network of their own don't see each other's lock. Source: unix(7).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from profiler_service.errors import WorkerAlreadyRunningError
from profiler_service.measurement.identity import CPU, find_boot_id

_ANSWER_S: Final = 1.0
"""How long the holder may take to say its host's name. A stopped process never says it."""
_MAX_BYTES: Final = 2048
_NETWORK: Final = Path("/proc/self/ns/net")


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who measures on a device."""

    pid: int
    """0 for a process of a container that isn't seen from here."""
    host: str
    """The name under which it measures; empty if it doesn't answer."""


@contextlib.contextmanager
def hold_device(device_id: str, *, host: str, partition: str = "") -> Iterator[str]:
    """In this context, only this process measures on the device, or on this `partition` of it.

    Gives the lock's full name: no other process on earth holds a lock of that name meanwhile.
    Raises WorkerAlreadyRunningError, which names the process that holds it.
    """
    address = _address(device_id, partition)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as lock:
        try:
            lock.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise _refusal(device_id, find_holder(device_id, partition=partition)) from None
        lock.listen()
        answering = threading.Thread(
            target=_answer, args=(lock, host), name="device-lock", daemon=True
        )
        answering.start()
        network = os.stat(_NETWORK)  # noqa: PTH116  follows a link that leads to no path
        try:
            yield f"{find_boot_id()} {network.st_dev}:{network.st_ino} {address[1:]}"
        finally:
            lock.shutdown(socket.SHUT_RDWR)  # wakes `accept`, which would keep the name
            answering.join()


def find_holder(device_id: str, *, partition: str = "") -> Holder | None:
    """The process that holds the device's lock; None if none does, or it is just ending."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as asking:
        asking.settimeout(_ANSWER_S)
        try:
            asking.connect(_address(device_id, partition))
        except OSError:
            return None
        # Who called `listen`: the kernel says it, so it needs no answer and can't be a lie.
        credentials = asking.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
        )
        pid, _, _ = struct.unpack("3i", credentials)
        said = b""
        with contextlib.suppress(OSError):
            said = asking.recv(_MAX_BYTES)
        return Holder(pid=pid, host=said.decode("utf-8", "replace"))


def _address(device_id: str, partition: str) -> str:
    """A name of at most 107 characters, whatever the partition is called."""
    part = f"/{hashlib.sha256(partition.encode()).hexdigest()[:16]}" if partition else ""
    return f"\0lhp-measuring/{device_id}{part}"


def _answer(lock: socket.socket, host: str) -> None:
    """Tells every process that asks for which host this one measures, until the lock is closed."""
    while True:
        try:
            asking, _ = lock.accept()
        except OSError:
            return
        with contextlib.suppress(OSError), asking:
            asking.sendall(host.encode())


def _refusal(device_id: str, holder: Holder | None) -> WorkerAlreadyRunningError:
    device = "this machine's processors" if device_id == CPU else f"the GPU {device_id}"
    if holder is None:
        who = "a worker is just starting or ending"
    else:
        who = f"a worker{holder.host and f' of host {holder.host!r}'} is running already"
        who += f" (process {holder.pid or 'of a container'})"
    error = WorkerAlreadyRunningError(
        f"on {device}, {who}",
        hint="stop it first: two workers would disturb each other's measurements",
    )
    error.host = "" if holder is None else holder.host
    return error
