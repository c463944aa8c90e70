"""The part of the store that looks at several hosts at once.

Others use it as part of `store.Store`.
"""

from __future__ import annotations

from collections.abc import Collection

from profiler_service.plan.turns import OpenSweep
from profiler_service.storage import sweeps
from profiler_service.storage.open_database import OpenDatabase


class FleetStore(OpenDatabase):
    """What the hosts of a fleet measure, in SQLite or PostgreSQL."""

    def find_open_of(self, hosts: Collection[str]) -> dict[str, list[tuple[str, OpenSweep]]]:
        """The open sweeps of each of the hosts that has any, with the keys of what they measure."""
        with self._read() as connection:
            return sweeps.find_open_of(connection, hosts)
