"""Sweeps that would take too long are refused, judged by what was measured."""

from __future__ import annotations

import httpx
import pytest

from profiler_service.analysis.samples import TimingProtocol
from profiler_service.answering.duration import find_least_call_s
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from profiler_service.plan.modes import MODES, Mode
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from profiler_service.workload import Workload
from tests.api.conftest import DTYPES, HOST, Worker, check_problem, keep_curve, serving
from tests.api.curves import PLATFORM, PROTOCOL

AT_100 = Grid(axes=(GridAxis(first=100, count=2),))


def sizes(start: int, count: int, step: int = 1) -> Grid:
    return Grid(axes=(GridAxis(first=start, count=count, step=step),))


@pytest.mark.parametrize(
    ("mode", "num_points", "calls"),
    # A grid sweep has 18 rounds at least. A race visits four points, however large its window.
    [("grid", 10, 180), ("survey", 10, 10), ("race", 10, 8), ("race", 4000, 8)],
)
def test_least_calls(mode: Mode, num_points: int, calls: int) -> None:
    assert MODES[mode].count_least_calls(num_points) == calls


@pytest.mark.parametrize(
    ("grid", "least_s"),
    [
        # 100 and 101 were measured at 10 s: no less for more work, and a quarter for a quarter.
        (sizes(100, 1), 10.0),
        (sizes(200, 3), 10.0),
        (sizes(50, 1), 2.5),
        (sizes(50, 2, 150), 6.25),  # the mean of 50's and 200's
    ],
)
def test_calls_are_judged_by_smaller_and_larger_ones(
    sqlite_store: Store, grid: Grid, least_s: float
) -> None:
    keep_curve(sqlite_store, AT_100, lambda dims: 10.0, workload=MATMUL.describe())
    host = sqlite_store.get_host(HOST)
    assert find_least_call_s(sqlite_store, MATMUL.describe(), grid, host) == pytest.approx(least_s)


@pytest.mark.parametrize(
    ("workload", "protocol"),
    [
        (MATMUL.describe({"batch": 2}), TimingProtocol(timer="perf_counter")),
        (MATMUL.describe(), TimingProtocol(timer="another")),
    ],
)
def test_nothing_is_said_of_what_was_never_measured(
    sqlite_store: Store, workload: Workload, protocol: TimingProtocol
) -> None:
    sqlite_store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
    keep_curve(sqlite_store, AT_100, lambda dims: 10.0, workload=workload, protocol=protocol)
    host = sqlite_store.get_host(HOST)
    assert find_least_call_s(sqlite_store, MATMUL.describe(), AT_100, host) is None


def test_points_that_failed_say_nothing(sqlite_store: Store) -> None:
    keep_curve(
        sqlite_store, AT_100, lambda dims: 10.0, workload=MATMUL.describe(), failing=[[100], [101]]
    )
    host = sqlite_store.get_host(HOST)
    assert find_least_call_s(sqlite_store, MATMUL.describe(), AT_100, host) is None


@pytest.mark.anyio
async def test_a_sweep_that_would_take_days_is_refused_with_the_estimate(
    settings: Settings, sqlite_worker: Worker
) -> None:
    store = sqlite_worker.store
    keep_curve(store, AT_100, lambda dims: 10.0, workload=MATMUL.describe())
    before = len(store.list_sweeps().items)
    async with serving(settings, sqlite_worker) as client:
        # 1,000 points, 18 rounds, 10 s a call: 50 h.
        response = await sweep(client, 100, 1099)
        check_problem(response, 422, "fewer points")
        assert "10 s per call" in response.json()["detail"]
        assert "50.0 h at least; at most 24.0 h" in response.json()["detail"]
        assert len(store.list_sweeps().items) == before
        # 400 points take 20 h.
        assert (await sweep(client, 100, 499)).status_code == 201
        # Nothing is known of another batch.
        assert (await sweep(client, 100, 1099, batch=3)).status_code == 201
    allowing = settings.model_copy(update={"max_sweep_s": 200_000})
    async with serving(allowing, sqlite_worker) as client:
        assert (await sweep(client, 100, 1099)).status_code == 201


async def sweep(client: httpx.AsyncClient, start: int, stop: int, **params: int) -> httpx.Response:
    axes = [{"first": start, "last": stop}]
    return await client.post("/sweeps", json={"workload": "matmul", "params": params, "axes": axes})
