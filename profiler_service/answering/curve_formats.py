"""Writes curves as JSON, CSV, Arrow and Parquet; in chunks, because curves may be large.

Knows neither HTTP nor the store. Every format has the same rows: the measured points in row-major
order, or those of them that were chosen. The columns are the dims, then latency_s, low_s, high_s,
num_samples, status. Then comes the rival, which is the best larger point found: its dims (rival_…
for each axis; in JSON one list), ratio, ratio_low, ratio_high. An unknown value is null (empty in
CSV): for example an interval from too few samples, or the rival of the largest point. Arrow and
Parquet can also say where the curve comes from: as JSON in the metadata of their schema, under
ABOUT.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv

from profiler_service.analysis.curve import F64, LatencyCurve, PointStatus
from profiler_service.analysis.lhp import hysteresis_bins
from profiler_service.answering.downsampling import Numbers
from profiler_service.storage.curve_file import write_points
from profiler_service.wire import BinInfo, CurveDetail, CurveInfo, FailedPoint, KernelPoints

CHUNK_POINTS = 16_384
ABOUT = "lhp_curve"
"""Where the metadata of a table say what the curve is: `CurveRecord.describe`, as JSON."""

About = Mapping[str, object]


def curve_table(
    curve: LatencyCurve, points: Numbers | None = None, about: About | None = None
) -> pa.Table:
    """These points as a table, which says what it is `about`; None: all that were measured."""
    measured = np.flatnonzero(curve.num_samples) if points is None else points
    dims = curve.grid.dims_of(measured)
    names = [status.name.lower() for status in PointStatus]
    answers = curve.answers
    rival = answers.find_rivals()[measured]
    rival_dims = curve.grid.dims_of(np.maximum(rival, 0))
    table = pa.table(
        {name: dims[:, axis] for axis, name in enumerate(curve.workload.axes)}
        | {
            "latency_s": curve.latency_s[measured],
            "low_s": _known(curve.low_s[measured]),
            "high_s": _known(curve.high_s[measured]),
            "num_samples": curve.num_samples[measured],
            "status": pa.DictionaryArray.from_arrays(curve.status[measured], names),
        }
        | {
            f"rival_{name}": pa.array(rival_dims[:, axis], mask=rival < 0)
            for axis, name in enumerate(curve.workload.axes)
        }
        | {
            "ratio": _known(answers.ratio[measured]),
            "ratio_low": _known(answers.ratio_low[measured]),
            "ratio_high": _known(answers.ratio_high[measured]),
        }
    )
    return table if about is None else table.replace_schema_metadata({ABOUT: json.dumps(about)})


def arrow_chunks(
    curve: LatencyCurve, points: Numbers | None = None, about: About | None = None
) -> Iterator[bytes]:
    """An Arrow IPC stream."""
    table = curve_table(curve, points, about)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for batch in table.to_batches(CHUNK_POINTS):
            writer.write_batch(batch)
            yield _taken(sink)
    yield _taken(sink)


def parquet_chunks(
    curve: LatencyCurve, points: Numbers | None = None, about: About | None = None
) -> Iterator[bytes]:
    """A Parquet file, in one piece: it is far smaller than the curve in memory."""
    yield write_points(curve_table(curve, points, about))


def csv_chunks(curve: LatencyCurve, points: Numbers | None = None) -> Iterator[bytes]:
    """CSV with a header line."""
    table = curve_table(curve, points)
    sink = io.BytesIO()
    sink.write(",".join(table.column_names).encode() + b"\n")
    options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
    for start in range(0, table.num_rows, CHUNK_POINTS):
        pa.csv.write_csv(_plain(table.slice(start, CHUNK_POINTS)), sink, options)
        yield _taken(sink)
    yield _taken(sink)


def json_chunks(
    curve: LatencyCurve,
    info: CurveInfo,
    points: Numbers | None = None,
    *,
    kernels: Sequence[KernelPoints] = (),
    is_excerpt: bool = False,
) -> Iterator[bytes]:
    """A CurveDetail. An excerpt has only those LHPs that are among the points, and bins only if
    those are all."""
    table = curve_table(curve, points)
    yield info.model_dump_json().removesuffix("}").encode() + b',"points":{"dims":'
    axes = list(curve.workload.axes)
    rival_axes = [f"rival_{name}" for name in axes]
    yield from _json_list(_dims_lists(table, axes))
    for name in table.column_names[len(axes) :]:
        if name in rival_axes:
            continue
        column = table.column(name)
        yield f',"{name}":'.encode()
        yield from _json_list(
            column.slice(i, CHUNK_POINTS).to_pylist() for i in _starts(len(column))
        )
    yield b',"rival":'
    yield from _json_list(_dims_lists(table, rival_axes))
    is_lhp = curve.status == PointStatus.LHP
    if is_excerpt and points is not None:
        is_point = np.zeros(curve.grid.size, dtype=np.bool_)
        is_point[points] = True
        is_lhp &= is_point
    has_every_lhp = np.count_nonzero(is_lhp) == curve.num_lhps
    yield b'},"lhps":'
    lhps = curve.grid.dims_of(np.flatnonzero(is_lhp))
    yield from _json_list(lhps[i : i + CHUNK_POINTS].tolist() for i in _starts(len(lhps)))
    bins: list[dict[str, object]] = []
    if len(curve.grid.axes) == 1 and has_every_lhp:
        bins = [
            BinInfo(first=each.first, last=each.last).model_dump()
            for each in hysteresis_bins(curve.grid.all_dims()[:, 0], is_lhp)
        ]
    failures = [
        FailedPoint(dims=list(curve.grid.dims(index)), reason=reason).model_dump()
        for index, reason in sorted(curve.failures.items())
    ]
    yield f',"bins":{json.dumps(bins)},"failures":{json.dumps(failures)}'.encode()
    yield f',"num_dominated":{np.count_nonzero(curve.status == PointStatus.DOMINATED)}'.encode()
    named = json.dumps([each.model_dump() for each in kernels])
    yield f',"num_left_out":{curve.num_measured - table.num_rows},"kernels":{named}}}'.encode()


def _known(column: F64) -> pa.Array:
    """The column; a value that isn't finite becomes null, because there were too few samples."""
    return pa.array(column, mask=~np.isfinite(column))


def _dims_lists(table: pa.Table, axes: list[str]) -> Iterator[list[object]]:
    """The dims in columns `axes` as chunks of lists; None for null dims."""
    for start in _starts(table.num_rows):
        part = table.select(axes).slice(start, CHUNK_POINTS)
        rows = zip(*(column.to_pylist() for column in part.columns), strict=True)
        yield [None if row[0] is None else list(row) for row in rows]


def _plain(table: pa.Table) -> pa.Table:
    """The table with status as text: CSV knows no dictionaries."""
    position = table.schema.get_field_index("status")
    return table.set_column(position, "status", table.column("status").cast(pa.string()))


def _starts(length: int) -> range:
    return range(0, length, CHUNK_POINTS)


def _json_list(chunks: Iterator[list[object]]) -> Iterator[bytes]:
    """One JSON list made of all chunks. Raises ValueError for NaN, which JSON doesn't have."""
    separator = "["
    for chunk in chunks:
        yield (separator + json.dumps(chunk, allow_nan=False)[1:-1]).encode()
        separator = ","
    yield b"]" if separator == "," else b"[]"


def _taken(sink: io.BytesIO) -> bytes:
    """The bytes written to `sink` since the last call; empties it."""
    written = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return written


def curve_detail(
    curve: LatencyCurve,
    info: CurveInfo,
    points: Numbers | None = None,
    *,
    is_excerpt: bool = False,
) -> CurveDetail:
    """The curve with its points, as clients read it; or an excerpt for a figure of these points."""
    chunks = json_chunks(curve, info, points, is_excerpt=is_excerpt)
    return CurveDetail.model_validate_json(b"".join(chunks))
