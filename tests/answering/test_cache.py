from __future__ import annotations

import asyncio

import pytest

from profiler_service.answering.cache import LoadingCache

pytestmark = pytest.mark.anyio


class Loads:
    """Loads a text of as many letters as asked for, and counts how often."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, length: int) -> str:
        self.asked.append(length)
        if length == 0:
            raise ValueError("nothing to load")
        return "x" * length


async def test_those_who_ask_together_share_one_loading() -> None:
    load = Loads()
    cache = LoadingCache(load, max_size=10)
    assert await asyncio.gather(*(cache.get(3) for _ in range(5))) == ["xxx"] * 5
    assert await cache.get(3) == "xxx"
    assert load.asked == [3]


async def test_what_was_not_used_for_longest_is_dropped() -> None:
    load = Loads()
    cache = LoadingCache(load, max_size=10, size_of=len)
    for length in (3, 4, 3, 5):  # 3 + 4 + 5 = 12 is too much: 4 goes, since 3 was used after it
        await cache.get(length)
    await cache.get(3)
    assert load.asked == [3, 4, 5]
    await cache.get(4)
    assert load.asked == [3, 4, 5, 4]


async def test_a_value_larger_than_the_cache_is_kept_alone() -> None:
    load = Loads()
    cache = LoadingCache(load, max_size=10, size_of=len)
    for length in (3, 99, 99, 3):
        await cache.get(length)
    assert load.asked == [3, 99, 3]


async def test_a_failed_loading_is_tried_again() -> None:
    load = Loads()
    cache = LoadingCache(load, max_size=10)
    for _ in range(2):
        with pytest.raises(ValueError, match="nothing"):
            await cache.get(0)
    assert load.asked == [0, 0]


async def test_one_who_stops_waiting_leaves_the_others_waiting() -> None:
    cache = LoadingCache(Loads(), max_size=10)
    impatient, patient = (asyncio.create_task(cache.get(3)) for _ in range(2))
    await asyncio.sleep(0)  # both have asked
    impatient.cancel()
    assert await patient == "xxx"
    assert impatient.cancelled()


async def test_what_is_known_without_loading_is_kept() -> None:
    load = Loads()
    cache = LoadingCache(load, max_size=10)
    cache.keep(3, "known")
    assert await cache.get(3) == "known"
    assert load.asked == []
    # What is being loaded may be newer.
    loading = asyncio.create_task(cache.get(4))
    await asyncio.sleep(0)
    cache.keep(4, "known")
    assert await loading == "xxxx"
    assert await cache.get(4) == "xxxx"
