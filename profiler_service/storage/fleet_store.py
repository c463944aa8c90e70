"""The part of the store that looks at several hosts at once.

Others use it as part of `store.Store`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from profiler_service.access.caller import Caller
from profiler_service.plan.spec import SweepSpec
from profiler_service.plan.turns import Demand, OpenSweep
from profiler_service.storage import audit, fleet_sweeps, sweeps
from profiler_service.storage.open_database import OpenDatabase
from profiler_service.storage.records import FleetSweep, Page
from profiler_service.storage.statements import check_page


class FleetStore(OpenDatabase):
    """What the hosts of a fleet measure. What it raises: see `store.Store`."""

    def find_open_of(self, hosts: Collection[str]) -> dict[str, list[tuple[str, OpenSweep]]]:
        """The open sweeps of each of the hosts that has any, with the keys of what they measure."""
        with self._read() as connection:
            return sweeps.find_open_of(connection, hosts)

    def create_fleet_sweep(
        self,
        label: str,
        parts: Sequence[tuple[str, SweepSpec, Demand]],
        *,
        max_open: int | None = None,
        max_open_of_client: int | None = None,
        by: Caller | None = None,
    ) -> tuple[FleetSweep, bool]:
        """One sweep for each host, and whether it is new. All are created, or none.

        `parts` are the host, the spec and the demand of each. While an equal one of the same label
        is open, it is that one. Raises as `create_sweep` does. A new one that a caller asked for,
        `by`, is in the audit trail.
        """
        with self._write() as connection:
            created, is_new = fleet_sweeps.create_fleet_sweep(
                connection,
                label,
                parts,
                max_open=max_open,
                max_open_of_client=max_open_of_client,
            )
            if is_new and by is not None:
                details = {"label": label, "hosts": ", ".join(each.host for each in created.sweeps)}
                audit.add_entry(connection, by, "fleet_sweep.create", created.id, details)
            return created, is_new

    def get_fleet_sweep(self, fleet_sweep_id: str) -> FleetSweep:
        """The sweep of several hosts with that id. Raises UnknownSweepError."""
        with self._read() as connection:
            return fleet_sweeps.get_fleet_sweep(connection, fleet_sweep_id)

    def list_fleet_sweeps(self, *, cursor: str | None = None, limit: int = 100) -> Page[FleetSweep]:
        """Sweeps of several hosts, newest first. Raises InvalidRequestError for a wrong page."""
        check_page(cursor=cursor, limit=limit)
        with self._read() as connection:
            return fleet_sweeps.list_fleet_sweeps(connection, cursor=cursor, limit=limit)

    def cancel_fleet_sweep(self, fleet_sweep_id: str, *, by: Caller | None = None) -> FleetSweep:
        """The sweep of several hosts, each of which is to stop. Raises UnknownSweepError."""
        with self._write() as connection:
            cancelled = fleet_sweeps.request_cancel(connection, fleet_sweep_id)
            if by is not None:
                audit.add_entry(connection, by, "fleet_sweep.cancel", fleet_sweep_id)
            return cancelled
