"""The part of the store that keeps changes of hosts' platforms.

Others use it as part of `store.Store`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from profiler_service.analysis.platform_change import Outcome, Pattern
from profiler_service.storage import platform_changes
from profiler_service.storage.open_database import OpenDatabase
from profiler_service.storage.platform_change_records import PlatformChange, ReplayedFact
from profiler_service.storage.records import Fact


class PlatformChangeStore(OpenDatabase):
    """Changes of platforms, in SQLite or PostgreSQL. What it raises: see `store.Store`."""

    def find_platform_changes(self, host_names: Collection[str]) -> dict[str, PlatformChange]:
        """The last change of each of these hosts that had one, by the host's name."""
        with self._read() as connection:
            return platform_changes.find_newest(connection, host_names)

    def find_open_change(self, host: str) -> PlatformChange | None:
        """The change of that host whose replay hasn't ended."""
        with self._read() as connection:
            return platform_changes.find_open(connection, host)

    def find_predecessor(self, platform_key: str) -> PlatformChange | None:
        """The change by which a host came to that platform from an earlier one; None if none did.

        `is_inherited` says whether what was learned on `old_platform_key` counts. Following
        predecessors never leads back to a platform.
        """
        with self._read() as connection:
            return platform_changes.find_predecessor(connection, platform_key)

    def find_replayable(
        self, platform_key: str, protocol_key: str, *, most_of_workload: int
    ) -> list[Fact]:
        """The newest such facts of each workload that none overrules, the newest first."""
        with self._read() as connection:
            return platform_changes.find_replayable(
                connection, platform_key, protocol_key, most_of_workload=most_of_workload
            )

    def keep_contrasts(self, change: PlatformChange, fact_ids: Sequence[str]) -> None:
        """Keeps which facts are measured again, in that order; once for each change."""
        with self._write() as connection:
            platform_changes.keep_contrasts(connection, change, fact_ids, worker=self._worker)

    def list_replayed(self, change_id: str) -> list[ReplayedFact]:
        """The facts that are measured again after that change, in that order."""
        with self._read() as connection:
            return platform_changes.list_replayed(connection, change_id)

    def begin_replayed(self, change: PlatformChange, number: int, sweep_id: str) -> None:
        """Keeps which race measures that fact again."""
        with self._write() as connection:
            platform_changes.begin_replayed(
                connection, change, number, sweep_id, worker=self._worker
            )

    def settle_replayed(
        self,
        change: PlatformChange,
        number: int,
        outcome: Outcome,
        *,
        after: Fact | None = None,
        reason: str = "",
    ) -> None:
        """Keeps what became of that fact, and counts it."""
        with self._write() as connection:
            platform_changes.settle_replayed(
                connection,
                change,
                number,
                outcome,
                after=after,
                reason=reason,
                worker=self._worker,
            )

    def finish_change(self, change: PlatformChange, patterns: Sequence[Pattern]) -> PlatformChange:
        """The change, whose replay has ended. One that was interrupted meanwhile stays so."""
        with self._write() as connection:
            return platform_changes.finish_change(connection, change, patterns, worker=self._worker)
