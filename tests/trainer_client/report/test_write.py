"""A run's table, with latencies from a service that knows a formula."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from profiler_service.errors import LhpError, NotFoundError, PlatformMismatchError
from profiler_service.wire import CurveDetail, FailedPoint, GridAxisRange, PlatformInfo
from tests.cli.stub import CURVE, PLATFORM
from tests.trainer_client.stand_ins import make_run
from tests.trainer_client.texts import tiny_config
from trainer_client.report.document import NAMES, Report
from trainer_client.report.step_latencies import measure_steps
from trainer_client.report.text import to_markdown
from trainer_client.report.write import (
    LATENCIES,
    UnreadableRunError,
    make_report,
)
from trainer_client.run.checkpoint import read_checkpoint, write_checkpoint
from trainer_client.run.logs import CHECKPOINT

KERNELS = {"dtype": "float32", "backend": "dense"}
PARAMS = {"batch": 4, "steps": 10, "input_size": 8, "vocabulary": 12, **KERNELS}


STEPS = ("growth", "units", "lhp", "weights")


class Service:
    """Every product of dims takes 1 µs a unit; the n-th sweep, 1 % a sweep more: drift.

    Or `drift` times as long as the sweep before.
    """

    def __init__(self, drift: float | None = None) -> None:
        self.drift = drift
        self.asked: list[tuple[str, list[list[int]], dict[str, Any]]] = []
        self.failing: list[int] | None = None

    def measure(
        self,
        axes: Sequence[GridAxisRange],
        *,
        workload: str = "linear",
        params: Mapping[str, int | str] | None = None,
    ) -> CurveDetail:
        ranges = [list(range(a.first, a.last + 1, a.step)) for a in axes]
        self.asked.append((workload, ranges, dict(params or {})))
        drift = 1 + len(self.asked) / 100
        if self.drift is not None:
            drift = self.drift ** len(self.asked)
        dims = [list(each) for each in itertools.product(*ranges) if list(each) != self.failing]
        latency_s = [a * b * 1e-6 * drift for a, b in dims]
        points = CURVE.points.model_copy(
            update={
                "dims": dims,
                "latency_s": latency_s,
                "low_s": [each * 0.9 for each in latency_s],
                "high_s": [each * 1.1 for each in latency_s],
            }
        )
        failures = [FailedPoint(dims=self.failing, reason="out of memory")] if self.failing else []
        curve_id = f"c{len(self.asked)}"
        return CURVE.model_copy(
            update={"id": curve_id, "points": points, "failures": failures, "workload": workload}
        )

    def get_platform(self, key: str) -> PlatformInfo:
        return PLATFORM.model_copy(update={"key": key})


def row(step: str, dims: list[int], **more: object) -> dict[str, Any]:
    return {
        "step": step,
        "dims": dims,
        "recurrent_parameters": 1000,
        "table_parameters": 96,
        "valid_perplexity": 9.5,
        "test_perplexity": 9.25,
        "rounds": 1,
        "seconds": 30.0,
        **more,
    }


ANSWER = {
    "dims": [8, 4],
    "lhp": [10, 4],
    "speedup": 1.05,
    "speedup_interval": [1.01, 1.09],
    "latency_s": 2e-3,
    "lhp_latency_s": 1.9e-3,
    "verdict": "faster",
    "source": "service",
    "curve": "c9",
    "stale": False,
    "platform": "p",
}
ROWS = [
    row("baseline", [12, 8]),
    row("growth", [12, 8], density=0.65),
    row(
        "units",
        [8, 4],
        density=0.6,
        threshold=10.0,
        threshold_of="the baseline's",
        rounds_accepted=1,
        kept_threshold=True,
    ),
    row("lhp", [10, 4], density=0.61, answer=ANSWER),
    row(
        "weights",
        [10, 4],
        density=0.1,
        threshold=9.0,
        threshold_of="as configured",
        rounds_accepted=0,
        kept_threshold=False,
    ),
]


FAR_ROWS = [
    each | {"dims": dims}
    for each, dims in zip(
        ROWS, ([375, 100], [375, 100], [300, 80], [304, 80], [304, 80]), strict=True
    )
]
"""A run whose dims no small grid has."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A run that went through ROWS."""
    run = make_run(tiny_config(), tmp_path)
    run.rows, run.step = list(ROWS), "done"
    run.save()
    return tmp_path


def test_all_steps_are_measured_in_one_sweep_where_a_small_grid_has_them(directory: Path) -> None:
    service = Service()
    report = make_report(directory, service)
    assert service.asked == [
        ("lstm_lm", [[12], [8]], {"batch": 4, "steps": 10, "vocabulary": 12, "dtype": "float32"}),
        ("hlstm_lm", [[8, 10, 12], [4, 8]], PARAMS),
    ]
    assert report.latencies["baseline"].latency_s == pytest.approx(96e-6 * 1.01)
    assert report.latencies["baseline"].curves == ["c1"]
    # 8 · 4 / (12 · 8) and 10 · 4 / (12 · 8).
    ratios = [report.latencies[step].ratio for step in STEPS]
    assert ratios == pytest.approx([1, 1 / 3, 40 / 96, 40 / 96])
    assert {tuple(report.latencies[step].curves) for step in STEPS} == {("c2",)}
    # The intervals reach from 0.9 to 1.1 of each median.
    units = report.latencies["units"]
    assert units.ratio_low == pytest.approx(0.9 / 1.1 / 3)
    assert units.ratio_high == pytest.approx(1.1 / 0.9 / 3)
    assert report.latencies["growth"].ratio_low is None


def test_else_each_step_is_measured_in_a_sweep_with_step_a() -> None:
    # No grid of a few points has 375, 300 and 304: they are 75 and 71 apart.
    service = Service()
    found = measure_steps(service, tiny_config().to_json(), FAR_ROWS, vocabulary=12)
    assert service.asked[1:] == [
        ("hlstm_lm", [[300, 375], [80, 100]], PARAMS),
        ("hlstm_lm", [[304, 375], [80, 100]], PARAMS),  # for (c) and for (d)
    ]
    # (a) is of the first; each sweep is slower than the one before it, which no ratio shows.
    assert [found[step].curves for step in STEPS] == [["c2"], ["c2"], ["c3"], ["c3"]]
    assert [found[step].ratio for step in STEPS] == pytest.approx(
        [1, 0.64, 304 * 80 / 37500, 304 * 80 / 37500]
    )
    assert found["growth"].latency_s == pytest.approx(37500e-6 * 1.02)
    assert found["lhp"].latency_s == pytest.approx(304 * 80e-6 * 1.03)


def cells_of(told: str, step: str) -> list[str]:
    (line,) = (each for each in told.splitlines() if each.startswith(f"| {NAMES[step]} |"))
    return line.strip("| ").split(" | ")


@pytest.mark.parametrize("drift", [1.0, 1.1, 1.8])
def test_milliseconds_and_ratios_of_the_table_never_contradict_each_other(drift: float) -> None:
    for rows in (ROWS, FAR_ROWS):
        config = tiny_config().to_json()
        latencies = measure_steps(Service(drift), config, rows, vocabulary=12)
        told = to_markdown(
            Report(config=config, is_finished=True, rows=rows, latencies=latencies, digests={})
        )
        num_shown = 0
        a_ms = float(cells_of(told, "growth")[6].split(" ms")[0])
        for step in STEPS:
            *_, shown, ratio = cells_of(told, step)
            assert re.fullmatch(r"\d\.\d{3}( \(.* to .*\))?", ratio)
            if shown == "–":
                continue
            num_shown += 1
            assert float(shown.split(" ms")[0]) / a_ms == pytest.approx(
                float(ratio.split()[0]), abs=2e-3 / a_ms + 5e-4
            )
        # All of them, or (a) and the step that was measured with it.
        assert num_shown == (4 if rows is ROWS else 2)
        assert cells_of(told, "baseline")[6].endswith(", in its own sweep")
        # Elsewhere there are none: the answer's would be of yet another sweep.
        assert " ms" not in told.partition("\n\n- ")[2]


def test_a_report_of_an_earlier_version_shows_only_what_belongs_together(directory: Path) -> None:
    # Each step in its own sweep, (a) in another one again, and no intervals of ratios.
    make_report(directory, Service())
    stored = json.loads((directory / LATENCIES).read_text())
    for number, each in enumerate(stored.values()):
        del each["ratio_low"], each["ratio_high"]
        each["curves"] = [f"c{number}"]
    (directory / LATENCIES).write_text(json.dumps(stored))
    told = to_markdown(make_report(directory, None))
    assert cells_of(told, "growth")[7] == "1.000"
    assert cells_of(told, "units")[6:] == ["–", "0.333"]


def test_on_the_sparse_route_the_last_step_is_measured_sparse() -> None:
    service = Service()
    rows = [ROWS[0], ROWS[1], row("weights", [12, 7], density=0.0625)]
    config = tiny_config(route="sparse").to_json()
    found = measure_steps(service, config, rows, vocabulary=12)
    sparse = {**PARAMS, "backend": "csr", "sparsity": "0.9375"}
    assert ("hlstm_lm", [[12], [7]], sparse) in service.asked
    assert found["weights"].ratio is None


def test_steps_are_measured_as_the_exported_model_will_run() -> None:
    service = Service()
    config = tiny_config(latency_dtype="bfloat16", latency_backend="packed").to_json()
    measure_steps(service, config, [ROWS[0], ROWS[1]], vocabulary=12)
    # torch has no other kernel for the baseline's layers.
    assert [
        (kind, params["dtype"], params.get("backend")) for kind, _, params in service.asked
    ] == [
        ("lstm_lm", "bfloat16", None),
        ("hlstm_lm", "bfloat16", "packed"),
    ]
    # Sparse kernels know only float32.
    config = tiny_config(route="sparse", latency_dtype="bfloat16").to_json()
    measure_steps(service, config, [row("weights", [12, 7], density=0.0625)], vocabulary=12)
    assert service.asked[-1][2]["dtype"] == "float32"


def test_a_measured_route_is_told_and_measured_as_what_it_was() -> None:
    product = {
        "dims": [48, 8],
        "batch": 4,
        "best": "packed",
        "sparsity_interval": [0.7, 0.8],
        "curve": "c5",
        "stale": False,
    }
    route = {"chosen": "sparse", "expected_sparsity": 0.85, "products": [product]}
    rows = [ROWS[0], ROWS[1] | {"route": route}, row("weights", [12, 7], density=0.0625)]
    service = Service()
    measure_steps(service, tiny_config(route="measured").to_json(), rows, vocabulary=12)
    assert [params.get("backend") for _, _, params in service.asked] == [None, "csr", "dense"]
    config = tiny_config(route="measured").to_json()
    report = Report(config=config, is_finished=True, rows=rows, latencies={}, digests={})
    told = to_markdown(report)
    assert "Route: sparse. One round of (d) was expected to leave 85.0% zeros" in told
    assert (
        "48 × 8 at batch 4 is confidently faster sparse than packed from 80% on (curve c5)" in told
    )
    assert "(d) left 93.8%" in told


def test_the_report_is_written_and_kept(directory: Path) -> None:
    told = to_markdown(make_report(directory, Service()))
    assert (directory / "report.md").read_text() == told
    assert (directory / "report.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((directory / "report.json").read_text())
    assert written["latencies"]["units"]["curves"] == ["c2"]
    assert "| (b) row/column pruning | 8 / 4 | 1,000 | 60.0% | 9.50 | 9.25 | 0.033 ms" in told
    assert "1.0500 times as fast (95 % interval 1.0100 to 1.0900" in told
    assert "the threshold of 9.00, as configured, was NOT kept" in told
    assert all(digest in told for digest in written["digests"].values())
    assert f"{CURVE.measured_at:%Y-%m-%d}" in told
    assert "platform f00d (Example 9000, 1 thread, torch 2.13.0+cpu, 6.1)" in told
    # Without the service, the same again.
    assert to_markdown(make_report(directory, None)) == told


def test_without_a_service_nothing_is_made_up(directory: Path) -> None:
    told = to_markdown(make_report(directory, None))
    assert told.count("not measured") == 5
    assert " ms" not in told.split("asked for")[0]


def test_latencies_of_another_run_are_not_shown(directory: Path) -> None:
    make_report(directory, Service())
    checkpoint = read_checkpoint(directory / CHECKPOINT)
    checkpoint["rows"][2]["valid_perplexity"] += 0.01
    write_checkpoint(directory / CHECKPOINT, checkpoint)
    assert "units" not in make_report(directory, None).latencies
    assert "growth" in make_report(directory, None).latencies
    (directory / LATENCIES).write_text('{"growth": {"ro')
    with pytest.raises(UnreadableRunError):
        make_report(directory, None)


def test_latencies_of_two_platforms_make_no_report(directory: Path) -> None:
    class Mixed(Service):
        def measure(self, *args: Any, **options: Any) -> CurveDetail:
            curve = super().measure(*args, **options)
            platform = "p1" if len(self.asked) < 2 else "p2"
            return curve.model_copy(update={"platform": platform})

    with pytest.raises(PlatformMismatchError, match="p1, p2"):
        make_report(directory, Mixed())


def test_a_point_that_failed_is_an_error(directory: Path) -> None:
    service = Service()
    service.failing = [8, 4]
    with pytest.raises(LhpError, match=r"\[8, 4\] could not be measured: out of memory"):
        make_report(directory, service)


def test_a_run_that_has_not_come_far_has_no_report(tmp_path: Path) -> None:
    run = make_run(tiny_config(), tmp_path)
    run.save()
    with pytest.raises(NotFoundError, match="no step"):
        make_report(tmp_path, None)
