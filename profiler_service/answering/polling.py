"""One reading of the store, repeated at intervals, for all who wait for what it finds.

Doesn't know what is waited for. Belongs to one event loop, and reads in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Generic, TypeVar

from profiler_service.errors import StoreError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SharedPoll(Generic[K, V]):
    """Values by key, as soon as a reading finds them. Many wait for the price of one."""

    def __init__(
        self, read: Callable[[Collection[K]], Mapping[K, V]], *, interval_s: float
    ) -> None:
        """`read` gets the keys that are waited for, and gives the values of some of them."""
        self._read = read
        self._interval_s = interval_s
        self._waiting: dict[K, set[asyncio.Future[V]]] = {}
        self._polling: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V:
        """The value, from the next reading that finds one.

        While the store can't be reached, that isn't known: this goes on waiting. Raises what
        `read` raises otherwise.
        """
        found: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, set()).add(found)
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll())
        try:
            return await found
        finally:
            self._waiting[key].discard(found)
            if not self._waiting[key]:
                del self._waiting[key]

    async def close(self) -> None:
        """Ends the readings. Call it when nobody waits any more."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    async def _poll(self) -> None:
        while self._waiting:
            try:
                values = await asyncio.to_thread(self._read, list(self._waiting))
            except Exception as error:  # noqa: BLE001  passed on to all who wait
                if not (isinstance(error, StoreError) and error.is_transient):
                    for future in self._futures():
                        future.set_exception(error)
            else:
                for key, value in values.items():
                    for future in self._waiting.get(key, ()):
                        if not future.done():
                            future.set_result(value)
            await asyncio.sleep(self._interval_s)

    def _futures(self) -> list[asyncio.Future[V]]:
        return [each for waiting in self._waiting.values() for each in waiting if not each.done()]
