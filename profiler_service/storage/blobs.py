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
    batch = pa.record_batch({name: pa.array(column) for name, column in columns.items()})
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
