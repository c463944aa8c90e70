"""The part of the store that keeps sweeps of users' own code.

Others use it as part of `store.Store`.
"""

from __future__ import annotations

from profiler_service.access.caller import Caller
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.errors import ConflictError
from profiler_service.plan.spec import Progress, SweepSpec
from profiler_service.plan.turns import Demand
from profiler_service.storage import audit, batches, own_sweeps, rows, sweeps
from profiler_service.storage.open_database import OpenDatabase
from profiler_service.storage.records import Sweep


class OwnSweepStore(OpenDatabase):
    """Sweeps of users' own code. What it raises: see `store.Store`."""

    def open_own_sweep(
        self,
        spec: SweepSpec,
        *,
        machine: str,
        platform: Platform,
        protocol: TimingProtocol,
        demand: Demand,
        by: Caller,
    ) -> Sweep:
        """A new sweep that the caller measures on a machine of that name; it runs from now on.

        Raises InvalidRequestError for a name that no host can have; ConflictError if a worker
        measures under it; TooManyRequestsError.
        """
        with self._write() as connection:
            sweep = own_sweeps.open_own_sweep(
                connection,
                spec,
                machine=machine,
                platform=platform,
                protocol=protocol,
                demand=demand,
            )
            details = {"host": sweep.host, "mode": spec.mode, "workload": spec.workload.key}
            audit.add_entry(connection, by, "sweep.create", sweep.id, details)
            return sweep

    def commit_own_batch(
        self, sweep_id: str, number: int, samples: Samples, progress: Progress
    ) -> Sweep:
        """The sweep with that batch, which may be stored already: then nothing changes.

        Raises UnknownSweepError; ConflictError if the sweep has ended or an earlier batch is
        missing.
        """
        values = rows.samples_to_values(samples)
        with self._write() as connection:
            sweeps.lock_sweep(connection, sweep_id, worker=None)
            if number > (stored := own_sweeps.count_batches(connection, sweep_id)):
                raise ConflictError(
                    f"batch {number} of sweep {sweep_id} comes too early: {stored} are stored",
                    hint=f"send batch {stored} first",
                )
            batches.commit_batch(connection, sweep_id, number, values, progress, worker=None)
            return sweeps.get_sweep(connection, sweep_id)

    def get_own_conditions(self, sweep_id: str) -> tuple[Platform, TimingProtocol]:
        """The platform and the protocol with which the sweep was opened."""
        with self._read() as connection:
            return own_sweeps.get_conditions(connection, sweep_id)

    def find_silent_own_sweeps(self) -> list[str]:
        """The open sweeps of own code whose command has been silent for too long."""
        with self._read() as connection:
            return own_sweeps.find_silent(connection)
