"""A bounded cache that loads what it lacks. Knows nothing of what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LoadingCache(Generic[K, V]):
    """Values by key, each loaded in a thread when it is first asked for.

    Those who ask for one key together wait for one loading. Where the sizes of all values exceed
    `max_size`, the one not used for longest is dropped. Belongs to one event loop.
    """

    def __init__(
        self,
        load: Callable[[K], V],
        *,
        max_size: float,
        size_of: Callable[[V], float] = lambda value: 1,
    ) -> None:
        self._load = load
        # A value larger than the whole cache is kept alone rather than loaded for every question.
        self._kept: LRUCache[K, V] = LRUCache(
            max_size, getsizeof=lambda value: min(size_of(value), max_size)
        )
        self._loading: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        """The value of `key`. Raises what loading raises, and then keeps nothing."""
        if key in self._kept:
            return self._kept[key]
        if key not in self._loading:
            self._loading[key] = asyncio.create_task(self._load_and_keep(key))
        return await asyncio.shield(self._loading[key])

    async def _load_and_keep(self, key: K) -> V:
        try:
            value = await asyncio.to_thread(self._load, key)
        finally:
            del self._loading[key]
        self._kept[key] = value
        return value
