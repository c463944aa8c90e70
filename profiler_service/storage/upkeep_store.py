"""The part of the store that operators look after: sizes, pruning, curves that leave and enter.

Others use it as part of `store.Store`.
"""

from __future__ import annotations

from profiler_service.storage import imports, retention
from profiler_service.storage.curve_file import CurveRecord
from profiler_service.storage.open_database import OpenDatabase
from profiler_service.storage.records import Prunable, Pruned, TableSize


class UpkeepStore(OpenDatabase):
    """What operators look after, in SQLite or PostgreSQL. What it raises: see `store.Store`."""

    def measure_sizes(self) -> list[TableSize]:
        """The rows and bytes of each table, the largest first. Takes long in a large database."""
        with self._read() as connection:
            return retention.measure_sizes(connection)

    def find_prunable(self, *, older_than_s: float) -> Prunable:
        """What `prune_some` would take away in all, at most."""
        with self._read() as connection:
            return retention.find_prunable(connection, older_than_s=older_than_s)

    def prune_some(self, *, older_than_s: float) -> Pruned | None:
        """What was pruned now, in one short transaction; None if nothing is left to prune.

        Only sweeps that ended so long ago. Call it until it returns None.
        """
        with self._write() as connection:
            return retention.prune_some(connection, older_than_s=older_than_s)

    def read_record(self, curve_id: str) -> CurveRecord:
        """The stored curve of that id with where it comes from."""
        with self._read() as connection:
            return imports.read_record(connection, curve_id)

    def import_curve(self, record: CurveRecord) -> bool:
        """Whether the curve is new here. Then it is kept, with where it comes from.

        Raises ImportRefusedError if it contradicts what is here.
        """
        with self._write() as connection:
            return imports.import_curve(connection, record)
