"""Names of kernels are kept with their curve, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from profiler_service.analysis.samples import TimingProtocol
from profiler_service.errors import UnknownCurveError
from profiler_service.plan.spec import SweepState
from profiler_service.storage import kernel_names, roles, schema
from profiler_service.storage.kernel_names import names_from_json, names_to_json
from profiler_service.storage.store import Host, Store
from profiler_service.storage.tables import installation
from profiler_service.workload import Dims
from tests.databases import only_postgresql
from tests.storage.examples import (
    PROTOCOL,
    create_curve,
    create_platform,
    create_spec,
    finish_new_sweep,
)
from tests.storage.test_schema import connect, downgrade

NAMES: dict[Dims, str] = {(8,): "matmul jit", (9,): "matmul gemm:jit", (10,): "matmul jit"}
HERE = ("east", create_platform().key, PROTOCOL.key)


def test_names_are_found_by_their_curve(store: Store, host: Host) -> None:
    first, second, third = (
        finish_new_sweep(store, create_curve(), start=start) for start in (1, 20, 40)
    )
    assert store.keep_kernel_names(first, NAMES)
    assert store.keep_kernel_names(second, {})
    # Of the third, it isn't known whether its kernels have names.
    assert store.find_kernel_names([first, second, third]) == {first: NAMES, second: {}}
    assert store.find_kernel_names([third, "unknown"]) == {}
    assert store.find_kernel_names([]) == {}


def test_the_first_names_of_a_curve_stay(store: Store, host: Host) -> None:
    curve_id = finish_new_sweep(store, create_curve(), start=1)
    assert store.keep_kernel_names(curve_id, NAMES)
    before = store.generation()
    assert not store.keep_kernel_names(curve_id, {(8,): "another"})
    assert store.find_kernel_names([curve_id]) == {curve_id: NAMES}
    assert store.generation() == before


def test_answers_may_change_when_names_are_kept(store: Store, host: Host) -> None:
    curve_id = finish_new_sweep(store, create_curve(), start=1)
    before = store.generation()
    store.keep_kernel_names(curve_id, NAMES)
    assert store.generation() == before + 1
    # The curve itself is no new one.
    assert store.find_new_curves(after_generation=before, limit=9) == []


def test_an_unknown_curve_has_no_names(store: Store) -> None:
    with pytest.raises(UnknownCurveError):
        store.keep_kernel_names("unknown", NAMES)


def test_the_newest_curve_without_names_is_found(store: Store, host: Host) -> None:
    assert store.find_unnamed_curve(*HERE) is None
    ids = [finish_new_sweep(store, create_curve(), start=start) for start in (1, 20, 40)]
    assert store.find_unnamed_curve(*HERE) == ids[2]
    store.keep_kernel_names(ids[2], {})
    assert store.find_unnamed_curve(*HERE) == ids[1]
    store.keep_kernel_names(ids[0], NAMES)
    store.keep_kernel_names(ids[1], NAMES)
    assert store.find_unnamed_curve(*HERE) is None


def test_curves_that_this_worker_can_not_measure_again_are_not_found(
    store: Store, host: Host
) -> None:
    store.register_host("west", create_platform(), protocol=PROTOCOL, dtypes=[])
    finish_new_sweep(store, create_curve(), start=1, host="west")
    finish_new_sweep(store, create_curve(platform=create_platform(threads=2)), start=20)
    other = TimingProtocol(timer="another")
    finish_new_sweep(store, create_curve(protocol=other), start=40)
    assert store.find_unnamed_curve(*HERE) is None
    assert store.find_unnamed_curve("west", *HERE[1:]) is not None


def test_an_imported_curve_is_not_found(store: Store, host: Host) -> None:
    curve_id = finish_new_sweep(store, create_curve(), start=1)
    record = replace(store.read_record(curve_id), curve_id="f" * 32, sweep_id="e" * 32)
    assert store.import_curve(record)
    assert store.find_unnamed_curve(*HERE) == curve_id


def test_only_the_newest_curves_are_looked_through(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_names, "NEWEST", 1)
    ids = [finish_new_sweep(store, create_curve(), start=start) for start in (1, 20)]
    store.keep_kernel_names(ids[1], {})
    assert store.find_unnamed_curve(*HERE) is None


def test_curves_from_before_there_were_names_have_none(database_url: str) -> None:
    store = Store.open(database_url)
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
    curve_id = finish_new_sweep(store, create_curve(), start=1)
    store.keep_kernel_names(curve_id, NAMES)
    store.close()
    downgrade(database_url, "0023")
    schema.upgrade(database_url)
    store = Store.open(database_url)
    assert store.find_kernel_names([curve_id]) == {}
    assert store.find_unnamed_curve(*HERE) == curve_id
    assert store.keep_kernel_names(curve_id, NAMES)
    assert store.find_kernel_names([curve_id]) == {curve_id: NAMES}
    store.close()


@only_postgresql
def test_a_joined_host_s_role_may_keep_names_and_not_change_them(
    store: Store, host: Host, database_url: str
) -> None:
    sweep, _ = store.create_sweep(create_spec(), host="east")
    curve_id = store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    assert curve_id is not None
    with connect(database_url) as connection:
        value = connection.execute(sa.select(installation.c.value)).scalar_one()
        role, password = roles.create_role(connection, str(value))
    url = sa.make_url(database_url).set(username=role, password=password)
    its = url.render_as_string(hide_password=False)
    joined = Store.open(its)
    assert joined.keep_kernel_names(curve_id, NAMES)
    assert joined.find_unnamed_curve(*HERE) is None
    joined.close()
    with (
        pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
        connect(its) as connection,
    ):
        connection.execute(sa.text("UPDATE kernel_names SET names = '{}'"))


def test_each_name_is_stored_once() -> None:
    column = names_to_json({(16, 3): "b", (8, 3): "a", (9, 3): "b"})
    assert column == {"a": ["8,3"], "b": ["9,3", "16,3"]}
    assert names_from_json(column) == {(8, 3): "a", (9, 3): "b", (16, 3): "b"}
    assert names_from_json(names_to_json({})) == {}
