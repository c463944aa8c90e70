"""The line between a worker and its supervisor: a socket, which is the worker's standard input.

The worker sends its state over the line, as one JSON object per line of text. The line closes when
either process ends. So no worker stays behind, and no service assumes a worker that has ended.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Literal, Protocol

logger = logging.getLogger(__name__)

MAX_LINE_BYTES = 1 << 16
MAX_REASON_CHARACTERS = 2000


@dataclass(frozen=True, kw_only=True)
class Told:
    """The state that a worker reports."""

    state: Literal["measuring", "paused", "standing by", "ending"]
    reason: str = ""
    """Why it pauses, stands by or ends."""


class Tell(Protocol):
    """Sends the state that a worker reports."""

    def __call__(self, told: Told) -> None:
        """Never raises: a worker continues to measure, even if nobody listens."""


def tell_nobody(told: Told) -> None:
    """For a worker without a supervisor."""


def hear(line: socket.socket) -> Iterator[Told]:
    """Everything that a worker reports, until its end of the line closes."""
    with contextlib.suppress(ConnectionError), line.makefile("rb") as lines:
        while said := lines.readline(MAX_LINE_BYTES):
            try:
                yield Told(**json.loads(said))
            except (TypeError, ValueError):
                logger.warning("the worker said something unknown: %r", said[:200])


def attach() -> Tell:
    """Takes standard input as the line to the keeper; when it closes, this process gets SIGTERM.

    Standard input is then empty, so that no program started from here holds the line open.
    """
    line = os.dup(0)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(line, 1024):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    def tell(told: Told) -> None:
        told = replace(told, reason=told.reason[:MAX_REASON_CHARACTERS])
        with contextlib.suppress(OSError):
            os.write(line, json.dumps(asdict(told)).encode() + b"\n")

    threading.Thread(target=watch, name="keeper-line", daemon=True).start()
    return tell
