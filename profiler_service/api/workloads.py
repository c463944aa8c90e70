"""/workloads: what can be measured."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from profiler_service.answering.resources import workload_info
from profiler_service.api.problems import problem_responses
from profiler_service.errors import InvalidRequestError, UnknownWorkloadError
from profiler_service.kinds import get_workload_kind, kinds_left_out, workload_kinds
from profiler_service.wire import WorkloadInfo

router = APIRouter(prefix="/workloads", tags=["workloads"])


@router.get("", summary="Every workload kind")
async def list_workloads() -> list[WorkloadInfo]:
    """The kinds installed here, with their axes and fixed parameters.

    Kinds that can't be used come last, with their `error`.
    """
    return [
        *(workload_info(kind) for kind in workload_kinds().values()),
        *(
            WorkloadInfo(name=each.name, description="", axes=[], parameters=[], error=each.reason)
            for each in kinds_left_out()
        ),
    ]


@router.get(
    "/{name}",
    summary="One workload kind",
    responses=problem_responses(UnknownWorkloadError, InvalidRequestError),
)
async def get_workload(
    name: Annotated[str, Path(description="Name of a workload kind.")],
) -> WorkloadInfo:
    """The kind of that name."""
    return workload_info(get_workload_kind(name))
