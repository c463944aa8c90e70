"""Turns arrays into bytes and back: compressed columns in Arrow's stream format.

Knows no database. The bytes name their columns and types, so any Arrow reader can open them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import pyarrow as pa

Columns = Mapping[str, npt.NDArray[Any]]


def pack(columns: Columns) -> bytes:
    """Equally long one-dimensional arrays as bytes: what `unpack` takes."""
    return _write(pa.record_batch({name: pa.array(column) for name, column in columns.items()}))


def _write(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def unpack(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays that `pack` was given, by name, with the same types and bits."""
    with pa.ipc.open_stream(data) as reader:
        table = reader.read_all()
    return {name: table[name].to_numpy() for name in table.column_names}


def pack_several(columns: Columns) -> bytes:
    """One-dimensional arrays of any lengths as bytes: what `unpack_several` takes.

    Each is the only row of a column of lists.
    """
    lists = {
        name: pa.ListArray.from_arrays(pa.array([0, len(column)], pa.int32()), pa.array(column))
        for name, column in columns.items()
    }
    return _write(pa.record_batch(lists))


def unpack_several(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays that `pack_several` was given, by name, with the same types and bits."""
    with pa.ipc.open_stream(data) as reader:
        table = reader.read_all()
    return {name: table[name].combine_chunks().flatten().to_numpy() for name in table.column_names}
