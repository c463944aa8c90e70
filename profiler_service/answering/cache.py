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
        self._changed: set[K] = set()
        """Keys that have changed since their loading began."""

    def __contains__(self, key: K) -> bool:
        """Whether the value is in memory."""
        return key in self._kept

    async def get(self, key: K) -> V:
        """The value of `key`. If loading raises an error, raises that and keeps nothing."""
        if key in self._kept:
            return self._kept[key]
        if key not in self._loading:
            loading = asyncio.create_task(self._load_and_keep(key))
            # All who asked may have stopped waiting by the time it fails.
            loading.add_done_callback(lambda each: each.cancelled() or each.exception())
            self._loading[key] = loading
        return await asyncio.shield(self._loading[key])

    def keep(self, key: K, value: V) -> None:
        """Keeps a value that is known without loading. One that is being loaded is left alone."""
        if key not in self._loading:
            self._kept[key] = value

    def change(self, key: K, change: Callable[[V], V]) -> None:
        """Replaces the value in memory by `change(value)`. One that is being loaded is read again.

        What is neither will be loaded when it is asked for.
        """
        if key in self._kept:
            self._kept[key] = change(self._kept[key])
        elif key in self._loading:
            self._changed.add(key)

    def forget_if(self, key: K, is_old: Callable[[V], bool]) -> None:
        """Forgets the value in memory if it `is_old`. One that is being loaded is read again."""
        if key in self._kept:
            if is_old(self._kept[key]):
                del self._kept[key]
        elif key in self._loading:
            self._changed.add(key)

    def clear(self) -> None:
        """Forgets every value. Those that are being loaded are read again."""
        self._kept.clear()
        self._changed.update(self._loading)

    async def _load_and_keep(self, key: K) -> V:
        try:
            while True:
                value = await asyncio.to_thread(self._load, key)
                if key not in self._changed:
                    break
                self._changed.discard(key)
        finally:
            self._changed.discard(key)
            del self._loading[key]
        self._kept[key] = value
        return value
