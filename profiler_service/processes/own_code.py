"""Measures a user's own code in the user's command: plans a batch, measures it, hands it over.

It takes turns with the machine's worker, batch by batch. Knows neither HTTP nor the terminal.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.machinery
import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from profiler_service.analysis.samples import Samples
from profiler_service.errors import InvalidRequestError, MeasurementFailedError
from profiler_service.kinds import CALLABLE
from profiler_service.kinds.callables import NO_SOURCE, check_function
from profiler_service.measurement.identity import correct_device_id, find_device_id
from profiler_service.measurement.measurer import Measurer
from profiler_service.measurement.processors import pin_away
from profiler_service.measurement.turn import DeviceTurn
from profiler_service.plan.create import create_planner
from profiler_service.plan.running_sweep import RunningSweep
from profiler_service.plan.spec import Progress, SweepSpec
from profiler_service.settings import Settings


@dataclass(frozen=True, kw_only=True)
class OwnBench:
    """Where a user's own code is measured: a measuring process, and its turns on the device."""

    measurer: Measurer
    turn: DeviceTurn


Keep = Callable[[int, Samples, Progress], bool]
"""Takes a batch by its number. Returns whether the sweep goes on."""


def find_source(function: str) -> str:
    """12 hexadecimal digits that change with the file of the module of `function`.

    `NO_SOURCE` if the module has no file. Runs none of the user's code. Raises InvalidRequestError
    if there is no such module; InvalidWorkloadError for what names no function.
    """
    name = check_function(function).partition(":")[0]
    spec = _find_spec(name)
    if spec is None:
        raise InvalidRequestError(
            f"there is no module {name!r} here",
            hint="run this command in the module's directory, or install its package",
        )
    if not spec.has_location or spec.origin is None:
        return NO_SOURCE
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:12]


def _find_spec(name: str) -> importlib.machinery.ModuleSpec | None:
    """As `importlib.util.find_spec`, but imports no package for that."""
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top)
    for number in range(len(rest)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        whole = ".".join([top, *rest[: number + 1]])
        places = list(spec.submodule_search_locations)
        spec = importlib.machinery.PathFinder.find_spec(whole, places)
    return spec


@contextmanager
def open_bench(settings: Settings) -> Iterator[OwnBench]:
    """A measuring process for own code, with the settings of a worker, so on the same platform.

    Raises MeasurementFailedError.
    """
    device_id = find_device_id(settings.device)
    measurer = Measurer(
        device=settings.device,
        threads=settings.threads,
        cache=settings.cache,
        children=settings.children,
        keep_variables=[name for name in settings.keep_variables.split(",") if name],
        kinds={CALLABLE.name: CALLABLE},
        is_inference=False,
    )
    try:
        measured_id = correct_device_id(device_id, kind=measurer.platform.device)
        pin_away(measurer.measured_cpus)
        yield OwnBench(
            measurer=measurer, turn=DeviceTurn(measured_id, partition=settings.partition)
        )
    finally:
        measurer.close()


def measure(
    spec: SweepSpec,
    bench: OwnBench,
    keep: Keep,
    *,
    on_progress: Callable[[Progress], None],
    on_wait: Callable[[int, float], None],
) -> bool:
    """Measures the sweep, and gives each batch to `keep`. Whether it came to its end.

    Nothing is given before a point could be measured: a function that can't be called at all leaves
    no trace. `on_wait` is that of `DeviceTurn.held`.

    Raises MeasurementFailedError, with the reason, if no point could be measured; what
    `Measurer.measure_part` raises; and what `keep` raises.
    """
    bench.measurer.wait_for_children()
    running = RunningSweep(id="", planner=create_planner(spec))
    waiting: list[tuple[int, Samples, Progress]] = []
    while (batch := running.next_batch()) is not None:
        with bench.turn.held(on_wait=on_wait):
            part = bench.measurer.measure_part(
                spec.workload,
                spec.grid,
                batch,
                must_yield=functools.partial(_must_yield, bench.turn, time.monotonic()),
            )
        samples = running.take(part)
        if samples is None:
            continue
        number = running.num_batches
        running.record(samples)
        progress = running.planner.progress()
        on_progress(progress)
        waiting.append((number, samples, progress))
        while running.num_samples and waiting:
            if not keep(*waiting[0]):
                return False
            del waiting[0]
    if not running.num_samples:
        function = spec.workload.param("function")
        tried = {point for _, samples, _ in waiting for point in samples.failures}
        raise MeasurementFailedError(
            f"none of the {len(tried)} points of {function} that were tried could be measured:"
            f" {running.first_failure}"
            if len(tried) > 1
            else f"{function} can't be measured: {running.first_failure}",
            hint="try it in plain Python, with the same arguments",
        )
    return True


def _must_yield(turn: DeviceTurn, started_s: float, num_done: int) -> bool:
    return turn.must_yield(under_way_s=time.monotonic() - started_s, num_done=num_done)
