"""/audit: who did what, when, and from where."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from pydantic.json_schema import SkipJsonSchema

from profiler_service.access.audit import AuditFilter
from profiler_service.access.scopes import Scope
from profiler_service.api.access import require
from profiler_service.api.dependencies import BoundedRoute, Cursor, ServicesDep
from profiler_service.api.problems import problem_responses
from profiler_service.errors import InvalidRequestError, StoreUnavailableError
from profiler_service.wire import WRITTEN_TIME, AuditInfo, AuditPage

router = APIRouter(route_class=BoundedRoute, prefix="/audit", tags=["access"])


@router.get(
    "",
    summary="The audit trail, newest first",
    dependencies=[require(Scope.ADMIN)],
    responses=problem_responses(InvalidRequestError, StoreUnavailableError),
)
async def list_audit(
    services: ServicesDep,
    who: Annotated[
        str | None, Query(description="Only entries whose `who` begins so: `token 019a…`.")
    ] = None,
    action: Annotated[
        str | None, Query(description="Only this action, such as `token.create`.")
    ] = None,
    subject: Annotated[str | None, Query(description="Only about this id or name.")] = None,
    since: Annotated[
        AwareDatetime | SkipJsonSchema[None],
        WRITTEN_TIME,
        Query(
            description="Only from this time on (ISO 8601, with a time zone).",
            json_schema_extra={"minLength": 1},
        ),
    ] = None,
    cursor: Cursor = None,
    limit: Annotated[
        int, Query(ge=1, le=500, description="Largest number of entries on a page.")
    ] = 50,
) -> AuditPage:
    """One page of what was done: tokens made and revoked, sweeps started and cancelled, hosts."""
    page = await asyncio.to_thread(
        services.store.list_audit,
        AuditFilter(
            who=who,
            action=action,
            subject=subject,
            since=None if since is None else since.astimezone(dt.UTC),
        ),
        cursor=cursor or None,
        limit=limit,
    )
    return AuditPage(
        items=[
            AuditInfo(
                id=each.id,
                at=each.at,
                who=each.who,
                address=each.address,
                action=each.action,
                subject=each.subject,
                details=dict(each.details),
            )
            for each in page.items
        ],
        next_cursor=page.next_cursor,
    )
