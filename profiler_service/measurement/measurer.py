"""The parent's side of measuring: gives batches to a child process, and returns samples.

Never imports torch. Knows neither storage nor planners.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import numpy as np

from profiler_service.analysis.samples import OthersUse, Platform, Samples, TimingProtocol
from profiler_service.errors import (
    MeasurementChildDiedError,
    MeasurementFailedError,
    MeasurementInterruptedError,
    UnsupportedOnHostError,
)
from profiler_service.grid import Grid
from profiler_service.kinds import workload_kinds
from profiler_service.kinds.backends import find_missing_backend
from profiler_service.measurement.child_process import ChildDiedError, ChildProcess
from profiler_service.measurement.children import Children
from profiler_service.measurement.device_use import (
    CpuTimes,
    find_others_use,
    read_cpu_use,
)
from profiler_service.measurement.exchange import (
    CAPACITY,
    NOWHERE,
    Block,
    Finished,
    NameOrder,
    Order,
    PointFailed,
    Refused,
    Setup,
)
from profiler_service.measurement.gpu_probe import open_gpu_probe
from profiler_service.measurement.naming import name_points
from profiler_service.measurement.processors import find_measured_cpus
from profiler_service.plan.base import Batch, Part
from profiler_service.workload import Dims, Workload, WorkloadKind

logger = logging.getLogger(__name__)

MAX_DEATHS: Final = 3
"""Measuring ends after so many deaths of the child between visits, without a sample in between.

No point causes them, so the next attempt would most likely end in the same way.
"""
MAX_DEADLY_POINTS: Final = 64
"""Measuring ends after so many points in a row that kill the child or take too long.

Each of them counts as a failed point and isn't tried again. If some neighbours exceed memory or
time, the rest of the grid is still measured. But each failure costs a new child, which takes
seconds. So many failures in a row mean that the host itself can't measure.
"""
_GRACE_S: Final = 1.0


class Measurer:
    """A measuring child process, pinned to other processors than this one. Not safe to share.

    The child is started at once, stays warm between batches, is replaced when it dies, and
    ends by itself when this process does. Only `interrupt` may be called by other threads.

    Creating it raises MeasurementFailedError if the device or torch is missing, or if the device's
    cache can't be flushed as asked.
    """

    platform: Platform
    protocol: TimingProtocol
    dtypes: tuple[str, ...]
    backends: Mapping[str, tuple[str, ...]]
    """Name in `kinds.backends.HOST_BACKENDS` → the dtypes that it multiplies."""
    measured_cpus: tuple[int, ...]
    """Processors that the child is pinned to: what `processors.pin_away` takes."""

    def __init__(
        self,
        *,
        device: str = "auto",
        threads: int = 0,
        cache: str = "warm",
        keep_variables: Collection[str] = (),
        children: int = 1,
        point_timeout_s: float = 60.0,
        kinds: Mapping[str, WorkloadKind] | None = None,
        is_inference: bool = True,
    ) -> None:
        """Starts the child and waits until it is ready, for seconds, because it imports torch.

        `threads` is that of `processors.choose_measured_cpus`, and `cache` that of
        `TimingProtocol`; flushed needs a GPU. `keep_variables` is the `keep` of
        `child_environment`. So many `children` measure, one at a time: see `Children`. A visit
        that takes longer than `point_timeout_s` seconds makes its point a failure. `kinds` are the
        workload kinds that can be measured; the installed ones by default. `is_inference` says
        whether their calls are made under `torch.inference_mode`.
        """
        self.measured_cpus = find_measured_cpus(threads)
        setup = Setup(
            device=device,
            cpus=self.measured_cpus,
            cache=cache,
            keep_variables=tuple(keep_variables),
            is_inference=is_inference,
        )
        self._point_timeout_s = point_timeout_s
        self._kinds = workload_kinds() if kinds is None else kinds
        self._interrupted_at: float | None = None
        self._children = Children(setup, count=children)
        ready = self._children.ready
        self.platform, self.protocol = ready.platform, ready.protocol
        self.dtypes, self.backends = ready.dtypes, ready.backends
        self._gpu = None if ready.gpu_uuid is None else open_gpu_probe(ready.gpu_uuid)

    def wait_for_children(self) -> None:
        """Returns when every child is ready, or has failed to start. The measurer exists earlier.

        Children that still start make noise, and until then child 0 measures in their place.
        """
        self._children.wait()

    def measure(self, workload: Workload, grid: Grid, batch: Batch) -> Samples:
        """The samples of `batch`: one for each visit, in order, except of failed points.

        A point that can't be measured (it raises, runs out of memory or time, or kills the child)
        is listed as a failure and has no sample. All other points have their samples. Raises what
        `measure_part` raises.
        """
        return self.measure_part(workload, grid, batch, must_yield=lambda _: False).samples

    def measure_part(
        self, workload: Workload, grid: Grid, batch: Batch, *, must_yield: Callable[[int], bool]
    ) -> Part:
        """As `measure`, until `must_yield` says that the batch must be broken off.

        That is asked about four times a second, with the number of visits that are done. The child
        then stops after the call under way.

        Raises:
            UnsupportedOnHostError: the device lacks the workload's dtype or backend.
            MeasurementChildDiedError: the child can't be kept alive; DeviceLostError if a new one
            can't even open the device. A later call tries again.
            MeasurementInterruptedError: `interrupt` was called meanwhile.
            MeasurementFailedError: the workload's builder is missing.
            PlatformMismatchError: the child had to be replaced, and the new one has another
            platform or timing protocol than this measurer. Every later call raises it, too.
        """
        kind = self._get_kind(workload)
        self._interrupted_at = None
        batch_started_s = time.perf_counter()
        visit_dims = grid.dims_of(batch.point)
        started_s = np.zeros(len(batch.point))
        latency_s = np.zeros(len(batch.point))
        unstable = np.zeros(len(batch.point), dtype=np.bool_)
        lost_s = np.full(len(batch.point), np.nan, dtype=np.float32)
        clock_hz = np.full(len(batch.point), np.nan, dtype=np.float32)
        num_discarded, num_deaths, num_deadly_points, prepared_s = 0, 0, 0, 0.0
        failures: dict[int, str] = {}
        pending = np.arange(len(batch.point))
        has_yielded = False

        def ask_to_yield(block: Block) -> None:
            nonlocal has_yielded
            num_done = np.count_nonzero(latency_s) + np.count_nonzero(block.latency_s)
            if not has_yielded and must_yield(int(num_done)):
                has_yielded = block.stop = True

        first_number, first_child = self._get_child(batch.child)
        use_before = self._read_cpu_use(first_child)
        number = first_number
        while len(pending) and not has_yielded:
            visits = pending[:CAPACITY]
            number, child = self._get_child(number)
            death = self._carry_out(
                number,
                child,
                Order(
                    builder=kind.builder,
                    axes=kind.axes,
                    params=dict(workload.params),
                    dims=visit_dims[visits],
                    point=batch.point[visits],
                    calls=batch.calls,
                    warmup_calls=batch.warmup_calls,
                    warms_once=batch.warms_once,
                    is_captured=not kind.has_few_launches,
                ),
                failures,
                ask_to_yield,
            )
            block, size = child.block, len(visits)
            prepared_s += block.prepared_s
            done = block.latency_s[:size] > 0
            started_s[visits] = block.started_s[:size]
            latency_s[visits] = block.latency_s[:size]
            unstable[visits] = block.unstable[:size]
            lost_s[visits] = block.lost_s[:size]
            clock_hz[visits] = block.clock_hz[:size]
            num_discarded += int(block.num_discarded[:size][done].sum())
            self._check_interrupted()
            if death is not None:
                if done.any():
                    num_deaths = num_deadly_points = 0
                under_way = block.under_way
                if under_way != NOWHERE and not done[under_way]:
                    death = failures.setdefault(int(batch.point[visits[under_way]]), death)
                    num_deadly_points += 1
                else:
                    num_deaths += 1
                if num_deaths == MAX_DEATHS or num_deadly_points == MAX_DEADLY_POINTS:
                    raise MeasurementChildDiedError(
                        f"the measuring process died {num_deaths + num_deadly_points} times"
                        f" without a sample: {death}",
                        hint="`lhp doctor` tells whether this host can measure at all",
                    )
            is_failed = np.isin(batch.point, list(failures))
            pending = np.flatnonzero((latency_s == 0) & ~is_failed)
        kept = (latency_s > 0) & ~np.isin(batch.point, list(failures))
        samples = Samples(
            point=batch.point[kept],
            round=batch.round[kept],
            time_s=(started_s[kept] - batch_started_s).astype(np.float32),
            latency_s=latency_s[kept],
            calls=batch.calls,
            unstable=unstable[kept],
            lost_s=lost_s[kept],
            clock_hz=None if self.platform.device == "cpu" else clock_hz[kept],
            num_discarded=num_discarded,
            failures=failures,
            # A new child has other counters.
            use=find_others_use(use_before, self._read_cpu_use(first_child))
            if self._children.find_running(first_number) is first_child
            else OthersUse(),
            child=number,
            seconds=time.perf_counter() - batch_started_s - prepared_s,
        )
        return Part(samples=samples, rest=batch.select(pending) if len(pending) else None)

    def name_kernels(
        self,
        workload: Workload,
        points: Sequence[Dims],
        *,
        limit_s: float,
        must_stop: Callable[[], bool],
    ) -> dict[Dims, str] | None:
        """The names of the kernels at these points, as many as can be had in about `limit_s`.

        One call of each point in a running child, outside of all samples; None if no child runs. A
        child that dies is replaced at the next `measure`; the names until then are kept.
        `must_stop` is asked about four times a second. Raises UnsupportedOnHostError,
        MeasurementFailedError.
        """
        kind = self._get_kind(workload)
        child = self._children.find_running(0)
        names: dict[Dims, str] = {}
        if child is None:
            return None
        self._interrupted_at = None
        order = NameOrder(
            builder=kind.builder,
            axes=kind.axes,
            params=dict(workload.params),
            dims=np.array(points, dtype=np.int32),
            limit_s=limit_s,
        )
        try:
            late = self._find_late_interrupt
            for place, name in name_points(child, order, must_stop=must_stop, must_end=late):
                names[points[place]] = name
        except ChildDiedError as error:
            logger.warning("not all kernels are named: %s", error)
            self._children.drop(0)
        except BaseException:
            self._children.drop(0)
            raise
        return names

    def read_gpu_use(self) -> float | None:
        """The share of about the last second in which the GPU worked for anybody, from 0 to 1.

        None on a CPU, and if the GPU doesn't show it.
        """
        return None if self._gpu is None else self._gpu.read_use()

    def interrupt(self) -> None:
        """Makes the `measure` under way, if any, raise within about a second.

        Safe to call from other threads and from signal handlers. The measurer stays usable.
        """
        self._interrupted_at = time.monotonic()
        self._children.stop()

    def close(self) -> None:
        """Ends the children. A later `measure` starts a new one."""
        self._children.close()

    def _get_kind(self, workload: Workload) -> WorkloadKind:
        if workload.kind not in self._kinds:
            raise MeasurementFailedError(
                f"no workload kind {workload.kind!r} is installed here",
                hint="install the package that brings it on this host too",
            )
        dtype = dict(workload.params).get("dtype", self.dtypes[0])
        if dtype not in self.dtypes:
            raise UnsupportedOnHostError(
                f"{self.platform.device_model} doesn't multiply {dtype}",
                hint=f"choose dtype from: {', '.join(self.dtypes)}",
            )
        kind = self._kinds[workload.kind]
        if missing := find_missing_backend(kind, dict(workload.params), self.backends):
            backend, having = missing
            raise UnsupportedOnHostError(
                f"{self.platform.device_model} has no {backend} {kind.name} of {dtype}",
                hint=f"choose backend from: {', '.join(having)}; or another dtype",
            )
        return kind

    def _read_cpu_use(self, child: ChildProcess) -> CpuTimes | None:
        if self.platform.device != "cpu":
            return None
        return read_cpu_use(self.measured_cpus, child.pid)

    def _get_child(self, number: int) -> tuple[int, ChildProcess]:
        number, child = self._children.get(number)
        child.block.stop = False
        self._check_interrupted()
        return number, child

    def _check_interrupted(self) -> None:
        if self._interrupted_at is not None:
            raise MeasurementInterruptedError("the measurement was interrupted")

    def _find_late_interrupt(self) -> str | None:
        at_s = self._interrupted_at
        is_late = at_s is not None and time.monotonic() > at_s + _GRACE_S
        return "it was interrupted" if is_late else None

    def _carry_out(
        self,
        number: int,
        child: ChildProcess,
        order: Order,
        failures: dict[int, str],
        ask_to_yield: Callable[[Block], None],
    ) -> str | None:
        """None when the order is finished or was stopped; otherwise why the child has ended.

        Failed points are added to `failures`.
        """
        visit, since = NOWHERE, time.monotonic()

        def find_reason_to_end() -> str | None:
            nonlocal visit, since
            now = time.monotonic()
            if (reason := self._find_late_interrupt()) is not None:
                return reason
            if child.block.under_way != visit:
                visit, since = child.block.under_way, now
            elif now > since + self._point_timeout_s:
                return f"it took longer than {self._point_timeout_s:g} s"
            ask_to_yield(child.block)
            return None

        try:
            child.order(order)
            while not isinstance(message := child.receive(find_reason_to_end), Finished):
                if isinstance(message, PointFailed):
                    failures.setdefault(message.point, message.reason)
                elif isinstance(message, Refused):
                    break
        except ChildDiedError as error:
            self._children.drop(number)
            return str(error)
        except BaseException:
            # Most likely Ctrl-C. The child is still making visits, so it can't take another order.
            self._children.drop(number)
            raise
        if isinstance(message, Refused):
            raise MeasurementFailedError(message.message, hint=message.hint)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
