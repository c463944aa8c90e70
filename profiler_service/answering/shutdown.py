"""The service's end: everybody who waits is told.

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
        """Whether nobody should begin to wait any more."""
        return self._begun.is_set()

    def begin(self) -> None:
        """Ends every wait. Call it before the open requests are waited for."""
        self._begun.set()

    async def wait(self, *futures: asyncio.Future[Any], timeout_s: float) -> None:
        """Returns once one of the futures is done, after that time, or once the end has begun."""
        begun = asyncio.create_task(self._begun.wait())
        try:
            await asyncio.wait(
                (*futures, begun), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            begun.cancel()
