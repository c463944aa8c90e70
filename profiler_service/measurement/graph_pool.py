"""Captured calls that share one pool of memory.

Pure: it is given the function that captures, and knows neither torch nor any device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from profiler_service.measurement.event_timer import Work

Pool = TypeVar("Pool")


class Graph(Protocol):
    """Captured work, as `torch.cuda.CUDAGraph` is."""

    def replay(self) -> None:
        """Queues the work at once."""


class GraphPool(Generic[Pool]):
    """Captures the calls of visit after visit, and keeps their memory in one pool.

    torch drops a pool with the last graph in it, and refuses to capture into a pool that no graph
    holds. So the graphs of a visit are kept until the next visit has one. (Source: torch's
    CUDACachingAllocator, `create_or_incref_pool`, `releasePool`.)
    """

    def __init__(
        self, *, create_pool: Callable[[], Pool], capture: Callable[[Work, Pool], Graph]
    ) -> None:
        self._create_pool = create_pool
        self._capture = capture
        self._pool = create_pool()
        self._graphs: list[Graph] = []
        self._earlier: list[Graph] = []
        self.has_failed = False
        """Whether the last capture raised."""

    def start_visit(self) -> None:
        """Says that earlier captures won't be queued any more."""
        if self._graphs:
            self._earlier, self._graphs = self._graphs, []

    def capture(self, work: Work) -> Work:
        """What queues the captured work at once. Raises what `work` and capturing raise."""
        self.has_failed = True
        graph = self._capture(work, self._pool)
        self.has_failed = False
        self._graphs.append(graph)
        self._earlier.clear()
        graph.replay()  # the first one also uploads the graph
        return graph.replay

    def release(self) -> None:
        """Drops all graphs, so that the pool's memory can be given back."""
        self._graphs.clear()
        self._earlier.clear()
        self._pool = self._create_pool()
