"""/hosts/keys and /hosts/join: how a machine becomes a host."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from profiler_service.access.caller import current_caller
from profiler_service.access.join_keys import JoinKey, JoinTerms
from profiler_service.access.scopes import Scope
from profiler_service.answering.host_states import host_info
from profiler_service.answering.joining import check_reachable, database_url_of, read_joining
from profiler_service.api.access import PUBLIC, require
from profiler_service.api.dependencies import BoundedRoute, Cursor, ServicesDep
from profiler_service.api.problems import problem_responses
from profiler_service.errors import (
    ConflictError,
    ForeignOriginError,
    InvalidRequestError,
    JoinKeyRefusedError,
    RequestTooLargeError,
    StoreUnavailableError,
    UnknownJoinKeyError,
)
from profiler_service.wire import (
    JoinInfo,
    JoinKeyInfo,
    JoinKeyPage,
    JoinKeyRequest,
    JoinRequest,
    KeptJoinKey,
)

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
async def create_join_key(
    wanted: JoinKeyRequest, response: Response, services: ServicesDep
) -> JoinKeyInfo:
    """A key with which a machine joins. Needs PostgreSQL, and that every request needs a token.

    Otherwise every user of this machine could get the credentials of a host.
    """
    services.store.check_shareable()
    if not services.tokens.is_required:
        raise ConflictError(
            "there is no token yet, so every user of this machine could let hosts in",
            hint="run `lhp tokens bootstrap` where the service runs",
        )
    terms = JoinTerms(
        name=wanted.name,
        labels=wanted.labels,
        is_approved=wanted.approve,
        is_ephemeral=wanted.ephemeral,
        is_reusable=wanted.reusable,
    )
    key, text = await asyncio.to_thread(
        services.store.create_join_key, terms, lifetime_s=wanted.lifetime_s, by=current_caller()
    )
    response.headers["Cache-Control"] = "no-store"
    return JoinKeyInfo(id=key.id, key=text, expires_at=key.expires_at)


@router.get(
    "/keys",
    summary="Join keys, newest first",
    dependencies=[require(Scope.ADMIN)],
    responses=problem_responses(InvalidRequestError, StoreUnavailableError),
)
async def list_join_keys(
    services: ServicesDep,
    cursor: Cursor = None,
    limit: Annotated[
        int, Query(ge=1, le=500, description="Largest number of keys on a page.")
    ] = 50,
) -> JoinKeyPage:
    """One page of keys without their texts, also of those that let nobody in any more."""
    store = services.store
    page = await asyncio.to_thread(store.list_join_keys, cursor=cursor or None, limit=limit)
    return JoinKeyPage(items=[_info(each) for each in page.items], next_cursor=page.next_cursor)


@router.delete(
    "/keys/{key_id}",
    summary="Revoke a join key",
    dependencies=[require(Scope.ADMIN)],
    responses=problem_responses(
        ForeignOriginError, UnknownJoinKeyError, InvalidRequestError, StoreUnavailableError
    ),
)
async def revoke_join_key(
    key_id: Annotated[str, Path(description="Id of a join key.")], services: ServicesDep
) -> KeptJoinKey:
    """The key, which lets nobody in any more. Hosts that have joined with it stay."""
    key = await asyncio.to_thread(services.store.revoke_join_key, key_id, by=current_caller())
    return _info(key)


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
async def join(asked: JoinRequest, response: Response, services: ServicesDep) -> JoinInfo:
    """The host, with a role of its own in the database. Needs no token, but a join key.

    While it waits for approval, ask again with the same key.
    """
    check_reachable(services.settings, current_caller().address)
    joined = await asyncio.to_thread(
        services.store.join, asked.key, read_joining(asked), by=current_caller()
    )
    response.headers["Cache-Control"] = "no-store"
    return JoinInfo(
        host=host_info(joined.host, presence_s=services.settings.presence_s),
        database_url=database_url_of(joined, services.settings),
    )


def _info(key: JoinKey) -> KeptJoinKey:
    terms = key.terms
    return KeptJoinKey(
        id=key.id,
        name=terms.name,
        labels=dict(terms.labels),
        approve=terms.is_approved,
        ephemeral=terms.is_ephemeral,
        reusable=terms.is_reusable,
        created_at=key.created_at,
        expires_at=key.expires_at,
        used_at=key.used_at,
        used_by=key.used_by,
        revoked_at=key.revoked_at,
    )
