"""Curves of a device in a given time: what is measured, what is kept, and when it ends."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu_curves.__main__ import Bench, main, share_out
from benchmarks.gpu_curves.jobs import Job, make_jobs
from benchmarks.gpu_curves.results import Results
from profiler_service.analysis.samples import Samples
from profiler_service.errors import UnsupportedOnHostError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from profiler_service.plan.base import Batch
from profiler_service.plan.spec import SweepSpec
from profiler_service.workload import Workload
from tests.synthetic import PLATFORM, PROTOCOL, SyntheticDevice, stairs

GRID = Grid(axes=(GridAxis(first=256, count=33),))
MATMUL_JOB = Job(
    name="matmul", share=1, spec=SweepSpec(workload=MATMUL.describe(), mode="grid", grid=GRID)
)


class Synthetic:
    """A device whose multiples of 8 are fast, at 1.5 GHz."""

    platform = PLATFORM
    protocol = PROTOCOL

    def __init__(self) -> None:
        self._device = SyntheticDevice(stairs(GRID, multiple=8, step=1.0))
        self.num_batches = 0

    def measure(self, workload: Workload, grid: Grid, batch: Batch) -> Samples:
        self.num_batches += 1
        samples = self._device.measure(batch)
        clock_hz = np.full(len(samples), 1.5e9, dtype=np.float32)
        object.__setattr__(samples, "clock_hz", clock_hz)
        return samples


class Lacking(Synthetic):
    def measure(self, workload: Workload, grid: Grid, batch: Batch) -> Samples:
        raise UnsupportedOnHostError("synthetic doesn't multiply float32", hint="")


def results_in(folder: Path) -> Results:
    return Results(folder, command="measured by a test", platform=PLATFORM, protocol=PROTOCOL)


def lines_of(path: Path) -> list[dict[str, Any]]:
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_curve_is_kept_with_its_samples_and_its_row(tmp_path: Path) -> None:
    device = Synthetic()
    assert Bench(device, results_in(tmp_path)).measure(MATMUL_JOB, 60.0)
    (curve,) = lines_of(tmp_path / "curves.jsonl")
    assert curve["job"] == "matmul"
    lhps = [d for (d,), s in zip(curve["dims"], curve["status"], strict=True) if s == "lhp"]
    assert lhps == [256, 264, 272, 280]  # 288 is the edge
    assert curve["ratio"][-1] is None  # of the edge; JSON has no NaN
    batches = lines_of(tmp_path / "samples.jsonl.gz")
    assert len(batches) == device.num_batches
    assert sum(len(batch["latency_s"]) for batch in batches) == curve["evidence"]["samples"]
    assert {hz for batch in batches for hz in batch["clock_hz"]} == {1.5e9}
    report = (tmp_path / "report.md").read_text()
    # 1 - 4/33. Half of the four LHPs are multiples of 16.
    assert "| matmul | 33 of 33 |" in report
    assert "87.9% to 87.9%" in report and "100% of 8, 50% of 16" in report
    assert "1500 MHz" in report


def test_a_curve_ends_when_the_clock_says_so_and_keeps_what_there_is(tmp_path: Path) -> None:
    device = Synthetic()
    clock = itertools.count()  # a second passes with each look at it
    bench = Bench(device, results_in(tmp_path), clock_s=lambda: float(next(clock)))
    # It begins at 0. Before each batch it is 1, 2, 3 and 4. The first two batches calibrate.
    assert bench.measure(MATMUL_JOB, 4.0)
    assert device.num_batches == 3
    assert len(lines_of(tmp_path / "samples.jsonl.gz")) == 3
    (curve,) = lines_of(tmp_path / "curves.jsonl")
    assert curve["evidence"]["batches"] == 3


def test_time_for_nothing_gives_no_curve(tmp_path: Path) -> None:
    clock = itertools.count()
    bench = Bench(Synthetic(), results_in(tmp_path), clock_s=lambda: float(next(clock)))
    assert not bench.measure(MATMUL_JOB, 2.0)  # for one batch, which calibrates
    (failed,) = lines_of(tmp_path / "curves.jsonl")
    assert "no point could be measured" in failed["failed"]


def test_what_the_device_lacks_is_said_and_the_rest_is_measured(tmp_path: Path) -> None:
    results = results_in(tmp_path)
    assert not Bench(Lacking(), results).measure(MATMUL_JOB, 60.0)
    assert Bench(Synthetic(), results).measure(MATMUL_JOB, 60.0)
    failed, curve = lines_of(tmp_path / "curves.jsonl")
    assert failed == {"job": "matmul", "failed": "synthetic doesn't multiply float32"}
    assert "latency_s" in curve
    assert "doesn't multiply float32" in (tmp_path / "report.md").read_text()


def test_results_are_never_mixed_with_others(tmp_path: Path) -> None:
    results_in(tmp_path)
    with pytest.raises(FileExistsError):
        results_in(tmp_path)


def test_jobs_share_the_time_that_is_left() -> None:
    jobs = [Job(name="a", share=1), Job(name="b", share=3)]
    assert share_out(jobs, 100.0) == pytest.approx(25.0)
    # The first took only 5 s: the second has the rest.
    assert share_out(jobs[1:], 95.0) == pytest.approx(95.0)


def test_windows_and_figures_are_those_asked_for() -> None:
    jobs = {job.name: job for job in make_jobs("cuda")}
    names = [
        f"{kind}-{dtype}"
        for dtype in ("bfloat16", "float32")
        for kind in ("linear", "matmul", "lstm", "race-linear", "race-lstm")
    ]
    assert jobs.keys() == {*names, "fig1", "fig2", "fig3"}
    race = jobs["race-lstm-bfloat16"].spec
    assert race is not None
    assert (race.workload.kind, race.workload.param("dtype")) == ("lstm", "bfloat16")
    # An eighth of each: 149 and 39 more.
    assert (race.grid.first, race.grid.shape) == ((1197, 317), (150, 40))
    fig3 = jobs["fig3"].spec
    assert fig3 is not None and fig3.workload.param("frames") == 300
    fig1 = jobs["fig1"].kernels
    assert fig1 is not None and "packed" not in fig1 and "csr at 95 %" in fig1
    on_cpu = {job.name: job for job in make_jobs("cpu")}["fig1"].kernels
    assert on_cpu is not None and "packed" in on_cpu


def test_a_cpu_is_measured_from_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--device", "cpu", "--tiny", "--minutes", "0.02", "--children", "1"]
    assert main([*arguments, "--out", str(tmp_path / "curves")]) == 0
    done = lines_of(tmp_path / "curves" / "curves.jsonl")
    assert [each["job"] for each in done] == [job.name for job in make_jobs("cpu", tiny=True)]
    assert not any("failed" in each for each in done)
    machine = json.loads((tmp_path / "curves" / "machine.json").read_text())
    assert machine["platform"]["device"] == "cpu"
    assert "## Fig. 1" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*arguments, "--out", str(tmp_path / "curves")])
    assert "has results already" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(SystemExit):
        main(["--device", "cuda", "--out", str(tmp_path)])
    assert "finds no CUDA device" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
