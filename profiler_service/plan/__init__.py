"""Which points to measure next: rounds in random order, racing, when to stop.

numpy only: planners are pure objects fed with samples, so that tests can give them synthetic
devices. They know neither torch, nor storage, nor wall clocks (only the seconds that samples
say they took).
"""

from __future__ import annotations

from profiler_service.plan.base import ANCHOR_EVERY, Batch, Planner
from profiler_service.plan.grid import GridPlanner
from profiler_service.plan.kernels import KernelPlanner
from profiler_service.plan.race.planner import RacePlanner, RaceStage
from profiler_service.plan.spec import SweepSpec

__all__ = [
    "ANCHOR_EVERY",
    "Batch",
    "GridPlanner",
    "KernelPlanner",
    "Planner",
    "RacePlanner",
    "RaceStage",
    "create_planner",
]


def create_planner(spec: SweepSpec) -> Planner:
    """The planner for `spec.mode`."""
    if spec.mode == "kernels":
        return KernelPlanner(spec)
    return GridPlanner(spec) if spec.mode == "grid" else RacePlanner(spec)
