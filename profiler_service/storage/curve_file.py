"""Curves as Parquet files, with where they come from.

Between installations, a curve travels as one row. Any reader of Parquet can use such a file:
scalars and lists are columns, structures are JSON. What is read may come from anywhere, so every
value is checked before it becomes a curve. For programs that draw and compute, a file has one row
for each point; it is only written. Knows no database.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from profiler_service.analysis.curve import AnswerTable, LatencyCurve, PointStatus
from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.errors import LhpError
from profiler_service.host_name import check_host_name
from profiler_service.plan.modes import MODES, Mode
from profiler_service.plan.spec import RaceTerms, SweepSpec, grid_from_json
from profiler_service.storage.bounded_memory import bounded_memory
from profiler_service.storage.curve_record import CurveRecord
from profiler_service.workload import Workload

T = TypeVar("T")

FORMAT = 1
"""Raised when a reader of the earlier format couldn't read the file any more."""
MAX_GROUP_POINTS = 1_000_000
"""Curves of about so many points are written at once."""
MAX_GROUP_BYTES = 1 << 30
"""Larger parts aren't written, and not read: their memory is allocated at once."""
MAX_READ_BYTES = 2 << 30
"""Reading one curve may take no more memory."""

_F32, _I32 = pa.list_(pa.float32()), pa.list_(pa.int32())
_TEXTS = (
    *("curve_id", "sweep_id", "installation", "host", "kind", "params", "axes", "workload"),
    *("platform_key", "platform", "protocol_key", "protocol", "mode", "grid", "terms"),
    *("evidence", "failures"),
)
_TIME = pa.timestamp("us", tz="UTC")
_SCALARS = {"seed": pa.int64(), "budget_s": pa.float64(), "tau": pa.float64()}
_TIMES = ("created_at", "measured_at")
_FLOATS = ("latency_s", "low_s", "high_s")
_RATIOS = ("ratio", "ratio_low", "ratio_high")
_SCHEMA = pa.schema(
    {
        **dict.fromkeys(_TEXTS, pa.string()),
        **_SCALARS,
        **dict.fromkeys(_TIMES, _TIME),
        **dict.fromkeys((*_FLOATS, *_RATIOS), _F32),
        **dict.fromkeys(("num_samples", "target", "rival"), _I32),
        "status": pa.list_(pa.int8()),
    }
)


class ImportRefusedError(LhpError):
    """The file holds no curves that could be imported."""


def is_portable(mode: Mode) -> bool:
    """Whether a curve of that mode says all by itself: answers about kernels need the samples."""
    return MODES[mode].answers_for != "kernels"


def write_curves(file: Path, records: Iterable[CurveRecord]) -> int:
    """The number of curves written to `file`, which must not be there. Raises OSError."""
    metadata = {"lhp": json.dumps({"format": FORMAT})}
    part = file.parent / f".{file.name[:200]}.part"
    num_curves = num_points = 0
    rows: list[dict[str, Any]] = []
    try:
        with (
            file.open("xb"),
            _open_writer(part, _SCHEMA.with_metadata(metadata)) as writer,
        ):
            for record in records:
                rows.append(_to_row(record))
                num_curves += 1
                num_points += record.curve.grid.size
                if num_points >= MAX_GROUP_POINTS:
                    writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))
                    rows, num_points = [], 0
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))
        part.replace(file)
    except FileExistsError:
        raise
    except BaseException:
        file.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
        raise
    return num_curves


def write_points(points: pa.Table) -> bytes:
    """A Parquet file of these points, one a row, with the metadata of their schema."""
    sink = pa.BufferOutputStream()
    with _open_writer(sink, points.schema) as writer:
        writer.write_table(points)
    return bytes(sink.getvalue())


def _open_writer(where: Path | pa.NativeFile, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(where, schema, compression="zstd", write_page_checksum=True)


def read_curves(file: Path) -> Iterator[CurveRecord]:
    """The curves of the file, each checked. Raises ImportRefusedError, OSError if it can't be read.

    It holds one curve in memory at a time.
    """
    curve_of: dict[str, str] = {}
    with file.open("rb") as opened:
        with _refusing(file):
            parquet = pq.ParquetFile(opened, page_checksum_verification=True)
            _check_format(parquet, file)
        for row in _read_rows(parquet, file):
            with _refusing(file, curve=row["curve_id"]), bounded_memory(MAX_READ_BYTES):
                record = _from_row(row)
                if curve_of.setdefault(record.sweep_id, record.curve_id) != record.curve_id:
                    raise ValueError("another curve of the file is of the same sweep")
            yield record


def _read_rows(parquet: Any, file: Path) -> Iterator[dict[str, Any]]:
    """Column → value, of each row. Lists of numbers become arrays."""
    for group in range(parquet.num_row_groups):
        with _refusing(file):
            if parquet.metadata.row_group(group).total_byte_size > MAX_GROUP_BYTES:
                raise ValueError("a part of it is too large")
            # One at a time: equal values of many rows take their room in a file only once.
            batches = parquet.iter_batches(
                batch_size=1, row_groups=[group], columns=_SCHEMA.names, use_threads=False
            )
        while True:
            with _refusing(file), bounded_memory(MAX_READ_BYTES):
                batch = next(batches, None)
                rows = [] if batch is None else [_read_row(batch, n) for n in range(len(batch))]
            yield from rows
            if batch is None:
                break


def _read_row(batch: Any, position: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        value = column[position]
        if not pa.types.is_list(column.type) or not value.is_valid:
            row[name] = value.as_py()
        elif value.values.null_count:
            raise ValueError(f"{name} has no number somewhere")
        else:
            row[name] = value.values.to_numpy()
    return row


@contextlib.contextmanager
def _refusing(file: Path, curve: object = None) -> Iterator[None]:
    """Turns whatever is wrong with the file into ImportRefusedError."""
    try:
        yield
    except ImportRefusedError:
        raise
    except (pa.ArrowException, LhpError, ArithmeticError, AssertionError, AttributeError) as error:
        raise _refuse(file, curve, error) from error
    except (LookupError, MemoryError, OSError, RecursionError, TypeError, ValueError) as error:
        raise _refuse(file, curve, error) from error


def _refuse(file: Path, curve: object, error: BaseException) -> ImportRefusedError:
    which = f"curve {str(curve)[:40]!r} of {file}" if curve else str(file)
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return ImportRefusedError(
        f"{which} can't be imported: {reason}",
        hint="the file is damaged, or `lhp db export` didn't make it; nothing of it was imported",
    )


def _check_format(parquet: Any, file: Path) -> None:
    """Returns if the file says that it is of this format, with its columns."""
    metadata = parquet.schema_arrow.metadata or {}
    if b"lhp" not in metadata:
        raise ImportRefusedError(
            f"{file} is a Parquet file, but not of curves",
            hint="give a file that `lhp db export` has made",
        )
    found = json.loads(metadata[b"lhp"])["format"]
    if found != FORMAT:
        raise ImportRefusedError(
            f"{file} has format {str(found)[:20]}, and this version reads {FORMAT}",
            hint="install the version that made it, or export it anew with this one",
        )
    for column in _SCHEMA:
        there = parquet.schema_arrow.field(column.name)
        if there.type != column.type:
            raise ValueError(f"column {column.name} is {there.type}, not {column.type}")


def _to_row(record: CurveRecord) -> dict[str, Any]:
    curve, answers = record.curve, record.curve.answers
    return {
        **{
            name: json.dumps(value) if isinstance(value, dict | list) else value
            for name, value in record.describe().items()
        },
        "created_at": record.created_at,
        "measured_at": curve.measured_at,
        **{name: getattr(curve, name).astype(np.float32) for name in _FLOATS},
        **{name: getattr(answers, name).astype(np.float32) for name in _RATIOS},
        "num_samples": curve.num_samples,
        "status": curve.status,
        "target": answers.target,
        "rival": answers.rival,
    }


def _from_row(row: Mapping[str, Any]) -> CurveRecord:
    """The record in a row. Raises whatever `_refusing` turns into ImportRefusedError."""
    for name in ("curve_id", "sweep_id"):
        if re.fullmatch("[0-9a-f]{32}", row[name]) is None:
            raise ValueError(f"{row[name][:40]!r} is no id")
    if re.fullmatch("[0-9a-f]{8}", row["installation"]) is None:
        raise ValueError("the installation isn't named")
    if row["mode"] not in MODES:
        raise ValueError(f"there is no mode {row['mode'][:40]!r}")
    mode: Mode = row["mode"]
    if not is_portable(mode):
        raise ValueError(f"answers of the mode {mode} aren't in their curves")
    params = _load(row["params"])
    workload = Workload(
        kind=_load(json.dumps(row["kind"])),
        params=tuple(sorted((str(name), _param(value)) for name, value in params.items())),
        axes=tuple(str(axis) for axis in _load(row["axes"])),
    )
    platform = _check_types(Platform.from_json(_load(row["platform"])))
    protocol = _check_types(TimingProtocol(**_load(row["protocol"])))
    for column, key in (
        ("workload", workload.key),
        ("platform_key", platform.key),
        ("protocol_key", protocol.key),
    ):
        if row[column] != key:
            raise ValueError(f"its {column} is {row[column][:40]!r}, and what it describes {key!r}")
    axes = _load(row["grid"])
    if not all(type(number) is int for axis in axes for number in axis):
        raise ValueError("its grid has other things than whole numbers")
    grid = grid_from_json(axes)
    size = grid.size

    def read(name: str, dtype: Any) -> Any:
        array = np.array(row[name], dtype=dtype)
        if array.shape != (size,):
            raise ValueError(f"{name} has {array.size} values, and the grid {size} points")
        return array

    curve = LatencyCurve(
        workload=workload,
        platform=platform,
        protocol=protocol,
        grid=grid,
        **{name: read(name, np.float32).astype(np.float64) for name in _FLOATS},
        num_samples=read("num_samples", np.int32),
        status=read("status", np.int8),
        answers=AnswerTable(
            target=read("target", np.int32),
            **{name: read(name, np.float32).astype(np.float64) for name in _RATIOS},
            rival=None if row["rival"] is None else read("rival", np.int32),
        ),
        measured_at=_time(row["measured_at"]),
        failures={int(k): str(v) for k, v in _load(row["failures"]).items()},
        evidence=Evidence.from_json(_load(row["evidence"])),
    )
    _check_values(curve)
    return CurveRecord(
        curve_id=row["curve_id"],
        sweep_id=row["sweep_id"],
        installation=row["installation"],
        host=check_host_name(row["host"]),
        spec=SweepSpec(
            workload=workload,
            mode=mode,
            grid=grid,
            seed=int(row["seed"]),
            budget_s=_finite(row["budget_s"]),
            terms=_check_types(RaceTerms(**_load(row["terms"]))),
            tau=_finite(row["tau"]),
        ),
        created_at=_time(row["created_at"]),
        curve=curve,
    )


def _load(text: str) -> Any:
    """The value of a JSON text. Raises ValueError, also for what no database keeps."""
    value = json.loads(text, parse_constant=_finite, parse_float=_finite)
    if "\\u" in text:
        if re.search(r"(?<!\\)(\\\\)*\\u0000", text):
            raise ValueError("a text has a NUL character")
        json.dumps(value, ensure_ascii=False).encode()  # raises for half a character
    return value


def _finite(number: str | float | None) -> float | None:
    if number is None:
        return None
    if not math.isfinite(float(number)):
        raise ValueError(f"{number} is no finite number")
    return float(number)


_TYPES: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "str": (str,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
}


def _check_types(value: T) -> T:
    """The dataclass, if its plain fields have the types that they are declared with."""
    for each in dataclasses.fields(value):  # type: ignore[arg-type]
        found = getattr(value, each.name)
        if type(found) not in _TYPES.get(str(each.type), (type(found),)):
            raise ValueError(f"{each.name} is no {each.type}")
    return value


def _param(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a parameter is neither a whole number nor text")
    return value


def _time(value: dt.datetime) -> dt.datetime:
    if value.tzinfo is None or not 2000 <= value.year < 9999:
        raise ValueError(f"{value} is no time of a measurement")
    return value


def _check_values(curve: LatencyCurve) -> None:
    """Returns if the arrays can be those of a curve. Raises ValueError."""
    size = curve.grid.size
    latency_s = curve.latency_s[curve.num_samples > 0]
    targets = curve.answers.target
    if not (np.isfinite(latency_s).all() and (latency_s > 0).all()):
        raise ValueError("a latency isn't a positive number")
    if (curve.num_samples < 0).any() or not np.isin(curve.status, list(PointStatus)).all():
        raise ValueError("a point has no such number of samples, or no such status")
    for points in (targets, curve.answers.find_rivals(), np.array(list(curve.failures), dtype=int)):
        if ((points < -1) | (points >= size)).any():
            raise ValueError("a point is outside the grid")
