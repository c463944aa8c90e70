"""Measures curves on a device through the service's own measuring, in a given time.

    python -m benchmarks.gpu_curves --minutes 10 --out gpu-curves
    python -m benchmarks.gpu_curves --device cpu --tiny --minutes 1 --out /tmp/tried

Windows of `linear`, `matmul` and `lstm` in bfloat16 and float32, each as a curve over one axis, and
(but for `matmul`) as a race from 1197 × 317; and the paper's Figs. 1 to 3 on this device.
Everything that is measured is written at once. Needs torch and numpy (and nvidia-ml-py, to see
throttling), no database and no service.

Exit code: 0 if every part has a result, 1 if one has none.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.figures import sparse
from benchmarks.gpu_curves.jobs import Job, make_jobs
from benchmarks.gpu_curves.results import Results
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.errors import LhpError
from profiler_service.grid import Grid
from profiler_service.measurement.measurer import Measurer
from profiler_service.measurement.processors import pin_away
from profiler_service.plan.base import Batch
from profiler_service.plan.create import create_planner
from profiler_service.plan.spec import SweepSpec
from profiler_service.workload import Workload

BATCH = 16


class Measures(Protocol):
    """What measures, as a `Measurer` does."""

    platform: Platform
    protocol: TimingProtocol

    def measure(self, workload: Workload, grid: Grid, batch: Batch) -> Samples:
        """The samples of a batch."""


class Bench:
    """Measures jobs, and keeps each batch as it comes."""

    def __init__(
        self,
        measurer: Measures,
        results: Results,
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._measurer = measurer
        self._results = results
        self._clock_s = clock_s
        self._job = ""
        self._clocks_hz: list[float] = []

    def measure(self, job: Job, seconds: float) -> bool:
        """Measures the job for about so many seconds. Whether it has a result."""
        self._job, self._clocks_hz = job.name, []
        try:
            if job.spec is not None:
                self._sweep(replace(job.spec, budget_s=seconds), self._clock_s() + seconds)
            else:
                assert job.kernels is not None
                curves = sparse.measure(
                    self._measure_batch,
                    seconds=seconds,
                    batch=BATCH,
                    kernels=job.kernels,
                    sizes=job.sizes,
                )
                self._results.keep_fig1(curves)
        except LhpError as error:
            self._results.keep_failure(job.name, str(error))
            return False
        return True

    def _sweep(self, spec: SweepSpec, deadline_s: float) -> None:
        """Measures until the planner has what it wants, or the clock says that the time is up.

        The planner counts measuring only.
        """
        planner = create_planner(spec)
        while (batch := planner.next_batch()) is not None and self._clock_s() < deadline_s:
            planner.record(self._measure_batch(spec.workload, spec.grid, batch))
        curve = planner.build_curve(
            self._measurer.platform, self._measurer.protocol, dt.datetime.now(dt.UTC)
        )
        self._results.keep_curve(self._job, curve, self._clocks_hz)

    def _measure_batch(self, workload: Workload, grid: Grid, batch: Batch) -> Samples:
        samples = self._measurer.measure(workload, grid, batch)
        self._results.keep_batch(self._job, samples)
        if samples.clock_hz is not None:
            self._clocks_hz += samples.clock_hz[~np.isnan(samples.clock_hz)].tolist()
        return samples


def share_out(jobs: Sequence[Job], left_s: float) -> float:
    """How long the first of the jobs may take, in seconds, if `left_s` are left for all."""
    return left_s * jobs[0].share / sum(job.share for job in jobs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures every job."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_curves")
    parser.add_argument("--minutes", type=float, default=10, help="for everything")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--cache", default="warm", choices=("warm", "flushed"))
    parser.add_argument("--children", type=int, default=4, help="measuring processes")
    parser.add_argument("--tiny", action="store_true", help="few small points, to try this")
    parser.add_argument("--out", type=Path, default=Path("gpu-curves"))
    options = parser.parse_args(arguments)
    end_s = time.monotonic() + 60 * options.minutes
    try:
        measurer = Measurer(device=options.device, cache=options.cache, children=options.children)
    except LhpError as error:
        parser.exit(2, f"error: {error}\nhint: {error.hint}\n")
    with measurer:
        measurer.wait_for_children()
        pin_away(measurer.measured_cpus)
        try:
            results = Results(
                options.out,
                command=f"{parser.prog} --minutes {options.minutes:g} --cache {options.cache}",
                platform=measurer.platform,
                protocol=measurer.protocol,
            )
        except FileExistsError:
            parser.exit(2, f"error: {options.out} has results already\nhint: give another --out\n")
        bench, missing = Bench(measurer, results), 0
        jobs = make_jobs(measurer.platform.device, tiny=options.tiny)
        for number, job in enumerate(jobs):
            seconds = share_out(jobs[number:], max(1.0, end_s - time.monotonic()))
            print(f"{job.name}: {seconds:.0f} s", file=sys.stderr, flush=True)
            missing += not bench.measure(job, seconds)
    print((options.out / "report.md").read_text())
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
