"""What operators look after: sizes, pruning, curves that leave and enter, readers of the views.

Others use it as part of `store.Store`.
"""

from __future__ import annotations

from profiler_service.access.caller import Caller
from profiler_service.errors import ConflictError
from profiler_service.storage import audit, curves, imports, point_arrays, readers, retention, rows
from profiler_service.storage.curve_record import CurveRecord
from profiler_service.storage.open_database import OpenDatabase
from profiler_service.storage.records import Prunable, Pruned, TableSize
from profiler_service.storage.statements import read_installation


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
        """The curve with where it comes from. Raises UnknownCurveError."""
        with self._read() as connection:
            return imports.read_record(connection, curve_id)

    def check_import(self, record: CurveRecord) -> bool:
        """Whether the curve is new here and may be imported. Changes nothing.

        Raises ImportRefusedError if it contradicts what is here.
        """
        with self._read() as connection:
            return imports.check_import(connection, record)

    def import_curve(self, record: CurveRecord) -> bool:
        """Whether the curve is new here. Then it is kept, with where it comes from.

        Raises ImportRefusedError if it contradicts what is here.
        """
        with self._write() as connection:
            return imports.import_curve(connection, record)

    def find_without_points(self, *, after: int, up_to: int, max_points: int) -> dict[str, int]:
        """Id of each curve of these generations whose points SQL can't read → their number.

        Those stored last come first. Curves of more than `max_points` points are left out, and so
        are comparisons of kernels.
        """
        with self._read() as connection:
            return point_arrays.find_without_points(
                connection, after=after, up_to=up_to, max_points=max_points
            )

    def keep_points(self, curve_id: str) -> None:
        """Stores the curve's points so that SQL can read them. Raises UnknownCurveError."""
        with self._read() as connection:
            row = curves.get_curve_row(connection, curve_id)
        values = point_arrays.points_to_values(rows.curve_from_row(row))
        with self._write() as connection:
            point_arrays.keep_points(connection, curve_id, values)

    def add_reader(self, name: str, password: str, *, by: Caller) -> bool:
        """Whether the role is new. Now it may log in with that password, and read the views.

        Raises ConflictError on SQLite, or if that role isn't a reader; InvalidRequestError for a
        name that no reader can have.
        """
        self._check_has_roles()
        with self._write() as connection:
            is_new = readers.add_reader(connection, read_installation(connection), name, password)
            audit.add_entry(connection, by, "reader.add", name)
            return is_new

    def remove_reader(self, name: str, *, by: Caller) -> None:
        """Drops the role. Raises ConflictError on SQLite, or if that role isn't a reader."""
        self._check_has_roles()
        with self._write() as connection:
            readers.remove_reader(connection, read_installation(connection), name)
            audit.add_entry(connection, by, "reader.remove", name)

    def _check_has_roles(self) -> None:
        if self.shared_pool is None:
            raise ConflictError(
                "this installation keeps its data in a SQLite file, which has no roles and no views"
                " for dashboards",
                hint="for dashboards that read SQL, use PostgreSQL: LHP_DATABASE_URL=postgresql://…",
            )
