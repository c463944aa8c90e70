"""The objects that the store returns: hosts, sweeps, curve headers, pages.

Knows no database.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Literal, TypeVar

from profiler_service.analysis.comparison import Verdict
from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.facts import Confirmation, ConfirmedPair
from profiler_service.analysis.repeatability import REPEATABILITY
from profiler_service.analysis.samples import Platform
from profiler_service.grid import Grid
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import Progress, SweepSpec, SweepState
from profiler_service.workload import Dims, Workload

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class WorkerIdentity:
    """One worker process, told apart from every other one that ever ran."""

    id: str
    """Random."""
    description: str
    """Which process on which machine, in words."""
    device_lock: str
    """Name of the lock that it holds; no two processes hold one of the same name at once."""
    machine: str = ""
    """Stays the same until the machine's system is installed anew; empty if it shows none."""


class HostStatus(StrEnum):
    """What operators have decided about a host, or must decide."""

    PENDING = "pending"
    """It has joined, and measures when somebody approves it."""
    APPROVED = "approved"
    """It may measure."""
    QUARANTINED = "quarantined"
    """Its machine isn't fit to measure, or isn't what was approved. Somebody must decide."""
    DRAINING = "draining"
    """It ends the sweeps that it has, and takes no new ones."""
    RETIRED = "retired"
    """It is removed; its curves and facts stay."""

    @property
    def takes_sweeps(self) -> bool:
        """Whether new sweeps may be queued for it."""
        return self is HostStatus.APPROVED

    @property
    def is_admitted(self) -> bool:
        """Whether operators have let it in, so that it may use the database."""
        return self in (HostStatus.APPROVED, HostStatus.DRAINING)

    @property
    def may_run(self) -> bool:
        """Whether its worker may go on: to measure, to end its sweeps, or to wait for approval."""
        return self not in (HostStatus.QUARANTINED, HostStatus.RETIRED)


CLOCK_SKEW_S = 5.0
"""A host's clock that differs by more from the database's is named."""
EPHEMERAL_SILENCE_S = 86_400.0
"""After so long a silence, an ephemeral host counts as removed."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """A machine that measures, as it registered itself."""

    name: str
    platform_key: str
    protocol_key: str
    """How it takes time."""
    dtypes: tuple[str, ...]
    """Element types that its device multiplies."""
    backends: Mapping[str, tuple[str, ...]]
    """Backend of products → the dtypes that it multiplies."""
    registered_at: dt.datetime
    last_seen_at: dt.datetime
    """Last heartbeat of its worker."""
    silent_s: float = field(default=0.0, compare=False)
    """Seconds since then when this was read, by the database's clock."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What operators say of it, `pool` → `train`."""
    status: HostStatus = HostStatus.APPROVED
    machine: str = ""
    """Identity of its machine; empty if that shows none, or hasn't registered since there are."""
    is_ephemeral: bool = False
    """Whether it counts as retired after `EPHEMERAL_SILENCE_S` of silence."""
    findings: Mapping[str, str] = field(default_factory=dict)
    """What the doctor found poor when it joined: name of the check → text."""
    role: str | None = None
    """Its own role in PostgreSQL, if it joined with a key; empty while it has none."""
    offered_platform_key: str | None = None
    """The platform that it has changed to, which nobody has approved yet."""
    clock_skew_s: float | None = field(default=None, compare=False)
    """How far its clock is ahead of the database's, seconds; None if it isn't known."""


@dataclass(frozen=True, kw_only=True)
class Joining:
    """What a machine that joins says of itself."""

    name: str
    """The name that it would have, unless the key gives another."""
    machine: str
    """Its identity, as in `WorkerIdentity`."""
    node: str
    """Its network name, for messages."""
    platform: Platform
    protocol_key: str
    dtypes: tuple[str, ...]
    backends: Mapping[str, tuple[str, ...]]
    findings: Mapping[str, str]
    """What the doctor found poor; name of the check → text. Empty: it is fit to measure."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """A host that has joined, and the credentials of its role in PostgreSQL."""

    host: Host
    role: str = ""
    """Empty until an operator has let the host in."""
    password: str = field(default="", repr=False)
    void_role: str = ""
    """The role that it had before, which nobody may use any more; empty if there is none."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep and its state."""

    id: str
    """Sortable by creation time (UUID version 7)."""
    host: str
    spec: SweepSpec
    state: SweepState
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    cancel_requested: bool
    progress: Progress | None
    error: str
    """Why it failed or, if it is running, why it is paused; empty otherwise."""
    curve_id: str | None
    request_id: str | None = None
    """Of the request that asked for it first; None if nobody did, or it isn't known."""
    traceparent: str | None = None
    """The span in which it was asked for first; None if nobody traces."""


@dataclass(frozen=True, kw_only=True)
class FleetStatus:
    """What monitoring wants to know of all hosts. What isn't there is zero."""

    hosts: Sequence[Host]
    """Those that aren't retired, the last heard of first."""
    num_open: Mapping[str, int]
    """Host → its sweeps that haven't ended."""
    num_ended: Mapping[tuple[str, str, str], int]
    """Host, mode and final state → sweeps that ended so, ever."""
    num_discarded: Mapping[str, int]
    """Host → samples that were discarded, ever."""
    redundancy: Mapping[tuple[str, str], float]
    """Host and workload kind → redundancy of the newest grid of that kind."""
    canaries: Mapping[tuple[str, Dims], str] = field(default_factory=dict)
    """Host and point → the newest curve of a question about that point, on its platform now."""


@dataclass(frozen=True, kw_only=True)
class FleetSweep:
    """The same sweep on several hosts."""

    id: str
    """Sortable by creation time (UUID version 7)."""
    label: str
    """That of the hosts, `pool:train`."""
    created_at: dt.datetime
    sweeps: tuple[Sweep, ...]
    """One for each host that had the label, by the host's name."""

    @property
    def state(self) -> SweepState:
        """That of all together: final once all have ended, and done if all are."""
        states = {each.state for each in self.sweeps}
        if not all(each.is_final for each in states):
            has_begun = states != {SweepState.QUEUED}
            return SweepState.RUNNING if has_begun else SweepState.QUEUED
        worst = (SweepState.FAILED, SweepState.CANCELLED)
        return next((each for each in worst if each in states), SweepState.DONE)

    @property
    def fraction(self) -> float:
        """Mean share of the work that is done, 0 to 1."""
        done = [
            1.0 if each.state.is_final else 0.0 if each.progress is None else each.progress.fraction
            for each in self.sweeps
        ]
        return sum(done) / len(done) if done else 0.0


@dataclass(frozen=True, kw_only=True)
class CurveHeader:
    """Everything about a stored curve except its arrays."""

    id: str
    """Sortable by creation time (UUID version 7)."""
    sweep_id: str
    host: str
    workload: Workload
    platform_key: str
    protocol_key: str
    grid: Grid
    mode: Mode
    num_measured: int
    num_lhps: int
    num_undecided: int
    num_failures: int
    measured_at: dt.datetime
    evidence: Evidence
    generation: int = field(default=0, compare=False)
    """The store's generation with it: grows in the order in which curves were kept."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A confirmed pair, and where it is from."""

    id: str
    """Sortable by the time of keeping (UUID version 7)."""
    curve_id: str
    sweep_id: str
    host: str
    workload: Workload
    platform_key: str
    protocol_key: str
    pair: ConfirmedPair
    tau: float | None
    """`SweepSpec.tau` of the race."""
    worker: str
    """The worker whose measuring processes took the pairs; empty if it isn't known."""
    measured_at: dt.datetime
    repeats: str | None = None
    """Id of the fact before it about the same pair."""
    overruled_by: str | None = None
    """Id of the later fact about the same pair with which it can't be true any more."""

    @property
    def confirmation(self) -> Confirmation:
        """What the fact counts for among others about the same pair."""
        tau = REPEATABILITY.prior_tau if self.tau is None else self.tau
        return Confirmation(pair=self.pair, tau=tau, worker=self.worker)


@dataclass(frozen=True, kw_only=True)
class FactFilter:
    """Which facts a list shows. None: all."""

    kind: str | None = None
    workload_key: str | None = None
    platform_key: str | None = None
    host: str | None = None
    dims: Dims | None = None
    """The queried point."""
    verdict: Verdict | None = None
    since: dt.datetime | None = None
    """Measured then or later."""


@dataclass(frozen=True, kw_only=True)
class ParamFilter:
    """What a fixed parameter of a curve's workload must be."""

    name: str
    values: tuple[str, ...]
    """One of these, as text."""
    left_out_by: tuple[str, ...] = ()
    """Kinds whose workloads leave it out if it has that value."""


@dataclass(frozen=True, kw_only=True)
class SearchWord:
    """A text that something about a curve must have in it, in capitals or not."""

    text: str
    platform_keys: tuple[str, ...] = ()
    """Platforms that have it in their description."""


@dataclass(frozen=True, kw_only=True)
class CurveFilter:
    """Which curves a list shows. None: all."""

    kind: str | None = None
    workload_key: str | None = None
    raced_from: Dims | None = None
    """Only races of a question about these dims."""
    platform_key: str | None = None
    host: str | None = None
    mode: Mode | None = None
    since: dt.datetime | None = None
    """Measured then or later."""
    until: dt.datetime | None = None
    """Measured before."""
    params: tuple[ParamFilter, ...] = ()
    """All of these."""
    words: tuple[SearchWord, ...] = ()
    """All of these."""


CurveSort = Literal[
    "kept", "measured", "workload", "host", "platform", "points", "lhps", "redundancy"
]


@dataclass(frozen=True, kw_only=True)
class CurveOrder:
    """The order of a list of curves. Equal ones are in the order in which they were kept."""

    sort: CurveSort = "kept"
    descending: bool = True


@dataclass(frozen=True, kw_only=True)
class TableSize:
    """The room that one table takes, with its indexes."""

    name: str
    num_rows: int
    size_bytes: int | None
    """None if the database can't tell."""


@dataclass(frozen=True, kw_only=True)
class Prunable:
    """Sweeps whose raw samples can be pruned."""

    num_sweeps: int
    size_bytes: int
    """Of all their raw samples. The first sample of each point stays, so less is freed."""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What one step of pruning took away."""

    num_sweeps: int
    """Sweeps that are pruned to their end now."""
    num_batches: int
    freed_bytes: int


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """One page of a long list, newest first unless asked for otherwise."""

    items: Sequence[T]
    next_cursor: str | None
    """Pass it as `cursor` for the next page; None on the last."""
