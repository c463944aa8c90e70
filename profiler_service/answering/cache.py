"""A bounded cache that loads missing values. Doesn't know what the values are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LoadingCache(Generic[K, V]):
    """Values by key, each loaded in a thread when it is first asked for.

    Callers that ask for the same key at the same time share one load. If the sizes of all values
    exceed `max_size`, the least recently used value is dropped. Belongs to one event loop.
    """

    def __init__(
        self,
        load: Callable[[K], V],
        *,
        max_size: float,
        size_of: Callable[[V], float] = lambda value: 1,
    ) -> None:
        self._load = load
        # A value larger than the whole cache is kept alone, so that it isn't loaded every time.
        self._kept: LRUCache[K, V] = LRUCache(
            max_size, getsizeof=lambda value: min(size_of(value), max_size)
        )
        self._loading: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        """The value of `key`. If loading raises an error, raises that and keeps nothing."""
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
