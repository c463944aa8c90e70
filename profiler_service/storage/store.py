"""The store: keeps domain objects in SQLite or PostgreSQL.

This is the contract, and the one module of this package that others import, with `schema`. Each
method is a transaction; the statements stand in a module for each subject: `hosts`, `sweeps`, … It
measures nothing and computes no statistics: a curve is kept as it is given.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence

from profiler_service.access.caller import Caller
from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.samples import Samples
from profiler_service.plan.spec import Progress, SweepSpec, SweepState
from profiler_service.plan.turns import Demand, OpenSweep
from profiler_service.storage import audit, batches, curves, facts, rows, sweeps
from profiler_service.storage.access_store import AccessStore
from profiler_service.storage.curve_store import CurveStore
from profiler_service.storage.fleet_store import FleetStore
from profiler_service.storage.host_store import HostStore
from profiler_service.storage.model_store import ModelStore
from profiler_service.storage.own_sweep_store import OwnSweepStore
from profiler_service.storage.records import (
    CLOCK_SKEW_S,
    CurveFilter,
    CurveHeader,
    CurveOrder,
    Fact,
    FactFilter,
    FleetStatus,
    Host,
    HostStatus,
    Joined,
    Joining,
    Page,
    ParamFilter,
    Prunable,
    Pruned,
    SearchWord,
    Sweep,
    TableSize,
    WorkerIdentity,
)
from profiler_service.storage.statements import check_page, read_generation
from profiler_service.storage.upkeep_store import UpkeepStore
from profiler_service.workload import Workload

__all__ = [
    "CLOCK_SKEW_S",
    "CurveFilter",
    "CurveHeader",
    "CurveOrder",
    "Fact",
    "FactFilter",
    "FleetStatus",
    "Host",
    "HostStatus",
    "Joined",
    "Joining",
    "Page",
    "ParamFilter",
    "Prunable",
    "Pruned",
    "SearchWord",
    "Store",
    "Sweep",
    "TableSize",
    "WorkerIdentity",
]


class Store(HostStore, FleetStore, OwnSweepStore, CurveStore, ModelStore, AccessStore, UpkeepStore):
    """Everything that is stored, in SQLite or PostgreSQL. Safe to share between threads.

    Several processes may use one database at once. Every method raises StoreUnavailableError if the
    database can't be reached.

    A worker opens it with its identity. What is a worker's to change, the host itself and the
    progress of its sweeps, only the worker that holds the host's lease can change. A store without
    an identity can change it as long as nobody holds the lease. Otherwise these methods raise
    HostTakenError. All times stored are those of the database's clock.
    """

    # Sweeps and their samples

    def create_sweep(
        self,
        spec: SweepSpec,
        *,
        host: str,
        demand: Demand | None = None,
        max_open: int | None = None,
        max_open_of_client: int | None = None,
        by: Caller | None = None,
    ) -> tuple[Sweep, bool]:
        """A queued sweep, and whether it is new.

        An unfinished, uncancelled sweep of the same spec (but for its seed) on the same host
        is returned instead of making a second one, also when two processes ask at the same
        moment. Raises UnknownHostError; TooManyRequestsError if a new one would be one more than
        `max_open` unfinished ones of the host, or than `max_open_of_client` of them that its
        client asked for. A new one that a caller asked for, `by`, is in the audit trail.
        """
        with self._write() as connection:
            sweep, is_new = sweeps.create_sweep(
                connection,
                spec,
                host=host,
                demand=demand,
                max_open=max_open,
                max_open_of_client=max_open_of_client,
            )
            if is_new and by is not None:
                details = {"host": host, "mode": spec.mode, "workload": spec.workload.key}
                audit.add_entry(connection, by, "sweep.create", sweep.id, details)
            return sweep, is_new

    def list_open(self, host: str) -> list[OpenSweep]:
        """What the turns of the host's sweeps depend on that haven't ended."""
        with self._read() as connection:
            return sweeps.list_open(connection, host)

    def find_unfinished_of_kinds(self, kinds: Sequence[str]) -> list[tuple[Workload, str, str]]:
        """The workload, platform's key and protocol's key of each unfinished sweep of the kinds."""
        with self._read() as connection:
            return sweeps.find_unfinished_of_kinds(connection, kinds)

    def get_sweep(self, sweep_id: str) -> Sweep:
        """The sweep with that id. Raises UnknownSweepError."""
        with self._read() as connection:
            return sweeps.get_sweep(connection, sweep_id)

    def list_sweeps(
        self,
        *,
        host: str | None = None,
        state: SweepState | None = None,
        mode: str | None = None,
        oldest_first: bool = False,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Sweep]:
        """Sweeps, newest or oldest first. Raises InvalidRequestError for a wrong cursor."""
        check_page(cursor=cursor, limit=limit)
        with self._read() as connection:
            return sweeps.list_sweeps(
                connection,
                host=host,
                state=state,
                mode=mode,
                oldest_first=oldest_first,
                cursor=cursor,
                limit=limit,
            )

    def find_busy_hosts(self) -> set[str]:
        """Names of the hosts that run a sweep."""
        with self._read() as connection:
            return sweeps.find_busy_hosts(connection)

    def find_ended(self, sweep_ids: Collection[str]) -> list[str]:
        """Those of the sweeps that have ended."""
        with self._read() as connection:
            return sweeps.find_ended(connection, sweep_ids)

    def find_sweeps(self, sweep_ids: Collection[str]) -> list[Sweep]:
        """The sweeps with these ids; unknown ids are left out."""
        with self._read() as connection:
            return sweeps.find_sweeps(connection, sweep_ids)

    def start_sweep(self, sweep_id: str, *, measured_as: str | None = None) -> Sweep:
        """The sweep, changed from queued to running; in any other state it stays as it is.

        `measured_as` names what its samples are taken on and how, from now on. A sweep that another
        machine has begun under this host's name begins anew: its batches are deleted. Raises
        UnknownSweepError; PlatformMismatchError if its stored batches were measured differently.
        """
        with self._write() as connection:
            return sweeps.start_sweep(
                connection, sweep_id, measured_as=measured_as, worker=self._worker
            )

    def request_cancel(self, sweep_id: str, *, by: Caller | None = None) -> Sweep:
        """The sweep, marked to be cancelled; a queued one is cancelled at once.

        Raises UnknownSweepError; ConflictError if it has already ended.
        """
        with self._write() as connection:
            sweep = sweeps.request_cancel(connection, sweep_id)
            if by is not None:
                audit.add_entry(connection, by, "sweep.cancel", sweep_id)
            return sweep

    def fail_sweep(self, sweep_id: str, error: str) -> None:
        """Ends the sweep as failed, with the reason; one that has ended stays as it is.

        Raises UnknownSweepError.
        """
        with self._write() as connection:
            sweeps.fail_sweep(connection, sweep_id, error, worker=self._worker)

    def pause_sweep(self, sweep_id: str, reason: str) -> None:
        """Stores why the running sweep is paused. Its next batch removes the reason.

        A sweep that isn't running stays as it is. Raises UnknownSweepError.
        """
        with self._write() as connection:
            sweeps.pause_sweep(connection, sweep_id, reason, worker=self._worker)

    def commit_batch(self, sweep_id: str, index: int, samples: Samples, progress: Progress) -> bool:
        """Stores batch number `index` and the progress, in one transaction.

        False, and nothing changed, if that batch is already stored. Raises UnknownSweepError;
        ConflictError for a new batch of a sweep that has ended.
        """
        values = rows.samples_to_values(samples)
        with self._write() as connection:
            return batches.commit_batch(
                connection, sweep_id, index, values, progress, worker=self._worker
            )

    def load_batches(self, sweep_id: str) -> list[Samples]:
        """Every stored batch of the sweep, ordered by index (0, 1, 2, …).

        Raises UnknownSweepError; ConflictError if its raw samples were pruned.
        """
        with self._read() as connection:
            return batches.load_batches(connection, sweep_id)

    def last_measured_at(self, sweep_id: str) -> dt.datetime:
        """When the newest batch was stored, in UTC. Without batches, when the sweep was created.

        Raises UnknownSweepError.
        """
        with self._read() as connection:
            return batches.last_measured_at(connection, sweep_id)

    # Curves

    def finish_sweep(
        self, sweep_id: str, curve: LatencyCurve | None, *, state: SweepState
    ) -> str | None:
        """The id of the sweep's curve (if any), which is stored; the sweep ends as `state`.

        So are the pairs that it confirmed, as facts.

        One transaction, which also raises `generation`. If the sweep has already ended, nothing
        changes, and the id stored then is returned.

        Raises UnknownSweepError; ValueError for a state that isn't final.
        """
        if not state.is_final:
            raise ValueError(f"{state} ends no sweep")
        arrays = None if curve is None else rows.curve_arrays_to_values(curve)
        with self._write() as connection:
            return curves.finish_sweep(
                connection, sweep_id, curve, arrays, state=state, worker=self._worker
            )

    # Facts

    def find_facts(
        self,
        workload_key: str,
        platform_key: str,
        protocol_key: str,
        dims: Sequence[int],
        *,
        limit: int,
    ) -> list[Fact]:
        """The newest such facts whose queried point is `dims`, the oldest of them first."""
        with self._read() as connection:
            return facts.find_facts(
                connection, workload_key, platform_key, protocol_key, dims, limit=limit
            )

    def find_repeats(
        self, kind: str, platform_key: str, protocol_key: str, *, limit: int
    ) -> list[tuple[Fact, Fact]]:
        """The newest such facts that repeat another worker's, each after the one it repeats."""
        with self._read() as connection:
            return facts.find_repeats(connection, kind, platform_key, protocol_key, limit=limit)

    def find_stalest_fact(
        self, host: str, platform_key: str, protocol_key: str, *, but_not: Collection[str] = ()
    ) -> Fact | None:
        """The oldest fact by that host that a pair is faster, and that none about it follows."""
        with self._read() as connection:
            return facts.find_stalest(connection, host, platform_key, protocol_key, but_not=but_not)

    def find_overruled(self, by: Collection[str]) -> dict[str, list[str]]:
        """Id of each of the facts `by` that overrules earlier ones → the ids of those."""
        with self._read() as connection:
            return facts.find_overruled(connection, by)

    def list_facts(
        self, wanted: FactFilter, *, cursor: str | None = None, limit: int = 50
    ) -> Page[Fact]:
        """Facts, newest first. Raises InvalidRequestError for a wrong cursor."""
        check_page(cursor=cursor, limit=limit)
        with self._read() as connection:
            return facts.list_facts(connection, wanted, cursor=cursor, limit=limit)

    def generation(self) -> int:
        """A number that grows with every stored curve and every host that registers or changes.

        Caches of answers are valid as long as it stays the same. Transactions raise it one after
        the other, so a reader can see every curve stored up to it.
        """
        with self._read() as connection:
            return read_generation(connection)
