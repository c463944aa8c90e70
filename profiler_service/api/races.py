"""/sweeps/{id}/race: how a race went, told from its stored samples.

Races are deterministic: replaying the batches that were kept makes the same decisions again,
so nothing but samples needs storing.
"""

from __future__ import annotations

from fastapi import APIRouter

from profiler_service.api.parts import PartsDep
from profiler_service.api.problems import problem_responses
from profiler_service.errors import InvalidRequestError
from profiler_service.grid import Grid
from profiler_service.plan import RacePlanner, RaceStage
from profiler_service.wire import RaceInfo, RaceStageInfo

router = APIRouter(prefix="/sweeps", tags=["sweeps"])


@router.get(
    "/{sweep_id}/race",
    summary="How a race went",
    responses=problem_responses(404, 422, 503),
)
def get_race(sweep_id: str, parts: PartsDep) -> RaceInfo:
    """Each stage so far: who took part, who was kept, and why the others were dropped."""
    sweep = parts.store.get_sweep(sweep_id)
    if sweep.spec.mode == "grid":
        raise InvalidRequestError(
            f"sweep {sweep_id} is no race: it measures every point of its grid",
            hint="GET /curves/{id} of its curve has the points",
        )
    planner = RacePlanner(sweep.spec)
    for samples in parts.store.load_batches(sweep_id):
        planner.record(samples)
    return RaceInfo(
        sweep=sweep_id,
        asked=list(sweep.spec.grid.first),
        noise=planner.noise,
        stages=[_stage_info(stage, sweep.spec.grid) for stage in planner.stages],
    )


def _stage_info(stage: RaceStage, grid: Grid) -> RaceStageInfo:
    return RaceStageInfo(
        name=stage.name,
        num_visits=stage.num_visits,
        seconds=stage.seconds,
        field_size=list(stage.field_size),
        kept_size=list(stage.kept_size),
        kept=[list(grid.dims(point)) for point in stage.kept],
        dropped=[list(grid.dims(point)) for point in stage.dropped],
        why=stage.why,
    )
