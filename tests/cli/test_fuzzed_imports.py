"""`lhp db import` of damaged and foreign files: all curves, or an error and none."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler_service.cli.app import run
from profiler_service.processes.exit_codes import DONE, FAILED
from profiler_service.storage.curve_file import write_curves
from profiler_service.storage.curve_record import CurveRecord
from tests.cli.test_fuzzed_arguments import FUZZED
from tests.storage.examples import create_curve, create_platform, create_spec

NUM_CURVES = 2


def create_record(number: int) -> CurveRecord:
    """A curve of another installation; equal numbers give equal curves."""
    return CurveRecord(
        curve_id=f"{number:032x}",
        sweep_id=f"{number + 16:032x}",
        installation="feedbeef",
        host="east",
        spec=create_spec(start=8),
        created_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        curve=create_curve(platform=create_platform(threads=number)),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of two curves."""
    file = tmp_path_factory.mktemp("there") / "curves.parquet"
    write_curves(file, [create_record(number) for number in range(1, 1 + NUM_CURVES)])
    return file.read_bytes()


def to_bytes(table: Any) -> bytes:
    written = io.BytesIO()
    pq.write_table(table, written)
    return written.getvalue()


FOREIGN = to_bytes(pa.table({"price": [1.0, 2.0], "curve_id": ["a", "b"]}))
TYPES = st.sampled_from(
    [
        *(pa.int8(), pa.int64(), pa.float64(), pa.bool_(), pa.string(), pa.large_string()),
        *(pa.binary(), pa.null(), pa.date32(), pa.timestamp("ns"), pa.decimal128(9, 2)),
        *(pa.list_(pa.string()), pa.list_(pa.float64()), pa.struct([("a", pa.int8())])),
        *(pa.map_(pa.string(), pa.int8()), pa.dictionary(pa.int8(), pa.string())),
    ]
)


def damage_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        damaged[draw(st.integers(0, len(damaged) - 1))] ^= draw(st.integers(1, 255))
    return bytes(damaged)


def replace_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    begin, length = draw(st.integers(0, len(content))), draw(st.integers(0, 40))
    return content[:begin] + draw(st.binary(max_size=40)) + content[begin + length :]


def cut(draw: st.DrawFn, content: bytes) -> bytes:
    end = draw(st.integers(0, len(content)))
    return draw(st.sampled_from([content[:end], content[end:], content[:end] + content[-8:]]))


def join(draw: st.DrawFn, content: bytes) -> bytes:
    parts = st.sampled_from([content, FOREIGN, b"PAR1", b"dims,batch\n", b""])
    return b"".join(draw(st.lists(parts, max_size=3)))


def change_column(draw: st.DrawFn, content: bytes) -> bytes:
    table = pq.read_table(io.BytesIO(content))
    name = draw(st.sampled_from(table.schema.names))
    position = table.schema.names.index(name)
    column = table.column(name)
    kind = draw(st.sampled_from(["dropped", "renamed", "twice", "of another type", "of nulls"]))
    if kind == "dropped":
        changed = table.drop_columns([name])
    elif kind == "renamed":
        changed = table.rename_columns([each + "_" * (each == name) for each in table.schema.names])
    elif kind == "twice":
        changed = table.append_column(name, column)
    else:
        to = column.type if kind == "of nulls" else draw(TYPES)
        other = pa.nulls(len(table), to)
        if kind == "of another type":
            with contextlib.suppress(pa.ArrowException):
                other = column.cast(to)
        changed = table.set_column(position, name, other)
    return to_bytes(changed)


def change_rows(draw: st.DrawFn, content: bytes) -> bytes:
    table = pq.read_table(io.BytesIO(content))
    rows = draw(st.lists(st.integers(0, len(table) - 1), max_size=4))
    return to_bytes(table.take(pa.array(rows, pa.int64())))


def change_metadata(draw: st.DrawFn, content: bytes) -> bytes:
    table = pq.read_table(io.BytesIO(content))
    formats = st.sampled_from(["", "{}", "[]", "1", '{"format": "1"}', '{"format": 1}', "\0"])
    said = draw(st.none() | formats)
    return to_bytes(table.replace_schema_metadata(None if said is None else {"lhp": said}))


DAMAGES = (
    *(damage_bytes, replace_bytes, cut, join),
    *(change_column, change_rows, change_metadata),
)


def count_curves(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM curves").fetchall()
    return int(count)


@settings(FUZZED, max_examples=60)
@given(data=st.data())
def test_a_damaged_file_is_imported_as_a_whole_or_refused(
    whole: bytes,
    migrated_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    data: st.DataObject,
) -> None:
    draw: Any = data.draw
    database = shutil.copyfile(migrated_file, tmp_path / "lhp.sqlite")
    monkeypatch.setenv("LHP_DATABASE_URL", f"sqlite:///{database}")
    file = tmp_path / "damaged.parquet"
    file.write_bytes(draw(st.sampled_from(DAMAGES))(draw, whole))

    code = run(["db", "import", str(file)])  # what it raises would be a traceback
    _, err = capfd.readouterr()
    assert "Traceback" not in err
    count = count_curves(database)
    if code == DONE:
        assert err.startswith(f"curves imported: {count}; here already: ")
    else:
        assert (code, count) == (FAILED, 0)
        assert err.startswith("error: ") and "\nhint: " in err


@pytest.mark.parametrize("what", ["measured in the future", "of the same sweep"])
def test_what_is_wrong_with_the_last_curve_keeps_out_the_first(
    migrated_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    what: str,
) -> None:
    first, last = create_record(1), create_record(2)
    if what == "of the same sweep":
        last = replace(last, sweep_id=first.sweep_id)
    else:
        late = dt.datetime(2500, 1, 1, tzinfo=dt.UTC)
        last = replace(last, curve=replace(last.curve, measured_at=late))
    write_curves(tmp_path / "curves.parquet", [first, last])
    database = shutil.copyfile(migrated_file, tmp_path / "lhp.sqlite")
    monkeypatch.setenv("LHP_DATABASE_URL", f"sqlite:///{database}")
    assert run(["db", "import", str(tmp_path / "curves.parquet")]) == FAILED
    assert what.removeprefix("measured ") in capfd.readouterr().err
    assert count_curves(database) == 0


def test_a_whole_file_is_imported(
    whole: bytes, migrated_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = shutil.copyfile(migrated_file, tmp_path / "lhp.sqlite")
    monkeypatch.setenv("LHP_DATABASE_URL", f"sqlite:///{database}")
    (tmp_path / "curves.parquet").write_bytes(whole)
    assert run(["db", "import", str(tmp_path / "curves.parquet")]) == DONE
    assert count_curves(database) == NUM_CURVES
