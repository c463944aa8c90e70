"""A race stage by stage: the bars, and the page that shows them."""

from __future__ import annotations

import math

import httpx
import pytest

from profiler_service.dashboard.stages import LEAST_SHARE, describe_race, list_stages
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.create import create_planner
from profiler_service.plan.spec import SweepSpec
from profiler_service.wire import RaceInfo
from tests.api.conftest import HOST, Worker, keep_curve
from tests.api.curves import square
from tests.api.curves import stairs as latency
from tests.cli.stub import RACE
from tests.dashboard.conftest import read_page
from tests.synthetic import SyntheticDevice, stairs

PART = {"hx-request": "true"}


def race(*sizes: tuple[list[int], list[int]]) -> RaceInfo:
    """A race whose stages had and left these sizes."""
    stages = [
        RACE.stages[0].model_copy(update={"field_size": field, "kept_size": kept})
        for field, kept in sizes
    ]
    return RACE.model_copy(update={"stages": stages})


def test_each_stage_has_its_candidates_before_and_after() -> None:
    rows = list_stages(RACE, brief=False)
    assert [(row.name, row.before, row.after) for row in rows] == [
        ("narrow", 6, 3),
        ("contest", 3, 2),
        ("contest", 2, 1),
        ("confirm", 1, 1),
    ]
    # ln 3 / ln 6 = 0.6131, of all but the 0.02 that one candidate has: 0.02 + 0.98 · 0.6131.
    shares = [(row.before_share, row.after_share) for row in rows]
    assert shares[0] == pytest.approx((1.0, 0.6209), abs=1e-4)
    assert shares[3] == pytest.approx((LEAST_SHARE, LEAST_SHARE))


def test_in_brief_stages_of_a_kind_are_one_row() -> None:
    rows = list_stages(RACE, brief=True)
    assert [(row.name, row.num_stages, row.before, row.after) for row in rows] == [
        ("narrow", 1, 6, 3),
        ("contest", 2, 3, 1),
        ("confirm", 1, 1, 1),
    ]
    assert (rows[1].num_visits, rows[1].seconds) == pytest.approx((84, 0.0084))  # 24 and 60
    # 40 + 24 + 60 + 100 visits of 0.1 ms.
    assert describe_race(rows) == "6 sizes, 1 left after 224 calls in 22.4 ms"


def test_positions_of_several_axes_are_multiplied() -> None:
    [row] = list_stages(race(([192, 48], [11, 1])), brief=False)
    assert (row.before, row.after) == (9216, 11)


def test_a_stage_that_left_nothing_has_no_bar_and_one_of_one_point_a_whole_one() -> None:
    rows = list_stages(race(([1], [0])), brief=False)
    assert (rows[0].before_share, rows[0].after_share) == (1.0, 0.0)
    assert math.isfinite(rows[0].before_share)
    assert describe_race(rows) == "1 size, none confirmed after 40 calls in 4.00 ms"


def test_a_race_that_has_just_begun_says_so() -> None:
    assert list_stages(race(), brief=True) == []
    assert describe_race([]) == "No stage has ended yet"


@pytest.mark.anyio
async def test_the_page_draws_a_bar_for_each_stage(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    store = sqlite_worker.store
    grid = Grid.window((401, 401), (50, 50))
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid, seed=3)
    sweep, _ = store.create_sweep(spec, host=HOST)
    store.start_sweep(sweep.id)
    device, planner = SyntheticDevice(stairs(grid, 16, 0.1)), create_planner(spec)
    for index in range(1000):
        if (batch := planner.next_batch()) is None:
            break
        samples = device.measure(batch)
        planner.record(samples)
        store.commit_batch(sweep.id, index, samples, planner.progress())
    address = f"/ui/sweeps/{sweep.id}/race"
    page = read_page((await client.get(address)).text)
    # Every point of 51 × 51 took part.
    assert page.find("nav") and "2,601 sizes, 1 left after" in page.text
    num_stages = len((await client.get(f"/sweeps/{sweep.id}/race")).json()["stages"])
    assert len(page.find("rect", **{"class": "before"})) == num_stages
    assert len(page.find("rect", **{"class": "after"})) == num_stages
    brief = read_page((await client.get(f"{address}?brief=true", headers=PART)).text)
    assert not brief.find("nav") and "2,601 →" in brief.text
    assert 3 <= len(brief.find("rect", **{"class": "before"})) < num_stages


@pytest.mark.anyio
async def test_a_sweep_that_is_no_race_says_why_nothing_is_drawn(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    curve = keep_curve(sqlite_worker.store, square(1, 12), latency(4))
    sweep = sqlite_worker.store.get_curve_header(curve).sweep_id
    reply = await client.get(f"/ui/sweeps/{sweep}/race", headers=PART)
    assert reply.status_code == 200
    page = read_page(reply.text)
    assert "is no race" in page.text and not page.find("table")
