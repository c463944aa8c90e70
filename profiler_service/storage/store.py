"""The store's contract: domain objects in and out. The only module that others import."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

T = TypeVar("T")

from profiler_service.curve import LatencyCurve
from profiler_service.grid import Grid
from profiler_service.samples import Platform, Samples
from profiler_service.sweep import Progress, SweepSpec, SweepState
from profiler_service.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Host:
    """A machine that measures, as it registered itself."""

    name: str
    platform_key: str
    dtypes: tuple[str, ...]
    """Element types that its device multiplies."""
    registered_at: dt.datetime
    last_seen_at: dt.datetime
    """Last heartbeat of its worker."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep and where it stands."""

    id: str
    """Sortable by creation time (UUID version 7 or like it)."""
    host: str
    spec: SweepSpec
    state: SweepState
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    cancel_requested: bool
    progress: Progress | None
    error: str
    """Why it failed; empty otherwise."""
    curve_id: str | None


@dataclass(frozen=True, kw_only=True)
class CurveHeader:
    """Everything about a stored curve except its arrays."""

    id: str
    sweep_id: str
    host: str
    workload: Workload
    platform_key: str
    protocol_key: str
    grid: Grid
    mode: str
    num_measured: int
    num_lhps: int
    num_undecided: int
    num_failures: int
    measured_at: dt.datetime
    evidence: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """One page of a long list, newest first."""

    items: Sequence[T]
    next_cursor: str | None
    """Pass it as `cursor` for the next page; None on the last."""


class Store:
    """All that is kept, on SQLite or PostgreSQL. Safe to share between threads."""

    @classmethod
    def open(cls, url: str) -> Self:
        """The store at `url`, its schema checked.

        Raises:
            StoreUnavailableError: the database can't be reached, or `url` is malformed.
            SchemaTooOldError: `lhp db upgrade` must be run first (also on an empty database).
            SchemaTooNewError: a newer version wrote the schema.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Releases every connection."""
        raise NotImplementedError

    def ping(self) -> None:
        """Returns when the database answers. Raises StoreUnavailableError."""
        raise NotImplementedError

    # Hosts and platforms

    def register_host(self, name: str, platform: Platform, *, dtypes: Sequence[str]) -> Host:
        """The host `name`, now on `platform` and seen just now; registers both if new."""
        raise NotImplementedError

    def touch_host(self, name: str) -> None:
        """Records a heartbeat. Raises UnknownHostError."""
        raise NotImplementedError

    def get_host(self, name: str) -> Host:
        """The host called `name`. Raises UnknownHostError."""
        raise NotImplementedError

    def list_hosts(self) -> list[Host]:
        """Every host, by name."""
        raise NotImplementedError

    def get_platform(self, key: str) -> Platform:
        """The platform with `key`. Raises UnknownPlatformError."""
        raise NotImplementedError

    def list_platforms(self) -> list[Platform]:
        """Every platform ever registered, oldest first."""
        raise NotImplementedError

    # Sweeps and their samples

    def create_sweep(self, spec: SweepSpec, *, host: str) -> tuple[Sweep, bool]:
        """A queued sweep, and whether it is new.

        An unfinished, uncancelled sweep of the same spec (but for its seed) on the same host
        is returned instead of making a second one, also when two processes ask at the same
        moment. Raises UnknownHostError.
        """
        raise NotImplementedError

    def get_sweep(self, sweep_id: str) -> Sweep:
        """The sweep with that id. Raises UnknownSweepError."""
        raise NotImplementedError

    def list_sweeps(
        self,
        *,
        host: str | None = None,
        state: SweepState | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Sweep]:
        """Sweeps, newest first. Raises InvalidRequestError for a cursor it didn't give."""
        raise NotImplementedError

    def start_sweep(self, sweep_id: str) -> Sweep:
        """The sweep, moved from queued to running (a running one stays). UnknownSweepError."""
        raise NotImplementedError

    def request_cancel(self, sweep_id: str) -> Sweep:
        """The sweep, marked to be cancelled; a queued one is cancelled at once.

        Raises UnknownSweepError; ConflictError where it has already ended.
        """
        raise NotImplementedError

    def fail_sweep(self, sweep_id: str, error: str) -> None:
        """Ends the sweep as failed, with the reason."""
        raise NotImplementedError

    def commit_batch(self, sweep_id: str, index: int, samples: Samples, progress: Progress) -> bool:
        """Keeps batch number `index` and the progress, in one transaction.

        False, and nothing changed, where that batch is already kept.
        """
        raise NotImplementedError

    def load_batches(self, sweep_id: str) -> list[Samples]:
        """Every batch kept for the sweep, in order of index (0, 1, 2, …)."""
        raise NotImplementedError

    # Curves

    def finish_sweep(
        self, sweep_id: str, curve: LatencyCurve | None, *, state: SweepState
    ) -> str | None:
        """Ends the sweep as `state` and keeps its curve (if any): the curve's id.

        One transaction, which also raises `generation`. Doing it again for a sweep that has
        ended changes nothing and returns the id kept then.
        """
        raise NotImplementedError

    def get_curve_header(self, curve_id: str) -> CurveHeader:
        """The curve's header. Raises UnknownCurveError."""
        raise NotImplementedError

    def load_curve(self, curve_id: str) -> LatencyCurve:
        """The curve with its arrays. Raises UnknownCurveError."""
        raise NotImplementedError

    def find_curves(self, workload_key: str, platform_key: str) -> list[CurveHeader]:
        """Headers of every curve of that workload on that platform, newest first."""
        raise NotImplementedError

    def list_curves(
        self,
        *,
        kind: str | None = None,
        platform_key: str | None = None,
        host: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[CurveHeader]:
        """Curve headers, newest first. InvalidRequestError for a cursor it didn't give."""
        raise NotImplementedError

    def generation(self) -> int:
        """A number that grows with every curve kept and every host registered or changed.

        Caches of answers are valid as long as it stays the same.
        """
        raise NotImplementedError
