"""Reads a curve's Arrow stream with pyarrow, pandas or polars.

Each library is imported only when it is asked for, and comes with an extra of the same name. Knows
no route.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from profiler_service.distribution import Extra, explain_missing

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

ABOUT = "lhp_curve"
"""The metadata of a curve's stream that say where the curve comes from, and the attribute of a
pandas frame that has them."""


def find_arrow_reader() -> Callable[[bytes], pyarrow.Table]:
    """What makes a table of a stream. Raises MissingExtraError without pyarrow."""
    with _needing("arrow"):
        import pyarrow.ipc

    def read(stream: bytes) -> Any:
        return pyarrow.ipc.open_stream(stream).read_all()

    return read


def find_pandas_reader() -> Callable[[bytes], pandas.DataFrame]:
    """What makes a frame of a stream. Raises MissingExtraError without pandas or pyarrow.

    The frame's `attrs` have what the stream's metadata say.
    """
    with _needing("pandas"):
        import pandas  # noqa: F401  pyarrow would ask for it later, in its own words
        import pyarrow.ipc

    def read(stream: bytes) -> Any:
        table = pyarrow.ipc.open_stream(stream).read_all()
        frame = table.to_pandas()
        frame.attrs = {ABOUT: json.loads((table.schema.metadata or {}).get(ABOUT.encode(), b"{}"))}
        return frame

    return read


def find_polars_reader() -> Callable[[bytes], polars.DataFrame]:
    """What makes a frame of a stream. Raises MissingExtraError without polars."""
    with _needing("polars"):
        import polars

    def read(stream: bytes) -> polars.DataFrame:
        return polars.read_ipc_stream(io.BytesIO(stream))

    return read


@contextlib.contextmanager
def _needing(extra: Extra) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        missing = explain_missing(error, needed_by=f"get_curve_{extra}", extras=[extra])
        if missing is None:
            raise
        raise missing from error
