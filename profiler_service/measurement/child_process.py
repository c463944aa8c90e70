"""The measuring child process, as its parent sees it: start, send, receive, end.

Never imports torch. Knows nothing of what is measured.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Final

from profiler_service.errors import MeasurementChildDiedError, MeasurementFailedError
from profiler_service.measurement.child_environment import child_environment
from profiler_service.measurement.exchange import (
    Block,
    Finished,
    KernelNamed,
    NameOrder,
    Order,
    PointFailed,
    Ready,
    Refused,
    Setup,
)

START_TIMEOUT_S: Final = 120.0
"""Longest time until a child is ready. Reading torch from a cold disk is slow."""
_POLL_S: Final = 0.25
_DYING_S: Final = 10.0
_CODE: Final = "from profiler_service.measurement.child import main; main({}, {})"

Message = Ready | Refused | PointFailed | KernelNamed | Finished


class ChildDiedError(Exception):
    """The child has ended, by itself or not. The text is a sentence that says why."""


class ChildProcess:
    """A running measuring child. `close` must be called. Not safe to share.

    Creating it raises MeasurementFailedError if the child says that it can't measure, and
    MeasurementChildDiedError if it can't be started, or ends or hangs before it says anything.
    """

    def __init__(self, setup: Setup) -> None:
        try:
            self._start(setup)
        except OSError as error:
            # No memory or no process number is left at this moment, most likely.
            raise MeasurementChildDiedError(
                f"measuring could not start: no process could be started: {error}",
                hint="the machine is short of memory or processes: try again later",
            ) from error
        try:
            self.ready = self._set_up(setup)
        except BaseException:
            self.close()
            raise

    def _start(self, setup: Setup) -> None:
        environment = {
            **child_environment(os.environ, threads=len(setup.cpus), keep=setup.keep_variables),
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        }
        block_fd = Block.create_fd()
        try:
            self.block = Block(block_fd)
            self._connection, theirs = Pipe()
            with theirs:
                # A fresh interpreter, not a fork: the parent has threads, and its memory would
                # be in the child's caches and page tables. -P: the working directory is in
                # the import path only if the parent has it there. With a process group of
                # its own, the child doesn't get the terminal's Ctrl-C: the parent decides.
                # It inherits no other descriptor: no connection to the database.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _CODE.format(theirs.fileno(), block_fd)],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    process_group=0,
                    pass_fds=(theirs.fileno(), block_fd),
                )
        finally:
            os.close(block_fd)

    def _set_up(self, setup: Setup) -> Ready:
        deadline = time.monotonic() + START_TIMEOUT_S
        late = f"it was not ready within {START_TIMEOUT_S:g} s"
        try:
            self._send(setup)
            message = self.receive(lambda: late if time.monotonic() > deadline else None)
        except ChildDiedError as error:
            raise MeasurementChildDiedError(
                f"measuring could not start: {error}",
                hint="see what it wrote above; does `python -c 'import torch'` work?",
            ) from None
        if isinstance(message, Refused):
            raise MeasurementFailedError(message.message, hint=message.hint)
        assert isinstance(message, Ready)
        return message

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def order(self, order: Order | NameOrder) -> None:
        """Hands the order to the child. Raises ChildDiedError."""
        self.block.clear()
        self._send(order)

    def _send(self, message: Setup | Order | NameOrder) -> None:
        try:
            self._connection.send(message)
        except OSError:
            raise ChildDiedError(self._describe_end()) from None

    def receive(self, find_reason_to_end: Callable[[], str | None]) -> Message:
        """The child's next message.

        While there is none, `find_reason_to_end` is called four times a second. If it returns a
        reason, the child is killed. Raises ChildDiedError.
        """
        try:
            while not self._connection.poll(_POLL_S):
                reason = find_reason_to_end()
                if reason is not None:
                    self.close()
                    raise ChildDiedError(reason)
            message: Message = self._connection.recv()
        except (EOFError, OSError):
            raise ChildDiedError(self._describe_end()) from None
        return message

    def _describe_end(self) -> str:
        try:
            # A dying child closes its connection shortly before its exit code is known.
            code = self._process.wait(timeout=_DYING_S)
        except subprocess.TimeoutExpired:
            return "the measuring process closed its connection"
        return f"the measuring process died ({describe_exit(code)})"

    def close(self) -> None:
        """Ends the child and releases everything."""
        self._process.kill()
        self._process.wait()
        self._connection.close()


def describe_exit(code: int) -> str:
    """A return code of `subprocess`, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    reason = "; out of memory?" if code == -signal.SIGKILL else ""
    return f"signal {-code}: {name}{reason}"
