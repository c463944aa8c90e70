"""Figs. 2 and 3: which sweep is drawn, what is said of its curve, what is left behind."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from benchmarks.figures import hysteresis, paper
from benchmarks.figures.__main__ import main
from profiler_service.analysis.curve import AnswerTable, LatencyCurve, PointStatus
from profiler_service.analysis.evidence import Evidence
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import get_workload_kind
from profiler_service.plan.spec import SweepSpec
from tests.synthetic import PLATFORM, PROTOCOL, SyntheticDevice, smooth, stairs

DOMINATED, LHP, UNDECIDED = PointStatus.DOMINATED, PointStatus.LHP, PointStatus.UNDECIDED


def curve(*, seconds: float = 10.0) -> LatencyCurve:
    """Sizes 8 to 14 of a square product; a budget of 10 s. Latencies in µs:

    size     8    9   10   11   12   13   14
    latency  4  3.6    2    6    3  4.5    4
    """
    latency_s = 1e-6 * np.array([4, 3.6, 2, 6, 3, 4.5, 4])
    nan = float("nan")
    return LatencyCurve(
        workload=get_workload_kind("matmul").describe({}),
        platform=PLATFORM,
        protocol=PROTOCOL,
        grid=Grid(axes=(GridAxis(first=8, count=7),)),
        latency_s=latency_s,
        low_s=0.99 * latency_s,
        high_s=1.01 * latency_s,
        num_samples=np.full(7, 18, dtype=np.int32),
        status=np.array([DOMINATED, DOMINATED, LHP, DOMINATED, LHP, UNDECIDED, LHP], np.int8),
        answers=AnswerTable(
            target=np.array([2, 2, 2, 4, 4, 5, 6], dtype=np.int32),
            ratio=np.array([0.5, 2 / 3.6, 1.5, 0.5, 4 / 3, 0.9, nan]),
            ratio_low=np.array([0.3, 0.54, 1.4, 0.49, 1.3, 0.7, nan]),
            ratio_high=np.array([0.7, 0.57, 1.6, 0.51, 1.4, 1.1, nan]),
            rival=np.array([2, 2, 4, 4, 6, 6, -1], dtype=np.int32),
        ),
        measured_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        evidence=Evidence(rounds=18, seconds=seconds, asked_budget_s=10.0),
    )


def test_of_points_with_one_answer_the_one_with_the_surest_gain_is_shown() -> None:
    # 8 and 9 both grow to 10: 8 by the larger ratio, but its interval begins at 1 / 0.7 = 1.43
    # times as fast, that of 9 at 1 / 0.57. 11 to 12: 1 / 0.51. 13 isn't surely slower than 14.
    gains = hysteresis.find_gains(curve())
    assert [(gain.dim, gain.answer) for gain in gains] == [(11, 12), (9, 10)]
    assert gains[0].speedup == pytest.approx(2.0)
    assert (gains[0].low, gains[0].high) == pytest.approx((1 / 0.51, 1 / 0.49))
    assert (gains[1].latency_s, gains[1].answer_latency_s) == pytest.approx((3.6e-6, 2e-6))
    table = hysteresis.table(curve())
    assert "| 11 | 6.00 µs | 12 | 3.00 µs | 2.000 (1.961 to 2.041) |" in table


def test_redundancy_is_said_with_what_is_undecided() -> None:
    text = "\n".join(hysteresis.say(curve()))
    # 3 LHPs of 7 points: 1 - 3/7 = 57.1 %; with the undecided one as a fourth, 42.9 %. By the
    # medians alone 10, 12 and 14 are LHPs, too.
    assert "42.9 to 57.1 %" in text
    assert "3 are surely LHPs, 3 surely not, and 1 undecided (14.3%)" in text
    assert "The medians alone, with their noise, show 57.1%" in text
    assert "within ± 1.00%" in text
    # Of 10, 12 and 14, 12 is a multiple of 4, none is one of 8.
    assert "33% of 4, 0% of 8" in text


@pytest.mark.parametrize(
    ("seconds", "why"), [(10.0, "ended by its budget"), (9.9, "ended by its own stopping rule")]
)
def test_why_measuring_ended_is_said(seconds: float, why: str) -> None:
    text = "\n".join(hysteresis.say(curve(seconds=seconds)))
    assert why in text
    assert text.count("ended by") == 1


@pytest.mark.parametrize(("noise", "least", "most"), [(1e-6, 0.0, 0.0), (0.3, 0.7, 1.0)])
def test_what_noise_alone_would_show(noise: float, least: float, most: float) -> None:
    # 100 sizes whose latency grows by about 1 % each: without noise, none is dominated; with noise
    # of 30 %, nearly all are.
    latency_s = 1e-9 * np.arange(200.0, 300.0) ** 2
    found = hysteresis.expect_from_noise(
        dataclasses.replace(
            curve(),
            grid=Grid(axes=(GridAxis(first=200, count=100),)),
            latency_s=latency_s,
            low_s=latency_s * np.exp(-1.96 * noise),
            high_s=latency_s * np.exp(1.96 * noise),
        )
    )
    assert least <= found <= most


def test_rates_are_those_of_useful_operations() -> None:
    # Size 8: 2 · 16 · 8² operations in 4 µs are 0.512 GFLOP/s.
    assert hysteresis.find_rates(curve())[0] == pytest.approx(0.512)


def test_a_sweep_finds_known_steps_and_leaves_picture_data_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Only multiples of 8 are fast, by far more than 32 sizes add: LHPs are 256, 264 … 280. Nothing
    # is larger than 288, the edge.
    grid = Grid(axes=(GridAxis(first=256, count=33),))
    device = SyntheticDevice(stairs(grid, multiple=8, step=1.0))
    spec = SweepSpec(workload=get_workload_kind("matmul").describe({}), mode="grid", grid=grid)
    found = hysteresis.sweep(spec, device.measure, platform=PLATFORM, protocol=PROTOCOL)
    assert "finished" in capsys.readouterr().err
    dims = grid.all_dims()[:, 0]
    assert dims[found.status == LHP].tolist() == [256, 264, 272, 280]
    assert dims[found.status == PointStatus.EDGE].tolist() == [288]
    assert found.num_undecided == 0
    text = hysteresis.write("fig2", found, ["# Heading", ""], tmp_path)
    assert (tmp_path / "fig2.md").read_text() == text
    assert text.startswith("# Heading\n")
    # 1 - 4/33
    assert "87.9 %" in text and "ended by its own stopping rule" in text
    assert "100% of 4, 100% of 8" in text
    with (tmp_path / "fig2.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["size"]) for row in rows] == dims.tolist()
    assert (rows[1]["status"], rows[1]["rival_size"]) == ("dominated", "264")


def test_latency_and_time_per_operation_are_drawn(tmp_path: Path) -> None:
    hysteresis.draw("fig2", curve(), tmp_path, ending=".html")
    latency, per_operation = (tmp_path / f"fig2{view}.html" for view in ("", "-per-flop"))
    assert "latency of one call, µs" in latency.read_text()
    assert "time per operation, ns" in per_operation.read_text()


def test_a_budget_too_small_for_any_interval_claims_nothing(tmp_path: Path) -> None:
    grid = Grid(axes=(GridAxis(first=256, count=33),))
    # 2 ms a call, 5 ms a visit: the 0.5 s of a batch are three rounds or so.
    device = SyntheticDevice(smooth(grid, unit_s=2e-9))
    spec = paper.describe(paper.FIGURES["fig2"], device="cpu", seconds=0.3)
    spec = SweepSpec(workload=spec.workload, mode="grid", grid=grid, budget_s=spec.budget_s)
    found = hysteresis.sweep(spec, device.measure, platform=PLATFORM, protocol=PROTOCOL)
    text = hysteresis.write("fig2", found, [], tmp_path)
    # None of 33 is known to be an LHP. All but the edge may be: 1 - 32/33.
    assert "3.0 to 100.0 %" in text
    assert "ended by its budget" in text and "Too few rounds for any interval" in text
    assert "times as fast" not in text


@pytest.mark.parametrize(("frames", "is_said"), [(33, True), (300, False)])
def test_short_sequences_are_said_to_be_short(tmp_path: Path, frames: int, is_said: bool) -> None:
    speech = get_workload_kind("deepspeech2").describe({"frames": frames})
    text = hysteresis.write("fig3", dataclasses.replace(curve(), workload=speech), [], tmp_path)
    assert ("two time steps" in text) == is_said


def test_figures_are_those_of_the_paper() -> None:
    fig2 = paper.describe(paper.FIGURES["fig2"], device="cpu", seconds=5)
    assert fig2.workload.key == "matmul[backend=dense,batch=16,dtype=float32]"
    assert (fig2.grid.first, fig2.grid.last, fig2.grid.size) == ((256,), (2048,), 1793)
    assert (fig2.mode, fig2.budget_s) == ("grid", 5)
    on_cpu, on_gpu = (
        paper.describe(paper.FIGURES["fig3"], device=device, seconds=5)
        for device in ("cpu", "cuda")
    )
    assert (on_cpu.grid.first, on_cpu.grid.last, on_cpu.grid.size) == ((600,), (800,), 201)
    # A CPU would take seconds for a call of whole utterances.
    assert [each.workload.param("frames") for each in (on_cpu, on_gpu)] == [33, 300]
    assert [each.workload.param("batch") for each in (on_cpu, on_gpu)] == [16, 16]


def test_an_unknown_figure_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fig4"])
    assert "fig3" in capsys.readouterr().err


def test_too_few_seconds_are_told_without_a_traceback(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["fig3", "--seconds", "0.001", "--out", str(tmp_path)]) == 1
    assert "hint: give it more --seconds" in capfd.readouterr().err
    assert not any(tmp_path.iterdir())
