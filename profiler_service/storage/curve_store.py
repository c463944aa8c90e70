"""The part of the store that reads curves, and keeps the names of their kernels.

Others use it as part of `store.Store`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.kernel_names import KernelNames
from profiler_service.plan.modes import Mode
from profiler_service.storage import curve_list, curves, kernel_names, rows
from profiler_service.storage.open_database import OpenDatabase
from profiler_service.storage.records import CurveFilter, CurveHeader, CurveOrder, Page
from profiler_service.storage.statements import check_page
from profiler_service.workload import Dims


class CurveStore(OpenDatabase):
    """Stored curves. What it raises: see `store.Store`."""

    def get_curve_header(self, curve_id: str) -> CurveHeader:
        """The curve's header. Raises UnknownCurveError."""
        with self._read() as connection:
            return curves.get_curve_header(connection, curve_id)

    def load_curve(self, curve_id: str) -> LatencyCurve:
        """The curve with its arrays. Raises UnknownCurveError."""
        with self._read() as connection:
            row = curves.get_curve_row(connection, curve_id)
        return rows.curve_from_row(row)

    def find_curves(
        self,
        workload_key: str,
        platform_key: str,
        protocol_key: str,
        *,
        after_generation: int = -1,
        limit: int | None = None,
    ) -> list[CurveHeader]:
        """Headers of such curves stored after that generation, the last stored first."""
        with self._read() as connection:
            return curves.find_curves(
                connection,
                workload_key,
                platform_key,
                protocol_key,
                after_generation=after_generation,
                limit=limit,
            )

    def find_answering(
        self,
        workload_key: str,
        platform_key: str,
        protocol_key: str,
        raced_from: Sequence[int] | None,
        *,
        limit: int,
    ) -> list[CurveHeader]:
        """Headers of the races from that point, or with None of all other curves, newest first."""
        with self._read() as connection:
            return curves.find_answering(
                connection, workload_key, platform_key, protocol_key, raced_from, limit=limit
            )

    def find_raced_points(
        self, workload_key: str, platform_key: str, protocol_key: str, *, limit: int
    ) -> list[Dims]:
        """The points that such races began at, each once; at most `limit`."""
        with self._read() as connection:
            return curves.find_raced_points(
                connection, workload_key, platform_key, protocol_key, limit=limit
            )

    def find_new_curves(self, *, after_generation: int, limit: int) -> list[CurveHeader]:
        """Headers of curves kept after that generation, the first one kept first."""
        with self._read() as connection:
            return curves.find_new_curves(connection, after_generation, limit=limit)

    def find_curves_of_kinds(
        self, kinds: Sequence[str], *, mode: Mode, after_generation: int, limit: int
    ) -> list[CurveHeader]:
        """Headers of all such curves stored after that generation, the last stored first."""
        with self._read() as connection:
            return curves.find_curves_of_kinds(
                connection, kinds, mode=mode, after_generation=after_generation, limit=limit
            )

    def find_newest_protocol(self, workload_key: str, platform_key: str) -> str | None:
        """Key of the protocol of the last such curve stored; None if there is none."""
        with self._read() as connection:
            return curves.find_newest_protocol(connection, workload_key, platform_key)

    def list_curves(
        self,
        wanted: CurveFilter = curve_list.ALL_CURVES,
        *,
        order: CurveOrder = curve_list.NEWEST_FIRST,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[CurveHeader]:
        """Curve headers, newest first by default. Raises InvalidRequestError for a wrong cursor."""
        place = curve_list.read_cursor(cursor, order.sort)
        check_page(cursor=None, limit=limit)
        with self._read() as connection:
            return curve_list.list_curves(connection, wanted, order=order, place=place, limit=limit)

    # Kernels

    def keep_kernel_names(self, curve_id: str, names: KernelNames) -> bool:
        """Whether these are the first names of the curve. Then they are kept, even if none is.

        Raises `generation`, too, as answers may tell them. Raises UnknownCurveError.
        """
        with self._write() as connection:
            return kernel_names.keep_names(connection, curve_id, names)

    def find_kernel_names(self, curve_ids: Collection[str]) -> dict[str, dict[Dims, str]]:
        """Id of each of the curves that names were kept for → its names, perhaps none."""
        with self._read() as connection:
            return kernel_names.find_names(connection, curve_ids)

    def find_unnamed_curve(self, host: str, platform_key: str, protocol_key: str) -> str | None:
        """Id of the newest such curve that the host measured and that no names were kept for."""
        with self._read() as connection:
            return kernel_names.find_unnamed(connection, host, platform_key, protocol_key)
