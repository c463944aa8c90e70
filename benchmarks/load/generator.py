"""Open-loop load over HTTP: requests are sent when they are due, whatever earlier ones do.

The time of a request counts from when it was due, so a service that falls behind is seen to. Shares
no code with the service.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

ANSWER_LIMIT_S = 20.0
"""A request that isn't answered within this time has failed."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one request got."""

    status: int
    """0 if the connection failed, or nothing came within ANSWER_LIMIT_S."""
    took_s: float
    """From when it was due until its response was complete."""


def pin_to(cpu: int) -> None:
    """Keeps this process on one processor."""
    os.sched_setaffinity(0, {cpu})


async def send(
    urls: Sequence[str], paths: Iterator[str], *, rate_hz: float, seconds: float, connections: int
) -> list[Outcome]:
    """The outcome of each request. The services take turns, over so many connections in all."""
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    due: asyncio.Queue[tuple[float, str] | None] = asyncio.Queue()
    outcomes: list[Outcome] = []
    senders = [
        asyncio.create_task(_send_due(urls[number % len(urls)], due, outcomes))
        for number in range(connections)
    ]
    for number in range(round(rate_hz * seconds)):
        due_s = begun_s + number / rate_hz
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        due.put_nowait((due_s, next(paths)))
    for _ in senders:
        due.put_nowait(None)
    await asyncio.gather(*senders)
    return outcomes


async def _send_due(
    url: str, due: asyncio.Queue[tuple[float, str] | None], outcomes: list[Outcome]
) -> None:
    """One connection, opened again if it is lost."""
    where = urlsplit(url)
    assert where.hostname is not None
    reader, writer = None, None
    loop = asyncio.get_running_loop()
    while (item := await due.get()) is not None:
        due_s, path = item
        status = 0
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                if reader is None or writer is None or reader.at_eof():
                    reader, writer = await asyncio.open_connection(where.hostname, where.port)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
                status = await _read_status(reader)
        except (OSError, asyncio.IncompleteReadError, ValueError):  # a timeout is an OSError
            if writer is not None:
                writer.close()
            reader = writer = None
        outcomes.append(Outcome(status=status, took_s=loop.time() - due_s))
    if writer is not None:
        writer.close()


async def _read_status(reader: asyncio.StreamReader) -> int:
    """The status of a response, once its body has come, too."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            await reader.readexactly(int(value))
    return int(lines[0].split()[1])
