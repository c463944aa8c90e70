"""Curves leave and enter as Parquet, with where they come from."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.errors import ConflictError, StoreNotWritableError
from profiler_service.plan.spec import SweepState
from profiler_service.storage.curve_file import (
    ImportRefusedError,
    read_curves,
    write_curves,
)
from profiler_service.storage.curve_record import CurveRecord
from profiler_service.storage.store import CurveFilter, HostStatus, Store
from profiler_service.storage.tables import curves
from profiler_service.workload import Workload
from tests.conftest import new_database
from tests.storage.examples import PROTOCOL, create_curve, create_platform, create_spec
from tests.storage.test_schema import connect

HERE = "0123abcd"
THERE = "feedbeef"


def set_installation(url: str, value: str) -> None:
    # The tests' databases are copies of one, so they say that they are one installation.
    with connect(url) as connection:
        connection.execute(sa.text(f"UPDATE installation SET value = '{value}'"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Path:
    """Two curves of equal grids and workloads on two platforms, from another installation."""
    directory = tmp_path_factory.mktemp("there")
    url = f"sqlite:///{shutil.copyfile(migrated_file, directory / 'there.sqlite')}"
    set_installation(url, THERE)
    with closing(Store.open(url)) as store:
        for threads, mode in ((1, "grid"), (2, "race")):
            platform = create_platform(threads=threads)
            store.register_host("east", platform, protocol=PROTOCOL, dtypes=[])
            spec = create_spec(start=8, mode=mode)  # type: ignore[arg-type]
            sweep, _ = store.create_sweep(spec, host="east")
            store.finish_sweep(sweep.id, create_curve(platform=platform), state=SweepState.DONE)
        headers = store.list_curves().items
        write_curves(directory / "curves.parquet", [store.read_record(h.id) for h in headers])
    return directory / "curves.parquet"


@pytest.fixture
def here(store: Store, database_url: str) -> Store:
    """An installation with a host of the same name, and no curve."""
    set_installation(database_url, HERE)
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=["float32"])
    return store


def import_all(store: Store, file: Path) -> list[bool]:
    return [store.import_curve(record) for record in read_curves(file)]


def test_imported_curves_keep_their_values_and_where_they_are_from(
    here: Store, file: Path, database_url: str
) -> None:
    generation = here.generation()
    assert import_all(here, file) == [True, True]
    expected = create_curve()
    for header, threads in zip(here.list_curves().items, (2, 1), strict=True):
        platform = create_platform(threads=threads)
        assert header.platform_key == platform.key
        assert header.host == f"east ({THERE}/{platform.key})"
        assert (header.measured_at, header.evidence) == (expected.measured_at, expected.evidence)
        assert header.generation > generation
        curve = here.load_curve(header.id)
        assert curve.platform == platform
        for name in ("latency_s", "low_s", "high_s", "num_samples", "status"):
            # The store rounds to float32.
            np.testing.assert_allclose(getattr(curve, name), getattr(expected, name), rtol=1e-6)
        np.testing.assert_array_equal(curve.answers.target, expected.answers.target)
        assert curve.failures == expected.failures
        # They came without raw samples, and say so.
        with pytest.raises(ConflictError, match="pruned"):
            here.load_batches(header.sweep_id)
        assert here.get_host(header.host).status is HostStatus.RETIRED
    with connect(database_url) as connection:
        for origin in connection.scalars(sa.select(curves.c.origin)):
            assert (origin["installation"], origin["host"]) == (THERE, "east")
            assert dt.datetime.fromisoformat(origin["imported_at"]).tzinfo is not None
    # The host of that name that is here measured nothing of it.
    assert here.list_curves(CurveFilter(host="east")).items == []


def test_curves_of_two_platforms_stay_apart(here: Store, file: Path) -> None:
    import_all(here, file)
    for threads, raced_from in ((1, None), (2, (8,))):
        key = create_platform(threads=threads).key
        workload = create_curve().workload.key
        assert len(here.find_curves(workload, key, PROTOCOL.key)) == 1
        assert len(here.find_answering(workload, key, PROTOCOL.key, raced_from, limit=9)) == 1


def test_a_second_import_changes_nothing(here: Store, file: Path) -> None:
    import_all(here, file)
    generation = here.generation()
    before = [header.id for header in here.list_curves().items]
    assert import_all(here, file) == [False, False]
    assert [header.id for header in here.list_curves().items] == before
    assert here.generation() == generation
    assert len(here.list_hosts()) == 3


def test_an_exported_import_still_says_who_measured_it(
    here: Store, file: Path, tmp_path: Path
) -> None:
    import_all(here, file)
    records = [here.read_record(header.id) for header in here.list_curves().items]
    assert write_curves(tmp_path / "again.parquet", records) == 2
    again = list(read_curves(tmp_path / "again.parquet"))
    assert {(each.installation, each.host) for each in again} == {(THERE, "east")}


def test_own_curves_come_back_under_their_host(here: Store, file: Path, database_url: str) -> None:
    set_installation(database_url, THERE)  # such as after a backup was restored
    import_all(here, file)
    assert {header.host for header in here.list_curves().items} == {"east"}
    with connect(database_url) as connection:
        for origin in connection.scalars(sa.select(curves.c.origin)):
            # The file only says so: what came in stays recognisable.
            assert (origin["installation"], origin["host"]) == (THERE, "east")


def test_no_file_is_written_over(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(FileExistsError):
        write_curves(file, read_curves(file))
    assert file.read_bytes() == before


def broken_records(record: CurveRecord) -> Iterator[CurveRecord]:
    raise OSError("no space left")
    yield record


def test_a_failed_export_leaves_no_file(tmp_path: Path, file: Path) -> None:
    with pytest.raises(OSError, match="no space"):
        write_curves(tmp_path / "new.parquet", broken_records(next(read_curves(file))))
    assert list(tmp_path.iterdir()) == []


def change(file: Path, changed: Path, /, **values: Any) -> Path:
    """The file with other values in its first row."""
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows[0] |= values
    pq.write_table(pa.Table.from_pylist(rows, table.schema), changed)
    return changed


OTHER = json.dumps(create_platform(threads=7).to_json())
FAR = dt.datetime(2500, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "values",
    [
        {"platform": OTHER},
        {"workload": "matmul[batch=1]"},
        {"protocol_key": "other"},
        {"latency_s": [1e-5]},
        {"latency_s": [-1.0, 1.0, 1.0, 1.0]},
        {"latency_s": [float("nan")] * 4},
        {"status": [9, 1, 1, 1]},
        {"target": [0, 4, 0, 0]},
        {"mode": "guess"},
        {"mode": "kernels"},
        {"grid": "[[8, 1000000000000, 1]]"},
        {"grid": "[" * 100_000},
        {"evidence": '{"unknown": 1}'},
        {"failures": '{"0": "a\\u0000b"}'},
        {"failures": '{"0": "\\ud800"}'},
        {"curve_id": "../../etc"},
        {"host": "\x1b[31m"},
        {"host": None},
        {"seed": None},
        {"measured_at": None},
    ],
    ids=lambda values: "-".join(values),
)
def test_a_curve_that_contradicts_itself_is_refused(
    file: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    with pytest.raises(ImportRefusedError, match="can't be imported") as caught:
        list(read_curves(change(file, tmp_path / "changed.parquet", **values)))
    assert "lhp db export" in caught.value.hint


def test_a_curve_from_the_future_is_refused(here: Store, file: Path, tmp_path: Path) -> None:
    with pytest.raises(ImportRefusedError, match="in the future"):
        import_all(here, change(file, tmp_path / "future.parquet", measured_at=FAR))
    assert here.list_curves().items == []


def test_foreign_files_and_other_formats_are_named(file: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"price": [1.0]}), foreign)
    with pytest.raises(ImportRefusedError, match="not of curves"):
        list(read_curves(foreign))
    table = pq.read_table(file).replace_schema_metadata({"lhp": '{"format": 99}'})
    pq.write_table(table, foreign)
    with pytest.raises(ImportRefusedError, match="format 99"):
        list(read_curves(foreign))
    for content in (b"", b"PAR1", b"not a table\n" * 99, file.read_bytes()[:-40]):
        foreign.write_bytes(content)
        with pytest.raises(ImportRefusedError, match="can't be imported"):
            list(read_curves(foreign))


def test_an_import_into_a_read_only_database_can_be_repeated(
    migrated_postgres_url: str, file: Path
) -> None:
    name = sa.make_url(migrated_postgres_url).database
    for setting, works in (("on", False), ("off", True)):
        with connect(migrated_postgres_url) as connection:
            connection.execute(sa.text("SET TRANSACTION READ WRITE"))
            connection.execute(
                sa.text(f"ALTER DATABASE {name} SET default_transaction_read_only = {setting}")
            )
        with closing(Store.open(migrated_postgres_url)) as store:
            if works:
                assert import_all(store, file) == [True, True]
            else:
                with pytest.raises(StoreNotWritableError):
                    import_all(store, file)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def scratch(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, migrated_file: Path
) -> Iterator[Store]:
    """A store that fuzzed curves may enter. PostgreSQL refuses values that SQLite keeps."""
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite":
            path = shutil.copyfile(migrated_file, tmp_path_factory.mktemp("fuzz") / "lhp.sqlite")
            url = f"sqlite:///{path}"
        else:
            server, template = map(request.getfixturevalue, ("postgres_url", "migrated_postgres"))
            url = stack.enter_context(new_database(server, f"TEMPLATE {template}"))
        yield stack.enter_context(closing(Store.open(url)))


def check_no_traceback(store: Store, file: Path) -> None:
    """Importing the file works or is refused: it raises nothing else."""
    with contextlib.suppress(ImportRefusedError):
        for record in read_curves(file):
            store.import_curve(record)


FUZZED = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["a\0b", "\ud800"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
TEXT = st.none() | st.text(max_size=20) | JSON.map(json.dumps)
IDS = st.uuids().map(lambda each: each.hex)
BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXT,
    "int64": st.none() | st.integers(-(2**63), 2**63 - 1),
    "double": st.one_of(st.none(), st.floats()),
    "list": st.none() | st.lists(st.integers(-128, 127) | st.none(), max_size=6),
    "timestamp": st.one_of(st.none(), st.datetimes(timezones=st.just(dt.UTC))),
}


def forge(text: str, data: st.DataObject) -> str:
    """The JSON with one of its values, or its members, replaced."""
    value = json.loads(text)
    if isinstance(value, dict):
        name = data.draw(st.sampled_from([*value, "new"]))
        value[name] = data.draw(JSON)
    else:
        value.append(data.draw(JSON))
        value = data.draw(st.permutations(value))
    return json.dumps(value)


@FUZZED
@given(data=st.data())
def test_forged_structures_end_in_no_traceback(
    scratch: Store, file: Path, tmp_path: Path, data: st.DataObject
) -> None:
    row = pq.read_table(file).to_pylist()[0]
    columns = ["params", "axes", "platform", "protocol", "grid", "terms", "evidence", "failures"]
    name = data.draw(st.sampled_from(columns))
    values = {"curve_id": data.draw(IDS), "sweep_id": data.draw(IDS), name: forge(row[name], data)}
    # Forgers would make the keys fit.
    with contextlib.suppress(Exception):
        params = sorted(json.loads(values.get("params", row["params"])).items())
        values["workload"] = Workload(kind=row["kind"], params=tuple(params), axes=()).key
        platform = json.loads(values.get("platform", row["platform"]))
        values["platform_key"] = Platform.from_json(platform).key
        protocol = json.loads(values.get("protocol", row["protocol"]))
        values["protocol_key"] = TimingProtocol(**protocol).key
    check_no_traceback(scratch, change(file, tmp_path / "forged.parquet", **values))


@FUZZED
@given(data=st.data())
def test_forged_values_end_in_no_traceback(
    scratch: Store, file: Path, tmp_path: Path, data: st.DataObject
) -> None:
    schema = pq.read_schema(file)
    names = data.draw(st.sets(st.sampled_from(schema.names), min_size=1, max_size=3))
    values: dict[str, Any] = {}
    for name in names:
        kind = str(schema.field(name).type)
        values[name] = data.draw(next(s for key, s in BY_TYPE.items() if kind.startswith(key)))
    # New ids, so that what is accepted is also stored.
    for name in {"curve_id", "sweep_id"} - names:
        values[name] = data.draw(IDS)
    check_no_traceback(scratch, change(file, tmp_path / "forged.parquet", **values))


def test_platforms_are_rebuilt_exactly(file: Path) -> None:
    platforms = [record.curve.platform for record in read_curves(file)]
    assert platforms == [create_platform(threads=2), create_platform(threads=1)]
    assert all(isinstance(each, Platform) for each in platforms)


@contextlib.contextmanager
def counting_pool() -> Iterator[pa.MemoryPool]:
    """In this context, Arrow takes its memory from this pool."""
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        yield pool
    finally:
        pa.set_memory_pool(before)


def test_equal_texts_of_many_curves_take_their_memory_once(file: Path, tmp_path: Path) -> None:
    # 64 rows with the same text of 4 MiB: the file has it once, in its dictionary.
    failures = json.dumps({"0": "x" * (4 << 20)})
    one = pq.read_table(change(file, tmp_path / "one.parquet", failures=failures)).slice(0, 1)
    bomb = tmp_path / "bomb.parquet"
    pq.write_table(
        pa.concat_tables([one] * 64), bomb, compression="zstd", dictionary_pagesize_limit=1 << 30
    )
    assert pq.read_metadata(bomb).num_row_groups == 1 and bomb.stat().st_size < 1 << 20
    with counting_pool() as pool:
        assert sum(1 for _ in read_curves(bomb)) == 64
        # All at once would be 64 · 4 MiB = 256 MiB.
        assert pool.max_memory() < 64 << 20


def test_a_curve_that_expands_without_bound_is_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 400 MB of zeros, which take some kilobytes in the file: more than what this process has mapped
    # for earlier tests, and may use again without more memory.
    zeros = np.zeros(100_000_000, dtype=np.float32)
    bomb = change(file, tmp_path / "bomb.parquet", latency_s=zeros)
    assert bomb.stat().st_size < 1 << 20
    monkeypatch.setattr("profiler_service.storage.curve_file.MAX_READ_BYTES", 48 << 20)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(ImportRefusedError, match="emory"):
        list(read_curves(bomb))
    assert resource.getrlimit(resource.RLIMIT_AS) == before
