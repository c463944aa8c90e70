"""/hosts/keys and /hosts/join: how a machine becomes a host."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from profiler_service.access.caller import current_caller
from profiler_service.access.join_keys import JoinTerms
from profiler_service.access.scopes import Scope
from profiler_service.answering.host_states import host_info
from profiler_service.answering.joining import database_url_of, read_joining
from profiler_service.api.access import PUBLIC, require
from profiler_service.api.dependencies import BoundedRoute, ServicesDep
from profiler_service.api.problems import problem_responses
from profiler_service.errors import (
    ConflictError,
    ForeignOriginError,
    InvalidRequestError,
    JoinKeyRefusedError,
    RequestTooLargeError,
    StoreUnavailableError,
)
from profiler_service.wire import JoinInfo, JoinKeyInfo, JoinKeyRequest, JoinRequest

router = APIRouter(route_class=BoundedRoute, prefix="/hosts", tags=["hosts"])


@router.post(
    "/keys",
    status_code=201,
    summary="Make a join key",
    dependencies=[require(Scope.ADMIN)],
    responses=problem_responses(
        ForeignOriginError,
        ConflictError,
        RequestTooLargeError,
        InvalidRequestError,
        StoreUnavailableError,
    ),
)
async def create_join_key(wanted: JoinKeyRequest, services: ServicesDep) -> JoinKeyInfo:
    """A key with which a machine joins. Needs PostgreSQL."""
    terms = JoinTerms(
        name=wanted.name,
        labels=wanted.labels,
        is_approved=wanted.approve,
        is_ephemeral=wanted.ephemeral,
        is_reusable=wanted.reusable,
    )
    key, text = await asyncio.to_thread(
        services.store.create_join_key, terms, lifetime_s=wanted.lifetime_s
    )
    await asyncio.to_thread(
        services.store.add_audit, current_caller(), "host.key", wanted.name or key.id
    )
    return JoinKeyInfo(id=key.id, key=text, expires_at=key.expires_at)


@router.post(
    "/join",
    summary="Join as a host",
    dependencies=[PUBLIC],
    responses=problem_responses(
        ForeignOriginError,
        JoinKeyRefusedError,
        ConflictError,
        RequestTooLargeError,
        InvalidRequestError,
        StoreUnavailableError,
    ),
)
async def join(asked: JoinRequest, services: ServicesDep) -> JoinInfo:
    """The host, with a role of its own in the database. Needs no token, but a join key.

    While it waits for approval, ask again with the same key.
    """
    joined = await asyncio.to_thread(services.store.join, asked.key, read_joining(asked))
    host = joined.host
    await asyncio.to_thread(services.store.add_audit, current_caller(), "host.join", host.name)
    return JoinInfo(
        host=host_info(host, presence_s=services.settings.presence_s),
        database_url=database_url_of(joined, services.settings),
    )
