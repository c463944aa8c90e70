from __future__ import annotations

import weakref

import pytest

from profiler_service.measurement.event_timer import Work
from profiler_service.measurement.graph_pool import GraphPool


class FakeGraph:
    def __init__(self, work: Work, log: list[str]) -> None:
        self._work = work
        self._log = log

    def replay(self) -> None:
        self._log.append("replay")
        self._work()


class FakeTorch:
    """Captures, and like torch refuses a pool that was used and that no graph holds any more."""

    def __init__(self) -> None:
        self.pools: list[weakref.WeakSet[FakeGraph]] = []
        self.log: list[str] = []
        self.fails = False

    def create_pool(self) -> int:
        self.pools.append(weakref.WeakSet())
        self.log.append("pool")
        return len(self.pools) - 1

    def capture(self, work: Work, pool: int) -> FakeGraph:
        assert self.pools[pool] or f"capture {pool}" not in self.log, "the pool isn't live"
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.log.append(f"capture {pool}")
        graph = FakeGraph(work, self.log)
        self.pools[pool].add(graph)
        return graph

    def open(self) -> GraphPool[int]:
        return GraphPool(create_pool=self.create_pool, capture=self.capture)


def test_captured_work_is_uploaded_and_queued_by_a_replay() -> None:
    torch, made = FakeTorch(), []
    pool = torch.open()
    queue_work = pool.capture(lambda: made.append(1))
    assert (made, torch.log) == ([1], ["pool", "capture 0", "replay"])
    queue_work()
    assert made == [1, 1]


def test_all_visits_share_one_pool_and_only_the_last_keeps_its_graphs() -> None:
    torch = FakeTorch()
    pool = torch.open()
    for _ in range(3):
        pool.start_visit()
        pool.capture(int)
        pool.capture(int)
    assert torch.log.count("capture 0") == 6
    assert len(torch.pools[0]) == 2


def test_a_visit_that_fails_before_its_capture_leaves_the_pool_alive() -> None:
    torch = FakeTorch()
    pool = torch.open()
    pool.capture(int)
    pool.start_visit()
    pool.start_visit()
    assert len(torch.pools[0]) == 1
    pool.capture(int)  # would be refused if no graph held the pool
    assert len(torch.pools[0]) == 1


def test_a_capture_that_failed_is_remembered() -> None:
    torch = FakeTorch()
    pool = torch.open()
    pool.capture(int)
    assert not pool.has_failed
    torch.fails = True
    with pytest.raises(RuntimeError, match="not permitted"):
        pool.capture(int)
    assert pool.has_failed


def test_released_memory_is_that_of_a_pool_that_nothing_holds() -> None:
    torch = FakeTorch()
    pool = torch.open()
    pool.capture(int)
    pool.start_visit()
    pool.release()
    assert len(torch.pools[0]) == 0
    pool.capture(int)
    assert torch.log[-2:] == ["capture 1", "replay"]
