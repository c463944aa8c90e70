"""/sweeps/{id}/race: how a race went, told from its stored samples.

Races are deterministic: replaying the batches that were kept makes the same decisions again,
so nothing but samples needs storing.
"""

from __future__ import annotations

import numpy as np
from fastapi import APIRouter

from profiler_service.api.parts import PartsDep
from profiler_service.api.problems import problem_responses
from profiler_service.errors import ConflictError, InvalidRequestError
from profiler_service.grid import Grid
from profiler_service.plan import Batch, RacePlanner, RaceStage
from profiler_service.samples import Samples
from profiler_service.wire import RaceInfo, RaceStageInfo

router = APIRouter(prefix="/sweeps", tags=["sweeps"])


@router.get(
    "/{sweep_id}/race",
    summary="How a race went",
    responses=problem_responses(404, 409, 422, 503),
)
def get_race(sweep_id: str, parts: PartsDep) -> RaceInfo:
    """Each stage so far: who took part, who was kept, and why the others were dropped."""
    sweep = parts.store.get_sweep(sweep_id)
    if sweep.spec.mode not in ("race", "survey"):
        raise InvalidRequestError(
            f"sweep {sweep_id} is no race: it measures all points of its grid, round by round",
            hint="GET /curves/{id} of its curve has the points",
        )
    planner = RacePlanner(sweep.spec)
    for samples in parts.store.load_batches(sweep_id):
        batch = planner.next_batch()
        if batch is None or not _fits(samples, batch):
            raise ConflictError(
                f"sweep {sweep_id} was raced by another version, whose steps can't be told",
                hint="GET /curves/{id} of its curve has what it found",
            )
        planner.record(samples)
    return RaceInfo(
        sweep=sweep_id,
        asked=list(sweep.spec.grid.first),
        noise=planner.noise,
        stages=[_stage_info(stage, sweep.spec.grid) for stage in planner.stages],
    )


def _fits(samples: Samples, batch: Batch) -> bool:
    """Whether the samples are of the points of `batch`, in order, but for failed ones."""
    seen, planned = (
        points[~np.isin(points, list(samples.failures))] for points in (samples.point, batch.point)
    )
    return np.array_equal(seen, planned)


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
