"""Races on synthetic devices, and everything that they decide as lines of text."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from profiler_service.analysis.samples import Samples
from profiler_service.errors import MeasurementFailedError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import HLSTM_LM, LINEAR, MATMUL
from profiler_service.plan.base import Batch
from profiler_service.plan.modes import Mode
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.spec import RaceTerms, SweepSpec, window_growth
from tests.synthetic import F64, PLATFORM, PROTOCOL, SyntheticDevice, smooth, stairs

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True)
class Race:
    """A race over a window, on a device of which the truth is known."""

    grid: Grid
    mode: Mode = "race"
    seed: int = 0
    budget_s: float | None = None
    settle_s: float = 0.3
    backend: str = "dense"
    unit_s: float = 2e-11
    """What a multiply-add takes: sets whether calls are cheap or dear."""
    step: float = 0.05
    """How much slower an axis is whose dimension is no multiple of 16."""
    lone: tuple[int, float] | None = None
    """A point, and its latency over that of the queried one."""
    device: Mapping[str, float] = field(default_factory=dict)
    failing: frozenset[int] = frozenset()
    fails_later: Mapping[int, int] = field(default_factory=dict)
    """Batch → a point that fails from then on."""
    unstable_every: int = 0
    """Every how many samples one is unstable; 0 for none."""
    guided: bool = False

    @property
    def truth_s(self) -> F64:
        """Latency of every point, [points]."""
        base = smooth(self.grid, self.unit_s)
        truth: F64 = base * stairs(self.grid, 16, self.step) / smooth(self.grid)
        if self.lone is not None:
            point, ratio = self.lone
            truth[point] = ratio * truth[0]
        return truth

    @property
    def spec(self) -> SweepSpec:
        """What the planner is asked for."""
        kind = MATMUL if len(self.grid.axes) == 1 else LINEAR
        spec = SweepSpec(
            workload=kind.describe({"backend": self.backend}),
            mode=self.mode,
            grid=self.grid,
            seed=self.seed,
            budget_s=self.budget_s,
            terms=RaceTerms(settle_s=self.settle_s),
        )
        if not self.guided:
            return spec
        rng = np.random.default_rng(1)
        guide = tuple(tuple((0.02 * rng.standard_normal(n)).tolist()) for n in self.grid.shape)
        return replace(spec, workload=HLSTM_LM.describe(), guide=guide)


def window(*dims: int) -> Grid:
    """The default window above these dims."""
    return Grid.window(dims, window_growth(dims))


CALM = {"noise": 0.002, "spikes": 0.0, "drift": 0.01}

RACES: Mapping[str, Race] = {
    "two axes": Race(grid=window(401, 401)),
    "two axes, another seed": Race(grid=window(640, 320), seed=7, step=0.03),
    "one axis": Race(grid=window(700)),
    "steps of a range": Race(
        grid=Grid(axes=(GridAxis(first=400, count=30, step=8), GridAxis(first=100, count=20)))
    ),
    "thorough, two axes": Race(grid=window(100, 100), mode="survey", lone=(500, 0.9)),
    "thorough, one axis": Race(grid=window(300), mode="survey"),
    "budget": Race(grid=window(401, 401), budget_s=0.1, seed=2),
    "budget for a few pairs": Race(grid=window(401, 401), budget_s=0.012, seed=2),
    "budget for nothing": Race(grid=window(401, 401), budget_s=0.001),
    "thorough within a budget": Race(
        grid=window(100, 100), mode="survey", unit_s=5e-8, budget_s=2.0
    ),
    "thorough of dear calls within a budget": Race(
        grid=window(100, 100), mode="survey", unit_s=1e-7, budget_s=20.0, seed=1
    ),
    "failures": Race(grid=window(100), lone=(12, 0.5), failing=frozenset({12, 20})),
    "the leader fails late": Race(
        grid=window(100, 100),
        unit_s=1e-7,
        lone=(0, 1.25),
        step=0.0,
        device=CALM,
        fails_later={9: 1},
    ),
    "everything larger fails": Race(grid=window(100, 100), failing=frozenset(range(1, 1089))),
    "everything larger fails, thorough": Race(
        grid=window(60, 60), mode="survey", failing=frozenset(range(1, 1089))
    ),
    "the queried point fails at once": Race(grid=window(100), failing=frozenset({0})),
    "the queried point fails": Race(grid=window(100), fails_later={4: 0}),
    "noisy": Race(grid=window(401, 401), device={"noise": 0.08}, seed=3),
    "quiet": Race(grid=window(401, 401), device=CALM, seed=3),
    "a neighbour comes": Race(grid=window(401, 401), device={"neighbour_from_s": 0.2}, seed=4),
    "a small gain on a host that throttles": Race(
        grid=window(100), lone=(0, 1.0045), step=0.0, device=CALM, unstable_every=5
    ),
    "a small gain on a calm host": Race(grid=window(100), lone=(0, 1.0045), step=0.0, device=CALM),
    "dear calls": Race(grid=window(200, 200), unit_s=5e-8, device={"noise": 0.01}, seed=5),
    "calls of two milliseconds": Race(grid=window(256, 128), unit_s=3.8e-9, seed=6),
    "tiny calls": Race(grid=window(64, 64), unit_s=1e-13),
    "compiled": Race(
        grid=window(100), backend="compiled", device={"noise": 0.006, "spikes": 0.0}, step=0.1
    ),
    "packed, a small gain": Race(
        grid=window(100, 120), backend="packed", device={"noise": 0.006}, step=0.004
    ),
    "nothing larger is faster": Race(grid=window(400), step=0.0, device={"noise": 0.01}),
    "guided": Race(grid=window(130, 140), guided=True, unit_s=1e-9),
    "a small window": Race(grid=Grid.window((90, 70), (7, 11)), seed=8),
    "two points": Race(grid=Grid.window((90,), (1,))),
    "one point": Race(grid=Grid.window((90, 70), (0, 0))),
}


def decide(race: Race) -> Iterator[str]:
    """Every batch, every progress, every stage and the curve, a line each.

    Floats are rounded to six digits: BLAS libraries and processors differ in the last ones, and
    the planner itself rounds what it decides by.
    """
    planner = RacePlanner(race.spec)
    device = SyntheticDevice(
        race.truth_s,
        **race.device,  # type: ignore[arg-type]
        failing=race.failing,
        seed=race.seed + 1000,
    )
    number = 0
    while (batch := planner.next_batch()) is not None:
        if number in race.fails_later:
            device.failing |= {race.fails_later[number]}
        yield describe_batch(batch)
        planner.record(_measure(device, batch, race.unstable_every))
        progress = planner.progress()
        yield f"{progress.fraction:.6g} {progress.stage} {progress.seconds:.6g}"
        number += 1
    yield f"noise {planner.noise:.6g}"
    for stage in planner.stages:
        yield (
            f"{stage.name} {stage.num_visits} {stage.seconds:.6g} {stage.field_size}"
            f" {stage.kept_size} {stage.why} {stage.kept} {stage.dropped}"
        )
    try:
        curve = planner.build_curve(PLATFORM, PROTOCOL, NOW)
    except MeasurementFailedError as error:
        yield f"{error}"
        return
    for name, values in (
        ("latency", curve.latency_s),
        ("low", curve.low_s),
        ("high", curve.high_s),
        ("ratio", curve.answers.ratio),
        ("ratio low", curve.answers.ratio_low),
        ("ratio high", curve.answers.ratio_high),
    ):
        yield f"{name} {' '.join(f'{value:.6g}' for value in values)}"
    for name, numbers in (
        ("samples", curve.num_samples),
        ("status", curve.status),
        ("target", curve.answers.target),
        ("rival", curve.answers.rival),
    ):
        assert numbers is not None
        yield f"{name} {numbers.tolist()}"
    for pair in curve.confirmed:
        yield f"{pair.rival} {pair.verdict} {pair.ratio:.6g} [{pair.low:.6g}, {pair.high:.6g}]"
    yield f"failures {sorted(curve.failures.items())}"
    yield " ".join(
        f"{name}={value:.6g}" for name, value in sorted(curve.evidence.to_json().items())
    )


def describe_batch(batch: Batch) -> str:
    """The batch's visits, all of them."""
    return (
        f"{batch.point.tolist()} {batch.round.tolist()} {batch.calls} {batch.warmup_calls}"
        f" {batch.child}"
    )


def digest(lines: Iterator[str]) -> str:
    """16 hexadecimal digits of all lines."""
    sha = hashlib.sha256()
    for line in lines:
        sha.update(line.encode() + b"\n")
    return sha.hexdigest()[:16]


def _measure(device: SyntheticDevice, batch: Batch, unstable_every: int) -> Samples:
    samples = device.measure(batch)
    if not unstable_every:
        return samples
    return replace(samples, unstable=np.arange(len(samples)) % unstable_every == 0)
