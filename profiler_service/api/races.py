"""/sweeps/{id}/race: how a race went."""

from __future__ import annotations

from fastapi import APIRouter

from profiler_service.api.dependencies import PartsDep
from profiler_service.api.problems import problem_responses
from profiler_service.errors import (
    ConflictError,
    InvalidRequestError,
    StoreUnavailableError,
    UnknownSweepError,
)
from profiler_service.wire import RaceInfo

router = APIRouter(prefix="/sweeps", tags=["sweeps"])


@router.get(
    "/{sweep_id}/race",
    summary="How a race went",
    responses=problem_responses(
        UnknownSweepError, ConflictError, InvalidRequestError, StoreUnavailableError
    ),
)
def get_race(sweep_id: str, parts: PartsDep) -> RaceInfo:
    """Each stage so far: who took part, who was kept, and why the others were dropped."""
    return parts.races.tell(sweep_id)
