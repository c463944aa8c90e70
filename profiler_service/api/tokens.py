"""/tokens: makes, lists and revokes access tokens."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from profiler_service.access.caller import current_caller
from profiler_service.access.scopes import Scope, parse_scopes
from profiler_service.access.tokens import Token
from profiler_service.api.access import require
from profiler_service.api.dependencies import BoundedRoute, Cursor, ServicesDep
from profiler_service.api.problems import problem_responses
from profiler_service.errors import (
    ConflictError,
    ForeignOriginError,
    InvalidRequestError,
    RequestTooLargeError,
    StoreUnavailableError,
    UnknownTokenError,
)
from profiler_service.wire import NewToken, TokenInfo, TokenPage, TokenRequest, parse_duration

router = APIRouter(route_class=BoundedRoute, prefix="/tokens", tags=["access"])


@router.post(
    "",
    status_code=201,
    summary="Make a token",
    dependencies=[require(Scope.ADMIN)],
    responses=problem_responses(
        ForeignOriginError,
        RequestTooLargeError,
        InvalidRequestError,
        ConflictError,
        StoreUnavailableError,
    ),
)
async def post_token(request: TokenRequest, response: Response, services: ServicesDep) -> NewToken:
    """Makes a token. Only this response has it: the service keeps a digest.

    The first token is made by `lhp tokens bootstrap` on the machine of the database, because from
    then on everybody needs one.
    """
    if not services.tokens.is_required:
        raise ConflictError(
            "there is no token yet, and the first one can't be made over the network",
            hint="run `lhp tokens bootstrap` where the service runs",
        )
    given = request.expires_in
    token, text = await asyncio.to_thread(
        services.store.create_token,
        request.name,
        parse_scopes(request.scopes),
        lifetime_s=None if given is None else parse_duration(given, name="expires_in"),
        by=current_caller(),
    )
    await services.tokens.refresh()
    response.headers["Cache-Control"] = "no-store"
    return NewToken(**token_info(token).model_dump(), token=text)


@router.get(
    "",
    summary="Tokens, newest first",
    dependencies=[require(Scope.ADMIN)],
    responses=problem_responses(InvalidRequestError, StoreUnavailableError),
)
async def list_tokens(
    services: ServicesDep,
    cursor: Cursor = None,
    limit: Annotated[
        int, Query(ge=1, le=500, description="Largest number of tokens on a page.")
    ] = 50,
) -> TokenPage:
    """One page of tokens without their secrets, expired and revoked ones included."""
    page = await asyncio.to_thread(services.store.list_tokens, cursor=cursor or None, limit=limit)
    return TokenPage(items=[token_info(each) for each in page.items], next_cursor=page.next_cursor)


@router.post(
    "/{token_id}/revoke",
    summary="Revoke a token",
    dependencies=[require(Scope.ADMIN)],
    responses=problem_responses(
        ForeignOriginError,
        UnknownTokenError,
        RequestTooLargeError,
        InvalidRequestError,
        StoreUnavailableError,
    ),
)
async def revoke_token(
    token_id: Annotated[str, Path(description="Id of a token.")], services: ServicesDep
) -> TokenInfo:
    """Makes the token invalid: at once in this process, within a second in all others.

    A stream of events that is open ends within a minute.
    """
    token = await asyncio.to_thread(services.store.revoke_token, token_id, by=current_caller())
    await services.tokens.refresh()
    return token_info(token)


def token_info(token: Token) -> TokenInfo:
    """The token as it is sent."""
    return TokenInfo(
        id=token.id,
        name=token.name,
        scopes=list(token.scopes),
        created_at=token.created_at,
        created_by=token.created_by,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
        last_used_at=token.last_used_at,
    )
