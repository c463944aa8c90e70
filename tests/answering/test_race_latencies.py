"""Latencies of races are read once, and not more of them at a time than take a second."""

from __future__ import annotations

import pytest

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.answering.canaries import CANARY_WORKLOAD
from profiler_service.answering.race_latencies import RaceLatencies
from profiler_service.plan.spec import SweepSpec
from profiler_service.storage.store import CurveHeader
from tests.api.conftest import HOST, Worker
from tests.api.curves import square


class Loading:
    """Loads curves from the store, and notes which."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.loaded: list[str] = []

    def load(self, curve_id: str) -> LatencyCurve:
        self.loaded.append(curve_id)
        return self.worker.store.load_curve(curve_id)

    def race(self, seed: int, *, failing: bool = False) -> CurveHeader:
        """A race over 3 × 3 points; the asked one takes 1 ms ± 0.1 %."""
        spec = SweepSpec(workload=CANARY_WORKLOAD, mode="race", grid=square(5, 7), seed=seed)
        sweep, _ = self.worker.store.create_sweep(spec, host=HOST)
        curve_id = self.worker.finish(
            sweep,
            lambda dims: 1e-3 if dims == (5, 5) else 2e-3,
            failing=[(5, 5)] if failing else (),
        )
        return self.worker.store.get_curve_header(curve_id)


@pytest.fixture
def loading(sqlite_worker: Worker) -> Loading:
    return Loading(sqlite_worker)


def test_the_latency_is_that_of_the_asked_point_and_read_once(loading: Loading) -> None:
    good, failed = loading.race(1), loading.race(2, failing=True)
    latencies = RaceLatencies(loading.load)
    for _ in range(2):
        found = latencies.find([good, failed])
        latency = found[good.id]
        assert latency is not None
        assert (latency.latency_s, latency.low_s, latency.high_s) == pytest.approx(
            (1e-3, 0.999e-3, 1.001e-3)
        )
        assert found[failed.id] is None
    assert loading.loaded == [good.id, failed.id]


def test_what_would_take_too_long_is_left_for_the_next_time(loading: Loading) -> None:
    races = [loading.race(seed) for seed in range(3)]
    latencies = RaceLatencies(loading.load)
    # Each has 9 points: two are within 20.
    assert list(latencies.find(races, most_points=20)) == [each.id for each in races[:2]]
    assert list(latencies.find(races, most_points=20)) == [each.id for each in races]
    assert len(loading.loaded) == 3
    # One that is larger than the bound by itself is read, too: else it never would be.
    assert list(RaceLatencies(loading.load).find(races, most_points=1)) == [races[0].id]
