"""GET /curves/compare: what differs, how much, and what can't be compared."""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx
import pytest

from profiler_service.analysis.samples import TimingProtocol
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.storage.store import Store
from profiler_service.wire import CurveComparison
from profiler_service.workload import VARY
from tests.api.conftest import HOST, Worker, check_problem, keep_curve
from tests.api.curves import PLATFORM, Latency, square, stairs

pytestmark = pytest.mark.anyio

LINE = Grid(axes=(GridAxis(first=3, count=8),))


def times(factor: float, latency: Latency) -> Latency:
    return lambda dims: factor * latency(dims)


def keep(store: Store, factor: float = 1.0, grid: Grid = LINE, **given: Any) -> str:
    params = given.pop("params", {})
    workload = MATMUL.describe(params)
    return keep_curve(store, grid, times(factor, stairs(4)), workload=workload, **given)


async def compare(client: httpx.AsyncClient, *ids: str, **query: object) -> CurveComparison:
    params = {"ids": ",".join(ids), **query}
    response = await client.get("/curves/compare", params=params)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    return CurveComparison.model_validate_json(response.content)


async def test_kernels_are_compared_at_their_common_points(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    store = sqlite_worker.store
    dense = keep(store)
    longer = Grid(axes=(GridAxis(first=5, count=20),))
    packed = keep(store, 0.5, longer, params={"backend": "packed"}, failing=[(7,)])
    found = await compare(client, dense, packed)
    # 3 to 10 and 5 to 24 have 5 to 10 in common, and 7 failed.
    assert found.dims == [[5], [6], [8], [9], [10]]
    assert (found.num_points, found.num_left_out) == (5, 0)
    assert (found.workload, found.axis_names) == ("matmul", ["size"])
    first, second = found.curves
    assert (first.label, second.label) == ("dense", "packed")
    assert (first.curve.id, second.curve.id) == (dense, packed)
    assert first.latency_s == pytest.approx([2.005e-3, 2.006e-3, 1.008e-3, 2.009e-3, 2.010e-3])
    assert second.latency_s == pytest.approx([0.5 * each for each in first.latency_s if each])
    assert second.low_s == pytest.approx([0.999 * each for each in second.latency_s if each])
    # 9 is an LHP of the first curve, whose last point is 10. The other one goes on to 24.
    assert first.status == ["dominated", "dominated", "lhp", "lhp", "edge"]
    assert second.status == ["dominated", "dominated", "lhp", "dominated", "dominated"]
    assert first.ratios is None and first.summary is None
    assert second.ratios is not None and second.summary is not None
    assert second.ratios.ratio == pytest.approx([0.5] * 5)
    # Both are known to 0.1 %, and processes differ by 0.25 %: the root of the squares of 0.1, 0.1
    # and 1.96 · 0.25 is 0.51 %.
    assert second.ratios.ratio_low == pytest.approx([0.5 * (1 - 0.0051)] * 5, rel=1e-4)
    assert second.ratios.ratio_high == pytest.approx([0.5 * (1 + 0.0051)] * 5, rel=1e-4)
    assert second.ratios.verdict == ["faster"] * 5
    assert (second.summary.num_points, second.summary.num_faster) == (5, 5)
    assert second.summary.verdict == "faster"
    assert second.summary.ratio == pytest.approx(0.5)
    assert (second.summary.num_lhps_of_both, second.summary.num_lhps_of_any) == (1, 2)
    assert found.intervals == "independent"
    assert found.finding == (
        "packed is 2.00 × as fast as dense at the median of 5 points"
        " (95 % interval 1.99 to 2.01): faster at 5, slower at 0, undecided at 0."
    )
    differs = {each.name: each.values for each in found.differs}
    assert differs == {"backend": ["dense", "packed"], "grid": ["3:10", "5:24"]}
    same = {each.name: each.value for each in found.same}
    assert same["batch"] == "16" and same["dtype"] == "float32" and same["sparsity"] == "0"
    assert (same["host"], same["platform"]) == (HOST, "Synthetic 9000, 1 thread")


async def test_platforms_and_hosts_are_told_by_what_differs(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    store = sqlite_worker.store
    upgraded = dataclasses.replace(PLATFORM, driver="2", libraries=(("blas", "4"), ("new", "1")))
    larger = dataclasses.replace(PLATFORM, device_model="Large (with much to say)", threads=4)
    before = keep(store)
    after = keep(store, 1.1, host="there", platform=upgraded)
    big = keep(store, 0.25, host="else", platform=larger)

    found = await compare(client, before, after)
    differs = {each.name: (each.about, each.values) for each in found.differs}
    assert differs == {
        "driver": ("platform", ["none", "2"]),
        "blas": ("platform", ["3.14", "4"]),
        "new": ("platform", [None, "1"]),
        "host": ("host", [HOST, "there"]),
    }
    assert [each.label for each in found.curves] == [
        "driver none, blas 3.14",
        "driver 2, blas 4",
    ]
    assert "is 10.0 % slower than" in found.finding
    assert "platform" not in {each.about for each in found.same}

    found = await compare(client, before, big)
    assert [each.label for each in found.curves] == ["Synthetic 9000", "Large"]
    assert "Large is 4.00 × as fast as Synthetic 9000 at" in found.finding


async def test_equal_sweeps_are_told_apart_and_six_curves_fit(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    ids = [keep(sqlite_worker.store, 1 + number / 1e5) for number in range(6)]
    found = await compare(client, *ids)
    labels = [each.label for each in found.curves]
    assert len(set(labels)) == 6
    assert found.finding.count("don't clearly differ at the median of 8 points") == 5
    assert found.differs == []  # measured at the same time, in this test


async def test_a_curve_has_gaps_where_it_was_not_measured(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    store = sqlite_worker.store
    whole = keep(store)
    left = keep(store, 2.0, Grid(axes=(GridAxis(first=3, count=2),)), params={"batch": 8})
    right = keep(store, 3.0, Grid(axes=(GridAxis(first=9, count=2),)), params={"batch": 32})
    found = await compare(client, whole, left, right)
    assert found.dims == [[3], [4], [9], [10]]
    assert [each.label for each in found.curves] == ["batch 16", "batch 8", "batch 32"]
    _, second, third = found.curves
    assert second.ratios is not None and third.ratios is not None
    assert second.latency_s[2:] == second.ratios.ratio[2:] == [None] * 2
    assert second.ratios.verdict[2:] == [None] * 2
    assert second.status[2:] == [None] * 2
    assert third.ratios.ratio == [None, None, pytest.approx(3.0), pytest.approx(3.0)]
    assert "batch 8 takes 2.00 × as long as batch 16 at the median of 2 points" in found.finding


async def test_fewer_points_are_sent_and_all_are_counted(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    long = Grid(axes=(GridAxis(first=1, count=2000),))
    store = sqlite_worker.store
    steps = stairs(64)
    dense = keep_curve(store, long, steps, workload=MATMUL.describe())
    packed = keep_curve(
        store,
        long,
        lambda dims: 3 * steps(dims) if dims[0] == 1001 else steps(dims),
        workload=MATMUL.describe({"backend": "packed"}),
    )
    found = await compare(client, dense, packed, max_points=300)
    assert len(found.dims) <= 300
    assert found.num_points == 2000 == found.num_left_out + len(found.dims)
    # The only point that differs is there, and so is every LHP: multiples of 64.
    assert {1001, *range(64, 2001, 64)} <= {size for (size,) in found.dims}
    summary = found.curves[1].summary
    assert summary is not None
    assert (summary.num_points, summary.num_slower, summary.verdict) == (2000, 1, "ambiguous")


async def test_what_has_nothing_in_common_cant_be_compared(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    store = sqlite_worker.store
    line = keep(store)
    linear = keep_curve(store, square(3, 5), stairs(4))
    by_batch = LINEAR.describe({VARY: "batch,out_features", "in_features": "3"})
    varied = keep_curve(store, square(3, 5), stairs(4), workload=by_batch)
    far = keep(store, 1.0, Grid(axes=(GridAxis(first=50, count=8),)))
    flushed = TimingProtocol(timer="perf_counter", cache="flushed")
    cold = keep(store, 1.0, host="cold", protocol=flushed)
    for others, detail in (
        ((line, linear), "linear over out_features, in_features"),
        ((linear, varied), "linear over batch, out_features"),
        ((line, far), "have no measured point in common"),
        ((line, cold), "perf_counter-flushed-v1"),
    ):
        response = await client.get("/curves/compare", params={"ids": ",".join(others)})
        check_problem(response, 422, "/curves")
        assert response.json()["type"] == "/problems/incomparable-curves"
        assert detail in response.json()["detail"]


async def test_ids_that_make_no_sense_are_problems(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    one, two = keep(sqlite_worker.store), keep(sqlite_worker.store)
    for ids, status, hint in (
        *((one, 422, "2 to 6"), (",".join([one] * 7), 422, "2 to 6"), ("", 422, "2 to 6")),
        *((f"{one},{one}", 422, "once"), (f"{one},{two}0", 404, "ids are listed")),
        *((f"{one},", 404, "ids are listed"), (f"{one},nothing", 404, "ids are listed")),
    ):
        check_problem(await client.get("/curves/compare", params={"ids": ids}), status, hint)
    check_problem(await client.get("/curves/compare"), 422)
    check_problem(await client.get(f"/curves/compare?ids={one},{two}&max_points=3"), 422)
    check_problem(await client.get(f"/curves/compare?ids={one},{two}&format=csv"), 422)


async def test_a_comparison_that_the_client_has_is_not_made_again(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    one, two = keep(sqlite_worker.store), keep(sqlite_worker.store)
    path = f"/curves/compare?ids={one},{two}"
    etag = (await client.get(path)).headers["etag"]
    assert (await client.get(path, headers={"if-none-match": etag})).status_code == 304
    turned = await client.get(f"/curves/compare?ids={two},{one}", headers={"if-none-match": etag})
    assert turned.status_code == 200
