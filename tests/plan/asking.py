"""Asking a planner on a synthetic device."""

from __future__ import annotations

import datetime as dt

import numpy as np

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.lhp import Answer, find_answer
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.plan.base import Planner
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepSpec, window_growth
from tests.synthetic import F64, PLATFORM, PROTOCOL, SyntheticDevice

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def spec_above(dims: tuple[int, ...], mode: Mode, *, seed: int = 0) -> SweepSpec:
    kind = LINEAR if len(dims) == 2 else MATMUL
    grid = Grid.window(dims, window_growth(dims))
    return SweepSpec(workload=kind.describe(), mode=mode, grid=grid, seed=seed)


def curve_from(planner: Planner) -> LatencyCurve:
    return planner.build_curve(PLATFORM, PROTOCOL, NOW)


def ask(spec: SweepSpec, device: SyntheticDevice) -> Answer:
    planner = create_planner(spec)
    device.run(planner)
    dims = spec.grid.first
    answer = find_answer(curve_from(planner), dims, prefer="fastest", growth=window_growth(dims))
    assert answer is not None
    return answer


def true_ratio(spec: SweepSpec, truth: F64, answer: Answer) -> float:
    index = spec.grid.find_index(answer.lhp)
    assert index is not None
    return float(truth[index] / truth[0])


def random_dims(seed: int, axes: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(100, 1300, axes).tolist())
