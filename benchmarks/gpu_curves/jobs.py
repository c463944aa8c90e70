"""What is measured on the device, in order, and how much of the time each part may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.figures import sparse
from benchmarks.figures.paper import FIGURES, describe
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, LSTM, MATMUL
from profiler_service.kinds.kernels import Kernel
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepSpec, window_growth
from profiler_service.workload import Dims, ParamValue, Workload

DTYPES = ("bfloat16", "float32")
PAPER_DIMS = (1197, 317)
"""The dims of Yin et al. that grow to 1200 × 320."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One curve, or Fig. 1."""

    name: str
    share: float
    """Of the time that is left, this share over the sum of those of the jobs that are left."""
    spec: SweepSpec | None = None
    """The sweep of a curve. None: Fig. 1, which compares `kernels` at `sizes`."""
    kernels: Mapping[str, Kernel] | None = None
    sizes: Sequence[int] = ()


def make_jobs(device: str, *, tiny: bool = False) -> list[Job]:
    """The jobs for a `cpu` or `cuda` device; with `tiny`, of few small points each.

    The cheapest come first: if the time ends early, most of the curves are there.
    """
    jobs = []
    small: Mapping[str, ParamValue] = {"steps": 2} if tiny else {}
    for dtype in DTYPES:
        width, input_size = (8, 8) if tiny else (1024, 320)
        products = {"dtype": dtype, "vary": "out_features", "in_features": width}
        recurrent = {"dtype": dtype, "vary": "hidden_size", "input_size": input_size, **small}
        jobs += [
            _line(f"linear-{dtype}", LINEAR.describe(products), 1024, 257, 0.5, tiny),
            _line(f"matmul-{dtype}", MATMUL.describe({"dtype": dtype}), 1024, 257, 0.5, tiny),
            _line(f"lstm-{dtype}", LSTM.describe(recurrent), 1152, 97, 1.5, tiny),
        ]
    for dtype in DTYPES:
        dims = (8, 8) if tiny else PAPER_DIMS
        linear = LINEAR.describe({"dtype": dtype})
        lstm = LSTM.describe({"dtype": dtype, **small})
        jobs += [
            _race(f"race-linear-{dtype}", linear, dims, 0.5),
            _race(f"race-lstm-{dtype}", lstm, dims, 1.0),
        ]
    for name, share in (("fig2", 1.5), ("fig3", 3.0)):
        spec = describe(FIGURES[name], device=device, seconds=1.0)
        if tiny:
            axis = GridAxis(first=8, count=3)
            frames = {"frames": 31} if name == "fig3" else {}
            workload = Workload(
                kind=spec.workload.kind,
                params=tuple(sorted({**dict(spec.workload.params), **frames}.items())),
                axes=spec.workload.axes,
            )
            spec = replace(spec, workload=workload, grid=Grid(axes=(axis,)))
        jobs.append(Job(name=name, share=share, spec=spec))
    return [
        *jobs,
        Job(
            name="fig1",
            share=1.0,
            # oneDNN's kernels are a CPU's.
            kernels={n: k for n, k in sparse.KERNELS.items() if device == "cpu" or n != "packed"},
            sizes=(16, 24) if tiny else sparse.SIZES,
        ),
    ]


def _line(name: str, workload: Workload, first: int, count: int, share: float, tiny: bool) -> Job:
    axis = GridAxis(first=8, count=3) if tiny else GridAxis(first=first, count=count)
    return Job(name=name, share=share, spec=_spec(workload, "grid", Grid(axes=(axis,))))


def _race(name: str, workload: Workload, dims: Dims, share: float) -> Job:
    growth = window_growth(dims)
    axes = tuple(
        GridAxis(first=dim, count=more + 1) for dim, more in zip(dims, growth, strict=True)
    )
    return Job(name=name, share=share, spec=_spec(workload, "race", Grid(axes=axes)))


def _spec(workload: Workload, mode: Mode, grid: Grid) -> SweepSpec:
    return SweepSpec(workload=workload, mode=mode, grid=grid)
