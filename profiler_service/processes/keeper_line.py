"""The line between a worker and the service that keeps it: a socket, the worker's standard input.

Over it the worker tells how it is: one JSON object a line. It closes whenever either process ends,
so that no worker stays behind, and no service believes in a worker that is gone.
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
    """What a worker says of itself."""

    state: Literal["measuring", "standing by", "ending"]
    reason: str = ""
    """Why it stands by or ends."""


class Tell(Protocol):
    """Passes on what a worker says of itself."""

    def __call__(self, told: Told) -> None:
        """Never raises: a worker measures on, whether anybody listens or not."""


def tell_nobody(told: Told) -> None:
    """For a worker that no service keeps."""


def hear(line: socket.socket) -> Iterator[Told]:
    """All that a worker says, until its end of the line closes."""
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
