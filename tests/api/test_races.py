"""How a race went, told from what the store keeps."""

from __future__ import annotations

import dataclasses
import itertools

import httpx
import pytest

from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.kinds.kernels import ALL_KERNELS, kernel_workload
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import MODES
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.wire import RaceInfo
from tests.api.conftest import HOST, Worker, check_problem
from tests.synthetic import SyntheticDevice, stairs

pytestmark = pytest.mark.anyio


async def test_stages_are_told_from_the_samples(
    client: httpx.AsyncClient, sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
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
    # Positions are narrowed down, points contest, and the leader is confirmed.
    names = [stage.name for stage in race.stages]
    assert list(dict.fromkeys(names)) == ["narrow", "contest", "confirm"]
    assert race.stages[0].field_size == [51, 51]
    contests = [stage for stage in race.stages if stage.name == "contest"]
    assert contests[0].field_size == race.stages[names.index("contest") - 1].kept_size
    for contest in contests:
        assert len(contest.kept) + len(contest.dropped) == contest.field_size[0]
        assert contest.kept_size == [len(contest.kept)]
    for before, after in itertools.pairwise(contests):
        assert sorted(after.kept + after.dropped) == sorted(before.kept)
    assert race.stages[-1].kept == [[416, 416]]
    # 416,416 is 1.1² times as fast, and 8 % more multiply-adds: the ratio is 1.08 / 1.21 = 0.89.
    assert race.stages[-1].why.startswith("nothing here is more than")
    assert "the best ratio is 0.8" in race.stages[-1].why
    assert sum(stage.num_visits for stage in race.stages) == planner.progress().num_samples
    assert 0.02 < race.noise < 0.05  # 3 %, heavy-tailed
    # Once it has ended nothing is replayed again: it is told even when the samples are gone.
    store.finish_sweep(sweep.id, None, state=SweepState.CANCELLED)
    told = (await client.get(f"/sweeps/{sweep.id}/race")).json()
    assert told == race.model_dump(mode="json")
    monkeypatch.setattr(store, "load_batches", lambda _: [])
    assert (await client.get(f"/sweeps/{sweep.id}/race")).json() == told


async def test_a_race_of_another_version_isnt_told_as_if_it_were_this_ones(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    store = sqlite_worker.store
    grid = Grid.window((401, 401), (50, 50))
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid, seed=3)
    sweep, _ = store.create_sweep(spec, host=HOST)
    store.start_sweep(sweep.id)
    planner = create_planner(spec)
    batch = planner.next_batch()
    assert batch is not None
    samples = SyntheticDevice(stairs(grid, 16, 0.1)).measure(batch)
    # The first visits are always of the queried point; here they aren't.
    foreign = dataclasses.replace(samples, point=samples.point + 1)
    store.commit_batch(sweep.id, 0, foreign, planner.progress())
    check_problem(await client.get(f"/sweeps/{sweep.id}/race"), 409, "/curves")


async def test_a_race_that_has_not_begun_has_no_stages(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    spec = SweepSpec(workload=LINEAR.describe(), mode="survey", grid=Grid.window((9, 9), (5, 5)))
    sweep, _ = sqlite_worker.store.create_sweep(spec, host=HOST)
    assert (await client.get(f"/sweeps/{sweep.id}/race")).json()["stages"] == []


@pytest.mark.parametrize(
    "spec",
    [
        SweepSpec(workload=LINEAR.describe(), mode="grid", grid=Grid.window((9, 9), (5, 5))),
        SweepSpec(
            workload=kernel_workload((9, 9), batch=16, dtype="float32"),
            mode="kernels",
            grid=ALL_KERNELS,
        ),
    ],
    ids=["grid", "kernels"],
)
async def test_another_sweep_is_no_race(
    client: httpx.AsyncClient, sqlite_worker: Worker, spec: SweepSpec
) -> None:
    sweep, _ = sqlite_worker.store.create_sweep(spec, host=HOST)
    refused = await client.get(f"/sweeps/{sweep.id}/race")
    check_problem(refused, 409, "/curves")
    assert f"it {MODES[spec.mode].description}" in refused.json()["detail"]
    curve_id = sqlite_worker.finish(sweep, lambda dims: 1e-3)
    check_problem(await client.get(f"/sweeps/{sweep.id}/race"), 409, f"/curves/{curve_id}")
    check_problem(await client.get("/sweeps/nothing/race"), 404)


async def test_a_race_too_large_to_replay_beside_queries_is_refused(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    # 257 · 257 = 66,049 points.
    grid = Grid.window((2048, 2048), (256, 256))
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid)
    sweep, _ = sqlite_worker.store.create_sweep(spec, host=HOST)
    check_problem(await client.get(f"/sweeps/{sweep.id}/race"), 409, "/curves")
