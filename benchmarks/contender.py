"""The code under test: the service's races, with its own planner and measuring process.

In this process, without HTTP or storage. Of the benchmarks of races, only this module and
`learning_host` import the service (and one that needs the module of a network to measure it).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, get_args

from benchmarks.answers.dims import Dims, show
from benchmarks.answers.machine import RefereeError
from benchmarks.learning_host import Host

if TYPE_CHECKING:
    from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
    from profiler_service.grid import Grid
    from profiler_service.plan.base import Batch
    from profiler_service.workload import Workload

MAX_LEADERS = 12

HostName = Literal["empty", "learned"]
"""A host that knows nothing, and one that starts from what it has learned of earlier races."""
HOSTS: Final[tuple[HostName, ...]] = get_args(HostName)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The cost and the result of one stage of a race, for the report's raw figures."""

    name: str
    num_visits: int
    seconds: float
    field_size: tuple[int, ...]
    kept_size: tuple[int, ...]
    why: str


@dataclass(frozen=True, kw_only=True)
class Race:
    """The answer and the cost of one race."""

    answer: Dims
    wall_s: float
    measuring_s: float
    num_calls: int
    num_discarded: int
    """Calls that were discarded as disturbed and made again, not counted in `num_calls`."""
    claimed: tuple[float, float, float]
    """Claimed latency of the best rival divided by the queried point's: estimate, low, high."""
    settled: bool | None
    margin: float | None
    """Nothing that the race compared is more than this share faster than the answer, it claims."""
    unseen_risk: float | None
    """Claimed probability that a point that was never compared is faster by more than that."""
    leaders: tuple[Dims, ...]
    """The points that stayed longest, best first, at most MAX_LEADERS."""
    stages: tuple[Stage, ...]


class Racing(Protocol):
    """`race_window` on one machine, for one workload and one size of windows."""

    def __call__(
        self,
        dims: Dims,
        seed: int,
        *,
        budget_s: float | None = None,
        host: Host | None = None,
    ) -> Race:
        """Races the window above the dims."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """The code under test."""

    race: Racing
    threads: int
    cpus: int


def race_window(
    workload: Workload,
    dims: Dims,
    side: int,
    seed: int,
    measure: Callable[[Workload, Grid, Batch], Samples],
    platform: Platform,
    protocol: TimingProtocol,
    *,
    budget_s: float | None = None,
    host: Host | None = None,
) -> Race:
    """The planner's race over `side` × `side` points above `dims`, with samples from `measure`.

    It takes no longer than `budget_s`, but for the batch under way. It starts from what the `host`
    has learned, and the host learns from it. Without a host, it starts from nothing.

    Raises RefereeError if it ends without an answer.
    """
    from profiler_service.grid import Grid
    from profiler_service.plan.race.planner import RacePlanner
    from profiler_service.plan.spec import SweepSpec

    grid = Grid.window(dims, (side - 1, side - 1))
    started = time.perf_counter()
    spec = SweepSpec(
        workload=workload,
        mode="race",
        grid=grid,
        seed=seed,
        budget_s=budget_s,
        learned=None if host is None else host.start(grid),
    )
    planner, batches = RacePlanner(spec), []
    while (batch := planner.next_batch()) is not None:
        batches.append(measure(workload, grid, batch))
        planner.record(batches[-1])
    curve = planner.build_curve(platform, protocol, dt.datetime.now(dt.UTC))
    wall_s = time.perf_counter() - started
    if host is not None:
        host.learn(spec, planner, batches)
    found = curve.answers
    if found.target[0] < 0:
        raise RefereeError(f"the race from {show(dims)} ended without an answer")

    def dims_of(point: int) -> Dims:
        first, second = grid.dims(point)
        return first, second

    # Later stages have fewer points, all of them from the stage before.
    ranked = [point for stage in reversed(planner.stages) for point in stage.kept]
    return Race(
        answer=dims_of(int(found.target[0])),
        wall_s=wall_s,
        measuring_s=planner.progress().seconds,
        num_calls=curve.evidence.calls or 0,
        num_discarded=curve.evidence.discarded or 0,
        claimed=(float(found.ratio[0]), float(found.ratio_low[0]), float(found.ratio_high[0])),
        settled=curve.evidence.settled,
        margin=curve.evidence.margin,
        unseen_risk=curve.evidence.unseen_risk,
        leaders=tuple(dims_of(point) for point in list(dict.fromkeys(ranked))[:MAX_LEADERS]),
        stages=tuple(
            Stage(
                name=stage.name,
                num_visits=stage.num_visits,
                seconds=round(stage.seconds, 4),
                field_size=stage.field_size,
                kept_size=stage.kept_size,
                why=stage.why,
            )
            for stage in planner.stages
        ),
    )


@contextlib.contextmanager
def open_contender(
    kind: str, side: int, params: Mapping[str, int] | None = None
) -> Iterator[Contender]:
    """Races over windows of `side` × `side` points of a workload, with a warm measuring process.

    Raises RefereeError if it can't measure here.
    """
    from profiler_service.errors import MeasurementFailedError
    from profiler_service.kinds import get_workload_kind
    from profiler_service.measurement.measurer import Measurer

    workload = get_workload_kind(kind).describe(params)
    try:
        with Measurer(device="cpu") as measurer:
            # As the service's worker does, which keeps off the measured processors.
            rest = os.sched_getaffinity(0) - set(measurer.measured_cpus)

            def race(
                dims: Dims,
                seed: int,
                *,
                budget_s: float | None = None,
                host: Host | None = None,
            ) -> Race:
                with _running_on(rest):
                    return race_window(
                        workload,
                        dims,
                        side,
                        seed,
                        measurer.measure,
                        measurer.platform,
                        measurer.protocol,
                        budget_s=budget_s,
                        host=host,
                    )

            yield Contender(
                race=race, threads=measurer.platform.threads, cpus=measurer.platform.cpus
            )
    except MeasurementFailedError as error:
        raise RefereeError(f"the race failed: {error}") from error


@contextlib.contextmanager
def _running_on(cpus: set[int]) -> Iterator[None]:
    """Keeps this thread on `cpus`; does nothing if there are none."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
