"""Times are the database's: a machine whose clock is wrong stores right ones."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from contextlib import closing

import pytest
import sqlalchemy as sa

from profiler_service.answering.host_states import is_present
from profiler_service.errors import HostTakenError
from profiler_service.plan.spec import SweepState
from profiler_service.storage.store import Store
from profiler_service.storage.tables import hosts
from tests.storage.examples import (
    PROGRESS,
    PROTOCOL,
    create_curve,
    create_platform,
    create_samples,
    create_spec,
)
from tests.storage.test_leases import identity
from tests.storage.test_schema import connect

postgresql_only = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
"""SQLite's clock is that of the one machine that its file is on."""
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture(params=[-2, 2], ids=["slow", "fast"])
def set_clock(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """Sets this process's clock, but not the database's, two hours back or ahead."""
    offset = dt.timedelta(hours=request.param)
    real = dt.datetime

    class Shifted(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            return real.now(tz) + offset

    def shift() -> None:
        real_time, real_time_ns = time.time, time.time_ns
        seconds = offset.total_seconds()
        monkeypatch.setattr(dt, "datetime", Shifted)
        monkeypatch.setattr(time, "time", lambda: real_time() + seconds)
        monkeypatch.setattr(time, "time_ns", lambda: real_time_ns() + int(seconds) * 10**9)

    return shift


@postgresql_only
def test_a_host_whose_clock_is_wrong_is_present_while_it_lives_and_no_longer(
    store: Store, database_url: str, set_clock: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock()
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
    store.touch_host("east")
    host = store.get_host("east")
    assert is_present(host, presence_s=15)
    monkeypatch.undo()  # as a service elsewhere sees it
    for host in (store.get_host("east"), *store.list_hosts()):
        assert is_present(host, presence_s=15)
        assert abs(dt.datetime.now(dt.UTC) - host.last_seen_at) < MINUTE
    with connect(database_url) as connection:  # sixteen seconds later
        connection.execute(
            sa.update(hosts).values(last_seen_at=host.last_seen_at - dt.timedelta(seconds=16))
        )
    assert not is_present(store.get_host("east"), presence_s=15)


@postgresql_only
def test_a_lease_lasts_as_long_whatever_clock_its_holder_has(
    database_url: str, set_clock: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock()
    with closing(Store.open(database_url, worker=identity("one"))) as one:
        one.take_lease("east")
        one.renew_lease("east")
    monkeypatch.undo()
    with (
        closing(Store.open(database_url, worker=identity("two"))) as two,
        pytest.raises(HostTakenError),
    ):
        two.take_lease("east")


@postgresql_only
def test_every_time_of_a_sweep_and_its_curve_is_the_databases(
    store: Store, set_clock: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
    earlier, _ = store.create_sweep(create_spec(start=1), host="east")
    set_clock()
    sweep, _ = store.create_sweep(create_spec(start=2), host="east")
    store.start_sweep(sweep.id)
    store.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
    curve_id = store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    monkeypatch.undo()
    later, _ = store.create_sweep(create_spec(start=3), host="east")
    after = store.finish_sweep(later.id, create_curve(), state=SweepState.DONE)

    ended = store.get_sweep(sweep.id)
    times = ended.created_at, ended.started_at, ended.finished_at
    for moment in (*times, store.last_measured_at(sweep.id)):
        assert moment is not None and abs(dt.datetime.now(dt.UTC) - moment) < MINUTE
    # Lists are in the order in which things happened.
    listed = store.list_sweeps(oldest_first=True).items
    assert [each.id for each in listed] == [earlier.id, sweep.id, later.id]
    assert [each.id for each in store.list_curves().items] == [after, curve_id]


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_heartbeat_by_the_clock_of_an_older_version_is_no_sign_of_life(
    store: Store, database_url: str, hours: int
) -> None:
    """Older versions stored the time of the host's own clock, which was wrong by two hours."""
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
    seen = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)
    with connect(database_url) as connection:
        connection.execute(sa.update(hosts).values(last_seen_at=seen))
    assert not is_present(store.get_host("east"), presence_s=15)
    store.touch_host("east")
    assert is_present(store.get_host("east"), presence_s=15)
