"""Curves, on every database that the store runs on."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.samples import TimingProtocol
from profiler_service.errors import UnknownCurveError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.plan.spec import SweepState
from profiler_service.storage import rows
from profiler_service.storage.database import create_database_engine, parse_url
from profiler_service.storage.store import CurveFilter, CurveHeader, Host, Page, Store, Sweep
from tests.storage.examples import (
    PROTOCOL,
    create_curve,
    create_platform,
    create_spec,
    finish_new_sweep,
)

NO_ID = "0" * 32


def test_finished_sweep_keeps_its_curve(store: Store, sweep: Sweep) -> None:
    store.start_sweep(sweep.id)
    curve = create_curve()
    curve_id = store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
    assert curve_id is not None
    ended = store.get_sweep(sweep.id)
    assert (ended.state, ended.curve_id, ended.error) == (SweepState.DONE, curve_id, "")
    assert ended.finished_at is not None
    assert store.get_curve_header(curve_id) == CurveHeader(
        id=curve_id,
        sweep_id=sweep.id,
        host="east",
        workload=MATMUL.describe(),
        platform_key=create_platform().key,
        protocol_key="perf_counter-warm-v1",
        grid=Grid(axes=(GridAxis(first=8, count=4, step=2),)),
        mode="grid",
        num_measured=3,  # three of the four points have samples
        num_lhps=1,
        num_undecided=1,
        num_failures=1,
        measured_at=dt.datetime(2026, 3, 1, 12, 30, 0, 5, tzinfo=dt.UTC),
        evidence=Evidence(calls=500, seconds=1.25),
    )


def test_curve_comes_back_to_float32(store: Store, sweep: Sweep) -> None:
    given = create_curve()
    curve_id = store.finish_sweep(sweep.id, given, state=SweepState.DONE)
    assert curve_id is not None
    found = store.load_curve(curve_id)
    assert (found.workload, found.platform) == (given.workload, given.platform)
    assert (found.protocol, found.grid) == (given.protocol, given.grid)
    assert found.measured_at == given.measured_at
    assert found.measured_at.utcoffset() == dt.timedelta(0)
    assert found.failures == {3: "out of memory"}
    assert found.evidence == given.evidence
    for name in ("num_samples", "status"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name), strict=True)
    for name in ("target", "rival"):
        np.testing.assert_array_equal(
            getattr(found.answers, name), getattr(given.answers, name), strict=True
        )
    pairs = [
        (getattr(found, name), getattr(given, name)) for name in ("latency_s", "low_s", "high_s")
    ]
    pairs += [
        (getattr(found.answers, name), getattr(given.answers, name))
        for name in ("ratio", "ratio_low", "ratio_high")
    ]
    for mine, theirs in pairs:
        assert mine.dtype == np.float64
        # float32 has 24 bits: rounding moves a number by at most 2^-24 = 6e-8 of itself
        np.testing.assert_allclose(mine, theirs, rtol=2**-24, atol=0, equal_nan=True)


def test_a_curve_kept_before_rivals_were_named_comes_back_without(
    store: Store, sweep: Sweep
) -> None:
    given = create_curve()
    answers = replace(given.answers, rival=None)
    curve_id = store.finish_sweep(sweep.id, replace(given, answers=answers), state=SweepState.DONE)
    assert curve_id is not None
    found = store.load_curve(curve_id).answers
    assert found.rival is None
    # Targets are 0, 2, 2 and none: only the second point's answer is another point.
    assert found.find_rivals().tolist() == [-1, 2, -1, -1]


def test_curve_measured_on_a_platform_never_registered_is_kept(store: Store, sweep: Sweep) -> None:
    elsewhere = create_platform(threads=64)
    curve_id = store.finish_sweep(sweep.id, create_curve(platform=elsewhere), state=SweepState.DONE)
    assert curve_id is not None
    assert store.load_curve(curve_id).platform == elsewhere
    assert store.get_platform(elsewhere.key) == elsewhere


def test_sweep_ends_once(store: Store, sweep: Sweep) -> None:
    curve_id = store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    ended, generation = store.get_sweep(sweep.id), store.generation()
    assert store.finish_sweep(sweep.id, create_curve(), state=SweepState.CANCELLED) == curve_id
    assert store.finish_sweep(sweep.id, None, state=SweepState.FAILED) == curve_id
    store.fail_sweep(sweep.id, "too late")
    assert store.get_sweep(sweep.id) == ended
    assert store.generation() == generation
    assert len(store.list_curves().items) == 1


@pytest.mark.parametrize("state", [SweepState.DONE, SweepState.CANCELLED, SweepState.FAILED])
def test_sweep_may_end_without_a_curve(store: Store, sweep: Sweep, state: SweepState) -> None:
    assert store.finish_sweep(sweep.id, None, state=state) is None
    ended = store.get_sweep(sweep.id)
    assert (ended.state, ended.curve_id) == (state, None)
    # and stays without one
    assert store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE) is None
    assert store.list_curves().items == []


def test_no_sweep_ends_as_running(store: Store, sweep: Sweep) -> None:
    with pytest.raises(ValueError, match="running ends no sweep"):
        store.finish_sweep(sweep.id, create_curve(), state=SweepState.RUNNING)
    assert store.get_sweep(sweep.id) == sweep


@pytest.mark.parametrize(
    "fault",
    [
        # NaN is no JSON: PostgreSQL refuses it, so both do.
        {"evidence": Evidence(seconds=float("nan"))},
        # Which moment would a time without a zone be?
        {"measured_at": dt.datetime(2026, 3, 1)},  # noqa: DTZ001
    ],
)
def test_curve_that_cannot_be_kept_leaves_the_sweep_unfinished(
    store: Store, sweep: Sweep, fault: dict[str, Any]
) -> None:
    # raised by SQLAlchemy or by the driver
    with pytest.raises((sa.exc.StatementError, ValueError), match=r"JSON|time zone"):
        store.finish_sweep(sweep.id, replace(create_curve(), **fault), state=SweepState.DONE)
    assert store.get_sweep(sweep.id) == sweep
    assert store.generation() == 1  # the host's registration


def test_unknown_curve_is_a_typed_error(store: Store) -> None:
    with pytest.raises(UnknownCurveError):
        store.get_curve_header(NO_ID)
    with pytest.raises(UnknownCurveError):
        store.load_curve(NO_ID)


def test_curves_are_found_by_workload_platform_and_protocol_newest_first(
    store: Store, host: Host
) -> None:
    other = create_platform(threads=2)
    flushed = replace(PROTOCOL, cache="flushed")
    first = finish_new_sweep(store, create_curve(), start=1)
    finish_new_sweep(store, create_curve(platform=other), start=2)
    finish_new_sweep(store, create_curve(workload=MATMUL.describe({"batch": 1})), start=3)
    second = finish_new_sweep(store, create_curve(), start=4)
    last = finish_new_sweep(store, create_curve(protocol=flushed), start=5)
    asked = MATMUL.describe().key, create_platform().key
    assert [header.id for header in store.find_curves(*asked, PROTOCOL.key)] == [second, first]
    assert [header.id for header in store.find_curves(*asked, flushed.key)] == [last]
    assert store.find_newest_protocol(*asked) == flushed.key
    assert store.find_newest_protocol(MATMUL.describe().key, other.key) == PROTOCOL.key


def test_curves_kept_after_a_generation_are_found_whatever_their_clock_said(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = MATMUL.describe().key, create_platform().key, PROTOCOL.key
    first = finish_new_sweep(store, create_curve(), start=1)
    one = store.generation()
    late, _ = store.create_sweep(create_spec(start=2), host="east")
    # Made by a process whose clock is slow: the id sorts before all others.
    monkeypatch.setattr(rows, "create_id", lambda _now: "0" * 31 + "1")
    second = store.finish_sweep(late.id, create_curve(), state=SweepState.DONE)
    monkeypatch.undo()
    two = store.generation()
    third = finish_new_sweep(store, create_curve(), start=3)

    def ids(after_generation: int) -> list[str]:
        return [each.id for each in store.find_curves(*asked, after_generation=after_generation)]

    assert ids(-1) == [third, second, first]
    assert ids(one) == [third, second]
    assert ids(two) == [third]
    assert ids(store.generation()) == []


def test_curves_are_listed_by_kind_platform_and_host(store: Store, host: Host) -> None:
    other = create_platform(threads=2)
    store.register_host("west", other, protocol=PROTOCOL, dtypes=[])
    a = finish_new_sweep(store, create_curve(), start=1)
    b = finish_new_sweep(store, create_curve(workload=LINEAR.describe()), start=2)
    c = finish_new_sweep(store, create_curve(platform=other), start=3, host="west")

    def ids(page: Page[CurveHeader]) -> list[str]:
        assert page.next_cursor is None
        return [header.id for header in page.items]

    assert ids(store.list_curves()) == [c, b, a]
    assert ids(store.list_curves(CurveFilter(kind="matmul"))) == [c, a]
    assert ids(store.list_curves(CurveFilter(platform_key=create_platform().key))) == [b, a]
    assert ids(store.list_curves(CurveFilter(host="west"))) == [c]
    assert ids(store.list_curves(CurveFilter(kind="linear", host="west"))) == []


def test_lists_of_headers_never_read_arrays(store: Store, database_url: str, host: Host) -> None:
    curve_id = finish_new_sweep(store, create_curve(), start=1)
    engine = create_database_engine(parse_url(database_url))
    with engine.connect() as connection:
        connection.exec_driver_sql("DELETE FROM curve_arrays")
        connection.commit()
    engine.dispose()
    assert (
        store.find_curves(MATMUL.describe().key, create_platform().key, PROTOCOL.key)[0].id
        == curve_id
    )
    assert store.list_curves().items[0].id == curve_id
    with pytest.raises(UnknownCurveError):
        store.load_curve(curve_id)


def test_protocol_round_trips_with_every_field(store: Store, host: Host) -> None:
    protocol = TimingProtocol(timer="cuda_graph", cache="flushed", version=7)
    curve_id = finish_new_sweep(store, create_curve(protocol=protocol), start=1)
    assert store.load_curve(curve_id).protocol == protocol


def test_points_where_races_began_are_each_found_once(store: Store, sweep: Sweep) -> None:
    store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)  # a grid, from 8 as well
    key = MATMUL.describe().key, create_platform().key, PROTOCOL.key
    assert store.find_raced_points(*key, limit=9) == []
    for seed in (1, 2):
        race, _ = store.create_sweep(create_spec(mode="race", start=8, seed=seed), host="east")
        store.finish_sweep(race.id, create_curve(), state=SweepState.DONE)
    assert store.find_raced_points(*key, limit=9) == [(8,)]
    assert store.find_raced_points(*key, limit=0) == []
    assert store.find_raced_points("other", *key[1:], limit=9) == []
