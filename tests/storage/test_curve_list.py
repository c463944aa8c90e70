"""Lists of curves: filters, orders, and cursors that stay right."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import json
import typing

import pytest
import sqlalchemy as sa

from profiler_service.analysis.curve import PointStatus
from profiler_service.errors import InvalidRequestError
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.storage.records import CurveSort
from profiler_service.storage.store import (
    CurveFilter,
    CurveHeader,
    CurveOrder,
    Host,
    ParamFilter,
    SearchWord,
    Store,
)
from profiler_service.workload import Workload
from tests.storage.examples import PROTOCOL, create_curve, create_platform
from tests.storage.test_schema import connect

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
SORTS: tuple[CurveSort, ...] = typing.get_args(CurveSort)


def keep(
    store: Store,
    *,
    workload: Workload | None = None,
    mode: Mode = "grid",
    hours: float = 0,
    measured: int = 3,
    lhps: int = 1,
    host: str = "east",
    threads: int = 1,
    seed: int = 0,
) -> str:
    """The id of a new curve that was measured `hours` after NOON."""
    curve = dataclasses.replace(
        create_curve(workload=workload, platform=create_platform(threads=threads)),
        measured_at=NOON + dt.timedelta(hours=hours),
    )
    curve.num_samples[measured:] = 0
    curve.status[:] = PointStatus.DOMINATED
    curve.status[:lhps] = PointStatus.LHP
    spec = SweepSpec(workload=curve.workload, mode=mode, grid=curve.grid, seed=seed)
    sweep, _ = store.create_sweep(spec, host=host)
    curve_id = store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
    assert curve_id is not None
    return curve_id


def ids(store: Store, **wanted: typing.Any) -> list[str]:
    return [header.id for header in store.list_curves(CurveFilter(**wanted)).items]


def test_curves_are_filtered_by_mode_and_by_when_they_were_measured(
    store: Store, host: Host
) -> None:
    early = keep(store, mode="race", hours=-1)
    noon = keep(store)
    late = keep(store, hours=1)
    assert ids(store, mode="grid") == [late, noon]
    assert ids(store, since=NOON) == [late, noon]
    # A day's end is the next one's beginning: no curve is in both.
    assert ids(store, until=NOON) == [early]
    assert ids(store, since=NOON, until=NOON + dt.timedelta(hours=1)) == [noon]
    assert ids(store, mode="survey") == []


def test_curves_are_filtered_by_parameters_of_their_workload(store: Store, host: Host) -> None:
    a = keep(store, workload=MATMUL.describe({"batch": 8}))
    b = keep(store, workload=LINEAR.describe({"batch": 8, "dtype": "bfloat16"}))
    c = keep(store, workload=LINEAR.describe({"backend": "csr", "sparsity": "0.9"}))

    def having(name: str, *values: str, left_out_by: tuple[str, ...] = ()) -> list[str]:
        param = ParamFilter(name=name, values=values, left_out_by=left_out_by)
        return ids(store, params=(param,))

    assert having("batch", "8") == [b, a]  # stored as a number
    assert having("batch", "8", "16") == [c, b, a]
    assert having("dtype", "bfloat16") == [b]
    assert having("sparsity", "0.9") == [c]
    assert having("sparsity", "0") == []
    # Workloads of `linear` leave it out at 0.
    assert having("sparsity", "0", left_out_by=("linear",)) == [b]
    assert having("colour", "red") == []
    both = (
        ParamFilter(name="batch", values=("8",)),
        ParamFilter(name="dtype", values=("float32",)),
    )
    assert ids(store, params=both) == [a]


def test_races_from_a_point_are_found_by_it(store: Store, host: Host) -> None:
    batched = MATMUL.describe({"batch": 8})
    race, other = keep(store, mode="race"), keep(store, mode="race", workload=batched)
    keep(store)  # a grid from the same point answers other questions, too
    first = store.get_curve_header(race).grid.first
    larger = tuple(dim + 1 for dim in first)
    assert ids(store, raced_from=first) == [other, race]
    assert ids(store, raced_from=first, workload_key=batched.key) == [other]
    assert ids(store, raced_from=larger) == []
    assert ids(store, raced_from=first, host="elsewhere") == []


def test_every_word_of_a_search_is_somewhere(store: Store, host: Host) -> None:
    two = create_platform(threads=2)
    store.register_host("WEST_1", two, protocol=PROTOCOL, dtypes=[])
    a = keep(store, workload=MATMUL.describe())
    b = keep(store, workload=LINEAR.describe(), host="WEST_1", threads=2, mode="race")

    def find(*texts: str, platform_keys: tuple[str, ...] = ()) -> list[str]:
        words = [SearchWord(text=text, platform_keys=platform_keys) for text in texts]
        return ids(store, words=tuple(words))

    assert find("matMUL") == [a]
    assert find("west") == [b]
    assert find("race", "linear") == [b]
    assert find("race", "matmul") == []
    assert find(a) == [a]
    assert find(two.key[:8]) == [b]
    assert find("xeon", platform_keys=(two.key,)) == [b]
    # Nothing is a wildcard, and a URL may hold any character.
    assert find("west%1") == find("we_t_1") == find("a/b") == find("\0") == find("\ud800") == []
    assert find("WEST_1") == [b]


def make_some(store: Store) -> dict[str, CurveHeader]:
    """Curves that differ in all that lists are sorted by, some of them equal in it."""
    store.register_host("west", create_platform(threads=2), protocol=PROTOCOL, dtypes=[])
    small = MATMUL.describe({"batch": 8})
    keep(store, hours=3, measured=2, lhps=1, seed=1)  # redundancy 1/2
    keep(store, hours=-2, measured=3, lhps=2, workload=small, host="west", threads=2)  # 1/3
    keep(store, hours=3, measured=3, lhps=2, host="west", threads=2, workload=small, seed=2)
    keep(store, hours=0, measured=0, lhps=0, seed=3)  # without one
    keep(store, hours=9, measured=3, lhps=3, mode="race")  # without one
    return {header.id: header for header in store.list_curves().items}


def sorted_by(header: CurveHeader, sort: CurveSort) -> typing.Any:
    has_redundancy = header.mode == "grid" and header.num_measured > 0
    return {
        "kept": header.id,
        "measured": header.measured_at,
        "workload": header.workload.key,
        "host": header.host,
        "platform": header.platform_key,
        "points": header.num_measured,
        "lhps": header.num_lhps,
        "redundancy": 1 - header.num_lhps / header.num_measured if has_redundancy else -1,
    }[sort]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", SORTS)
def test_pages_in_every_order_stay_right_while_curves_come_and_go(
    store: Store, host: Host, database_url: str, sort: CurveSort, descending: bool
) -> None:
    made = make_some(store)
    # Python's order is the databases' for these texts: small letters and digits.
    expected = sorted(
        made, key=lambda each: (sorted_by(made[each], sort), each), reverse=descending
    )
    order = CurveOrder(sort=sort, descending=descending)
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = store.list_curves(order=order, cursor=cursor, limit=2)
        found += [header.id for header in page.items if header.id in made]
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
        # The curve that the cursor was made of goes, and another one comes.
        with connect(database_url) as connection:
            for statement in (
                "DELETE FROM curve_arrays WHERE curve_id = :id",
                "DELETE FROM curves WHERE id = :id",
            ):
                connection.execute(sa.text(statement), {"id": page.items[-1].id})
        keep(store, hours=len(found), seed=100 + len(found))
        assert len(found) <= len(made)
    assert found == expected


def test_cursors_of_other_lists_are_refused(store: Store, host: Host) -> None:
    make_some(store)
    by_host = store.list_curves(order=CurveOrder(sort="host"), limit=1).next_cursor
    by_id = store.list_curves(limit=1).next_cursor
    assert by_host is not None and by_id is not None

    def write(*parts: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")

    for sort, cursor in (
        *(("kept", by_host), ("host", by_id), ("measured", by_host), ("host", "")),
        ("host", write("host", "east", "no id")),
        ("host", write("host", "east", 7)),
        ("host", write("host", None, by_id)),
        ("points", write("points", 1 << 40, by_id)),
        ("points", write("points", "1", by_id)),
        ("redundancy", write("redundancy", float("nan"), by_id)),
        ("measured", write("measured", "2026-03-01T12:00:00", by_id)),
        ("measured", write("measured", "0001-01-01T00:00:00+00:00", by_id)),
        *(
            ("host", "[" * 1999),
            ("host", "é" * 32),
            ("host", base64.b64encode(b"[" * 1400).decode()),
        ),
    ):
        with pytest.raises(InvalidRequestError, match="wasn't given by this list"):
            store.list_curves(order=CurveOrder(sort=typing.cast(CurveSort, sort)), cursor=cursor)
