"""The planner of a sweep, by its mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from profiler_service.plan.base import Planner
from profiler_service.plan.grid import GridPlanner
from profiler_service.plan.kernels import KernelPlanner
from profiler_service.plan.modes import MODES
from profiler_service.plan.race.ladder import LadderPlanner
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.spec import SweepSpec

PLANNERS: Final[Mapping[str, Callable[[SweepSpec], Planner]]] = {
    "race": RacePlanner,
    "ladder": LadderPlanner,
    "grid": GridPlanner,
    "kernels": KernelPlanner,
}
"""`SweepMode.planner` → the function that creates such a planner."""


def create_planner(spec: SweepSpec) -> Planner:
    """The planner for `spec.mode`."""
    return PLANNERS[MODES[spec.mode].planner](spec)
