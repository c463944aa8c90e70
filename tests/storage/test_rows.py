"""Ids and packed arrays: the store's parts that need no database."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from profiler_service.storage import blobs
from profiler_service.storage.rows import create_id, curve_arrays_to_values
from tests.storage.examples import create_curve


def test_ids_are_distinct_version_7_uuids_in_order_of_time() -> None:
    start = dt.datetime(2026, 3, 1, 12, 30, 0, 999_500, tzinfo=dt.UTC)
    # A millisecond is 1,000 microseconds, so the 501st id is in the next second.
    ids = [create_id(start + dt.timedelta(microseconds=i)) for i in range(1000)]
    assert len(set(ids)) == 1000
    assert sorted(ids) == ids
    for i, number in enumerate(map(uuid.UUID, ids)):
        assert number.version == 7
        assert number.variant == uuid.RFC_4122
        # The first 48 of the 128 bits are milliseconds since 1970. date -d says 1772368200 for
        # the minute; the first 500 ids are of its 999th millisecond.
        assert number.int >> 80 == 1_772_368_200_000 + (999 if i < 500 else 1000)


def test_packed_arrays_come_back_with_their_types_and_bits() -> None:
    columns: dict[str, npt.NDArray[Any]] = {
        "number": np.array([1, -1, 2**31 - 1], dtype=np.int32),
        "small": np.array([1, 2, 3], dtype=np.int8),
        "real": np.array([0.1, np.nan, 5e-324]),
        "half": np.array([0.1, np.nan, -0.0], dtype=np.float32),
        "flag": np.array([True, False, True]),
    }
    found = blobs.unpack(blobs.pack(columns))
    assert list(found) == list(columns)
    for name, column in columns.items():
        np.testing.assert_array_equal(found[name], column, strict=True)


def test_a_table_without_rivals_is_kept_as_it_was_before_they_were_named() -> None:
    named = create_curve()
    unnamed = dataclasses.replace(named, answers=dataclasses.replace(named.answers, rival=None))
    before = set(blobs.unpack(curve_arrays_to_values(unnamed)["arrays"]))
    assert set(blobs.unpack(curve_arrays_to_values(named)["arrays"])) - before == {"rival"}


def test_packed_empty_arrays_come_back_empty() -> None:
    found = blobs.unpack(blobs.pack({"a": np.zeros(0, np.int32), "b": np.zeros(0, np.bool_)}))
    np.testing.assert_array_equal(found["a"], np.zeros(0, np.int32), strict=True)
    np.testing.assert_array_equal(found["b"], np.zeros(0, np.bool_), strict=True)


def test_packed_arrays_are_an_arrow_stream_and_smaller_than_the_arrays() -> None:
    column = np.repeat(np.arange(100, dtype=np.int32), 1000)
    data = blobs.pack({"point": column})
    assert pa.ipc.open_stream(data).read_all().column("point").to_pylist() == column.tolist()
    assert len(data) < column.nbytes / 10
