from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from profiler_service.analysis.curve import PointStatus
from profiler_service.answering.curve_formats import (
    CHUNK_POINTS,
    arrow_chunks,
    csv_chunks,
    curve_table,
    json_chunks,
)
from profiler_service.api.curves import choose_format
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.wire import CurveDetail, CurveInfo
from tests.api.conftest import DTYPES, HOST, Worker, check_problem, keep_curve
from tests.api.curves import (
    MEASURED_AT,
    NUM_SAMPLES,
    PLATFORM,
    PROTOCOL,
    build_curve,
    square,
    stairs,
)

pytestmark = pytest.mark.anyio

NAMES = [
    *("out_features", "in_features", "latency_s", "low_s", "high_s", "num_samples", "status"),
    *("rival_out_features", "rival_in_features", "ratio", "ratio_low", "ratio_high"),
]


async def test_detail(client: httpx.AsyncClient, sqlite_worker: Worker) -> None:
    # 3 to 5 on both axes, steps of 4: only (4,4) is fast.
    curve_id = keep_curve(sqlite_worker.store, square(3, 5), stairs(4), failing=[(3, 5)])

    response = await client.get(f"/curves/{curve_id}")

    assert response.headers["content-type"] == "application/json"
    detail = CurveDetail.model_validate_json(response.content)
    assert (detail.id, detail.host, detail.platform) == (curve_id, HOST, PLATFORM.key)
    assert detail.axis_names == ["out_features", "in_features"]
    assert (detail.num_points, detail.num_measured, detail.num_failures) == (9, 8, 1)
    assert detail.measured_at == MEASURED_AT
    assert not detail.stale
    dims = [[3, 3], [3, 4], [4, 3], [4, 4], [4, 5], [5, 3], [5, 4], [5, 5]]
    assert detail.points.dims == dims
    assert detail.points.latency_s == pytest.approx(
        [(1e-3 if d == [4, 4] else 2e-3) + 1e-6 * sum(d) for d in dims]
    )
    assert detail.points.low_s == pytest.approx([0.999 * s for s in detail.points.latency_s])
    assert detail.points.high_s == pytest.approx([1.001 * s for s in detail.points.latency_s])
    assert detail.points.num_samples == [NUM_SAMPLES] * 8
    # Nothing above (4,4) is faster. Of what isn't below (4,4), (5,3) is dominated by nothing:
    # (5,4) and (5,5) are slower by 1 and 2 µs; so are (4,5) and (5,4) LHPs. Nothing is larger than
    # (5,5), the edge.
    lhps = [[4, 4], [4, 5], [5, 3], [5, 4]]
    assert detail.lhps == lhps
    statuses = ["lhp" if d in lhps else "dominated" for d in dims]
    assert detail.points.status == [*statuses[:-1], "edge"]
    assert detail.points.rival == [None if d in [*lhps, [5, 5]] else [4, 4] for d in dims]
    assert detail.points.ratio[0] == pytest.approx(1.008 / 2.006)
    assert detail.points.ratio_low[0] == pytest.approx(0.99 * 1.008 / 2.006)
    assert detail.points.ratio_high[0] == pytest.approx(1.01 * 1.008 / 2.006)
    assert detail.num_lhps == 4
    assert detail.undecided == 0
    assert detail.redundancy == pytest.approx(1 - 4 / 8)
    assert detail.bins == []
    assert [(f.dims, f.reason) for f in detail.failures] == [([3, 5], "out of memory")]


async def test_a_one_axis_curve_has_bins(client: httpx.AsyncClient, sqlite_worker: Worker) -> None:
    curve_id = keep_curve(
        sqlite_worker.store,
        Grid(axes=(GridAxis(first=3, count=8),)),
        stairs(4),
        workload=MATMUL.describe(),
    )
    detail = (await client.get(f"/curves/{curve_id}")).json()
    # 4 and 8 are fast; 9 is slow, but 10 doesn't beat it. 10 is the edge, and in no bin.
    assert detail["lhps"] == [[4], [8], [9]]
    assert detail["bins"] == [
        {"first": 3, "last": 4},
        {"first": 5, "last": 8},
        {"first": 9, "last": 9},
    ]


async def test_csv(client: httpx.AsyncClient, sqlite_worker: Worker) -> None:
    curve_id = keep_curve(sqlite_worker.store, square(3, 5), stairs(4), failing=[(3, 5)])
    response = await client.get(f"/curves/{curve_id}", params={"format": "csv"})
    assert response.headers["content-type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(response.text)))
    assert rows[0] == NAMES
    assert len(rows) == 9
    fast = rows[4]
    assert fast[:2] == ["4", "4"]
    assert [float(cell) for cell in fast[2:5]] == pytest.approx(
        [1.008e-3, 1.006992e-3, 1.009008e-3]
    )
    # Nothing larger is known to be its best rival.
    assert fast[5:9] == [str(NUM_SAMPLES), "lhp", "", ""]
    # (4,4), 1.008 ms, dominates (3,3), 2.006 ms.
    first = rows[1]
    assert first[6:9] == ["dominated", "4", "4"]
    assert float(first[9]) == pytest.approx(1.008 / 2.006)


async def test_arrow(client: httpx.AsyncClient, sqlite_worker: Worker) -> None:
    curve_id = keep_curve(sqlite_worker.store, square(3, 5), stairs(4))
    response = await client.get(f"/curves/{curve_id}", params={"format": "arrow"})
    assert response.headers["content-type"] == "application/vnd.apache.arrow.stream"
    table = pa.ipc.open_stream(response.content).read_all()
    assert table.column_names == NAMES
    assert table.num_rows == 9
    assert table.column("out_features").to_pylist() == [3, 3, 3, 4, 4, 4, 5, 5, 5]
    assert table.column("latency_s").to_pylist()[4] == pytest.approx(1.008e-3)
    assert table.column("status").to_pylist()[4] == "lhp"


async def test_parquet_has_the_rows_of_arrow_and_says_where_they_are_from(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    curve_id = keep_curve(sqlite_worker.store, square(3, 5), stairs(4), failing=[(3, 5)])
    response = await client.get(f"/curves/{curve_id}", params={"format": "parquet"})
    assert response.headers["content-type"] == "application/vnd.apache.parquet"
    assert response.headers["vary"] == "Accept"
    assert "content-encoding" not in response.headers  # its columns are compressed already
    table = pq.read_table(io.BytesIO(response.content), page_checksum_verification=True)
    arrow = await client.get(f"/curves/{curve_id}", params={"format": "arrow"})
    same = pa.ipc.open_stream(arrow.content).read_all()
    assert table.equals(same, check_metadata=True)
    assert table.column_names == NAMES
    assert (table.num_rows, table.column("status").to_pylist()[3]) == (8, "lhp")
    about = json.loads(table.schema.metadata[b"lhp_curve"])
    assert (about["curve_id"], about["host"], about["mode"]) == (curve_id, HOST, "grid")
    assert about["params"] == {"backend": "dense", "batch": 16, "dtype": "float32"}
    assert about["platform"]["device_model"] == PLATFORM.device_model
    assert about["measured_at"] == MEASURED_AT.isoformat()
    assert about["failures"] == {"2": "out of memory"}  # (3,5) is the third point


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "json"),
        ("text/csv", "csv"),
        ("TEXT/CSV; header=present, application/json", "csv"),
        ("application/vnd.apache.arrow.stream", "arrow"),
        ("application/vnd.apache.parquet", "parquet"),
    ],
)
def test_accept_chooses_the_format(accept: str, chosen: str) -> None:
    assert choose_format(accept) == chosen


async def test_the_address_overrules_accept(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    curve_id = keep_curve(sqlite_worker.store, square(3, 5), stairs(4))
    accept = {"accept": "text/csv"}
    by_accept = await client.get(f"/curves/{curve_id}", headers=accept)
    by_address = await client.get(f"/curves/{curve_id}?format=json", headers=accept)
    assert by_accept.headers["content-type"].startswith("text/csv")
    assert by_accept.headers["vary"] == "Accept, Accept-Encoding"
    assert by_address.headers["content-type"] == "application/json"


async def test_unknown_curves_and_formats(client: httpx.AsyncClient) -> None:
    check_problem(await client.get("/curves/nothing"), 404)
    check_problem(await client.get("/curves/nothing?format=xml"), 422)


@pytest.mark.parametrize("num_points", [1, CHUNK_POINTS, CHUNK_POINTS + 1, 3 * CHUNK_POINTS - 1])
def test_chunks_join_into_the_whole(num_points: int) -> None:
    curve = build_curve(
        Grid(axes=(GridAxis(first=1, count=num_points),)),
        stairs(64),
        workload=MATMUL.describe(),
    )
    table = curve_table(curve)
    json_parts = list(json_chunks(curve, info_of(num_points)))
    detail = CurveDetail.model_validate_json(b"".join(json_parts))
    assert max(len(part) for part in json_parts) < 40 * CHUNK_POINTS
    assert [dims for (dims,) in detail.points.dims] == list(range(1, num_points + 1))
    assert detail.points.latency_s == table.column("latency_s").to_pylist()
    assert detail.points.status == table.column("status").to_pylist()

    rows = b"".join(csv_chunks(curve)).decode().splitlines()
    assert len(rows) == num_points + 1
    assert [float(row.split(",")[1]) for row in rows[1:]] == detail.points.latency_s

    assert pa.ipc.open_stream(b"".join(arrow_chunks(curve))).read_all().equals(table)


def test_a_curve_without_measured_points_is_whole_too() -> None:
    grid = Grid(axes=(GridAxis(first=1, count=2),))
    curve = build_curve(grid, stairs(4), workload=MATMUL.describe(), failing=[(1,), (2,)])
    detail = CurveDetail.model_validate_json(b"".join(json_chunks(curve, info_of(2))))
    assert (detail.points.dims, detail.lhps, len(detail.failures)) == ([], [], 2)
    assert b"".join(csv_chunks(curve)).count(b"\n") == 1
    assert pa.ipc.open_stream(b"".join(arrow_chunks(curve))).read_all().num_rows == 0


def info_of(num_points: int) -> CurveInfo:
    """The header of some one-axis curve."""
    fields: dict[str, Any] = {
        "id": "c",
        "sweep": "s",
        "host": HOST,
        "workload": "matmul[]",
        "axis_names": ["size"],
        "axes": [{"first": 1, "last": num_points, "step": 1}],
        "mode": "grid",
        "platform": PLATFORM.key,
        "protocol": "p",
        "num_points": num_points,
        "num_measured": num_points,
        "num_failures": 0,
        "num_lhps": 0,
        "num_undecided": 0,
        "undecided": 0.0,
        "redundancy": None,
        "measured_at": MEASURED_AT,
        "stale": False,
        "evidence": {},
    }
    return CurveInfo.model_validate(fields)


async def test_curves_of_a_changed_host_are_stale(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    curve_id = keep_curve(sqlite_worker.store, square(3, 5), stairs(4))
    changed = dataclasses.replace(PLATFORM, driver="newer")
    sqlite_worker.store.register_host(HOST, changed, protocol=PROTOCOL, dtypes=DTYPES)
    assert (await client.get(f"/curves/{curve_id}")).json()["stale"]
    assert (await client.get("/curves")).json()["items"][0]["stale"]


def test_numbers_keep_their_full_precision() -> None:
    grid = Grid(axes=(GridAxis(first=1, count=50),))
    curve = build_curve(grid, lambda dims: 1e-6 / 3 * dims[0], workload=MATMUL.describe())
    detail = CurveDetail.model_validate_json(b"".join(json_chunks(curve, info_of(50))))
    np.testing.assert_array_equal(detail.points.latency_s, curve.latency_s)


def test_points_with_too_few_samples_have_no_interval() -> None:
    # (3,4) was seen once: a latency, but NaN for its interval, which JSON doesn't have.
    curve = build_curve(Grid(axes=(GridAxis(first=3, count=2),) * 2), stairs(4))
    curve.low_s[1] = curve.high_s[1] = np.nan

    text = b"".join(json_chunks(curve, info_of(4)))
    points = CurveDetail.model_validate_json(text).points
    assert points.low_s[1] is None and points.high_s[1] is None
    assert points.low_s[0] == pytest.approx(0.999 * points.latency_s[0])
    rows = list(csv.DictReader(io.StringIO(b"".join(csv_chunks(curve)).decode())))
    assert (rows[1]["low_s"], rows[1]["high_s"]) == ("", "")
    table = pa.ipc.open_stream(b"".join(arrow_chunks(curve))).read_all()
    assert table.column("low_s").null_count == table.column("high_s").null_count == 1


def test_an_undecided_point_names_its_rival_in_every_format() -> None:
    # 3 to 6, of which 4 is fast; that 5 may be dominated by 6 is all that is known of 5, and
    # of 3 it isn't even known how it compares: too few pairs.
    curve = build_curve(Grid(axes=(GridAxis(first=3, count=4),)), stairs(4))
    curve = dataclasses.replace(
        curve,
        workload=MATMUL.describe(),
        answers=dataclasses.replace(
            curve.answers,
            rival=np.array([1, 2, 3, -1], dtype=np.int32),
            ratio=np.array([0.5, 2.0, 0.999, np.nan]),
            ratio_low=np.array([0.0, 1.9, 0.99, np.nan]),
            ratio_high=np.array([np.inf, 2.1, 1.01, np.nan]),
        ),
    )
    curve.status[2] = PointStatus.UNDECIDED

    points = CurveDetail.model_validate_json(b"".join(json_chunks(curve, info_of(4)))).points
    assert points.status[2] == "undecided"
    assert points.rival == [[4], [5], [6], None]
    assert points.ratio == [0.5, 2.0, 0.999, None]
    assert points.ratio_low == [0.0, 1.9, 0.99, None]
    assert points.ratio_high == [None, 2.1, 1.01, None]
    rows = list(csv.DictReader(io.StringIO(b"".join(csv_chunks(curve)).decode())))
    assert [row["rival_size"] for row in rows] == ["4", "5", "6", ""]
    assert rows[2]["ratio_low"] == "0.99"
    table = pa.ipc.open_stream(b"".join(arrow_chunks(curve))).read_all()
    assert table.column("rival_size").to_pylist() == [4, 5, 6, None]
    assert table.column("ratio_high").to_pylist() == [None, 2.1, 1.01, None]


async def test_the_edge_of_a_curve_that_was_kept_as_an_lhp_is_an_edge(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    # As earlier versions kept it: its largest point, 4, is called an LHP.
    sqlite_worker.store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
    grid = Grid(axes=(GridAxis(first=3, count=2),))
    curve = build_curve(grid, stairs(4), workload=MATMUL.describe())
    curve.status[:] = [PointStatus.DOMINATED, PointStatus.LHP]
    spec = SweepSpec(workload=MATMUL.describe(), mode="grid", grid=grid)
    sweep, _ = sqlite_worker.store.create_sweep(spec, host=HOST)
    curve_id = sqlite_worker.store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
    detail = CurveDetail.model_validate_json((await client.get(f"/curves/{curve_id}")).content)
    assert detail.points.status == ["dominated", "edge"]
    assert (detail.num_lhps, detail.lhps, detail.bins) == (0, [], [])
