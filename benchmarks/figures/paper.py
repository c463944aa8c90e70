"""What Figs. 2 and 3 of Yin et al. show, as sweeps. Imports nothing that draws or stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import get_workload_kind
from profiler_service.plan.spec import SweepSpec
from profiler_service.workload import ParamValue

MEASURED_ON_CPU: Mapping[str, ParamValue] = {"frames": 33}
"""Length of DeepSpeech2's sequences without a GPU. A call with the kind's default of 300 frames
takes seconds, and 201 widths need about twenty rounds."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What a figure shows."""

    title: str
    kind: str
    grid: Grid
    paper: str
    """What the paper's own figure shows, in one sentence."""


FIGURES = {
    "fig2": Figure(
        title="Fig. 2: a square product",
        kind="matmul",
        grid=Grid(axes=(GridAxis(first=256, count=1793),)),
        paper="The paper's Fig. 2, on a P100, gives no count.",
    ),
    "fig3": Figure(
        title="Fig. 3: DeepSpeech2",
        kind="deepspeech2",
        grid=Grid(axes=(GridAxis(first=600, count=201),)),
        paper="The paper's Fig. 3, on a P100, has a redundancy above 90 %.",
    ),
}


def describe(figure: Figure, *, device: str, seconds: float) -> SweepSpec:
    """The sweep of a figure on a device (`cpu`, `cuda`): batch 16 and float32, by default."""
    short = figure.kind == "deepspeech2" and device == "cpu"
    workload = get_workload_kind(figure.kind).describe(MEASURED_ON_CPU if short else {})
    return SweepSpec(workload=workload, mode="grid", grid=figure.grid, budget_s=seconds)
