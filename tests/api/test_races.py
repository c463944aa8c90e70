"""How a race went, told from what the store keeps."""

from __future__ import annotations

import httpx
import pytest

from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan import create_planner
from profiler_service.sweep import SweepSpec
from profiler_service.wire import RaceInfo
from tests.api.conftest import HOST, Worker, check_problem
from tests.synthetic import SyntheticDevice, stairs

pytestmark = pytest.mark.anyio


async def test_stages_are_told_from_the_samples(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    store = sqlite_worker.store
    grid = Grid.window((401, 401), (50, 50))
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid, seed=3)
    sweep, _ = store.create_sweep(spec, host=HOST)
    store.start_sweep(sweep.id)
    # Multiples of 16 are a tenth faster: 416 and 416.
    device = SyntheticDevice(stairs(grid, 16, 0.1))
    planner = create_planner(spec)
    index = 0
    while (batch := planner.next_batch()) is not None:
        samples = device.measure(batch)
        planner.record(samples)
        store.commit_batch(sweep.id, index, samples, planner.progress())
        index += 1

    race = RaceInfo.model_validate_json((await client.get(f"/sweeps/{sweep.id}/race")).content)

    assert race.asked == [401, 401]
    names = [stage.name for stage in race.stages]
    assert names == ["narrow"] * 4 + ["contest"] * 3 + ["confirm"]
    # 51 positions an axis: three eighths are 20, then 10, then 6.
    assert [stage.kept_size for stage in race.stages[:3]] == [[20, 20], [10, 10], [6, 6]]
    # What was left of the positions proposes points: 20 favourites, and up to 4 seen fast.
    assert race.stages[3].field_size == [6, 6]
    assert 20 <= race.stages[3].kept_size[0] <= 24
    contest = race.stages[4]
    assert contest.kept_size == [8] and len(contest.kept) == 8
    assert len(contest.kept) + len(contest.dropped) == contest.field_size[0]
    assert race.stages[-1].kept == [[416, 416]]
    assert race.stages[-1].why.startswith("faster")
    assert sum(stage.num_visits for stage in race.stages) == planner.progress().num_samples
    assert 0.02 < race.noise < 0.05  # 3 %, heavy-tailed


async def test_a_race_that_has_not_begun_has_no_stages(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    spec = SweepSpec(workload=LINEAR.describe(), mode="survey", grid=Grid.window((9, 9), (5, 5)))
    sweep, _ = sqlite_worker.store.create_sweep(spec, host=HOST)
    assert (await client.get(f"/sweeps/{sweep.id}/race")).json()["stages"] == []


async def test_a_grid_sweep_is_no_race(client: httpx.AsyncClient, sqlite_worker: Worker) -> None:
    spec = SweepSpec(workload=LINEAR.describe(), mode="grid", grid=Grid.window((9, 9), (5, 5)))
    sweep, _ = sqlite_worker.store.create_sweep(spec, host=HOST)
    check_problem(await client.get(f"/sweeps/{sweep.id}/race"), 422, "/curves")
    check_problem(await client.get("/sweeps/nothing/race"), 404)
