"""Tells everybody who waits that the service is about to end.

Knows neither routes nor what they wait for. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from typing import Any


class Shutdown:
    """Whether the service is about to end."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()

    @property
    def has_begun(self) -> bool:
        """Whether the end has begun. Then nobody should start to wait."""
        return self._begun.is_set()

    def begin(self) -> None:
        """Ends every wait. Call it before waiting for open requests."""
        self._begun.set()

    async def wait(self, *futures: asyncio.Future[Any], timeout_s: float) -> None:
        """Returns when one of the futures is done, the time is over, or the end has begun."""
        begun = asyncio.create_task(self._begun.wait())
        try:
            await asyncio.wait(
                (*futures, begun), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            begun.cancel()
