"""What this process counts of itself for Prometheus: requests and answers.

Every label has few values, whatever clients send. A known answer costs two increments.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

DURATION_BUCKETS_S = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
)
"""From an answer in memory to the longest wait for a measurement."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
"""Stands for every method that no route has, and for every path without a route."""
# Otherwise each has a second series, which nothing here uses.
disable_created_metrics()  # type: ignore[no-untyped-call]

VERDICTS = ("faster", "slower", "ambiguous")


class ServiceMetrics:
    """Metrics of one service process."""

    def __init__(self, *, version: str) -> None:
        self.registry = CollectorRegistry()
        for collect in (ProcessCollector, PlatformCollector, GCCollector):
            collect(registry=self.registry)
        Info("lhp_build", "The version that runs.", registry=self.registry).info(
            {"version": version}
        )
        self._durations = Histogram(
            "lhp_request_duration_seconds",
            "Time from a request's head to the head of its response, by the route's path.",
            ["method", "route", "code"],
            buckets=DURATION_BUCKETS_S,
            registry=self.registry,
        )
        self._observe: dict[tuple[str, str, int], Callable[[float], None]] = {}
        answers = Counter(
            "lhp_answers",
            "Answers to questions for larger dims, by verdict, and whether they are settled.",
            ["verdict", "settled"],
            registry=self.registry,
        )
        self._count_answer: dict[tuple[str, bool], Callable[[], None]] = {
            (verdict, settled): answers.labels(verdict, str(settled).lower()).inc
            for verdict, settled in product(VERDICTS, (False, True))
        }

    def observe_request(self, method: str, route: str | None, code: int, seconds: float) -> None:
        """Counts a request whose response has begun. `route`: its path's pattern, if it has one."""
        key = (method if method in METHODS else OTHER, route or OTHER, code)
        observe = self._observe.get(key)
        if observe is None:
            labelled = self._durations.labels(key[0], key[1], str(code))
            observe = self._observe[key] = labelled.observe
        observe(seconds)

    def find_answer_counter(self, verdict: str, settled: bool) -> Callable[[], None]:
        """The function that counts one such answer each time it is called."""
        return self._count_answer[verdict, settled]
