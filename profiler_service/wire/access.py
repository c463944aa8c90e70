"""Access tokens and the audit trail."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field

from profiler_service.wire.base import RequestModel, ResponseModel
from profiler_service.wire.quantities import DURATION_PATTERN

ScopeName = Literal["read", "measure", "host", "admin"]
DEFAULT_LIFETIME = "90d"


class TokenRequest(RequestModel):
    """A token to make."""

    name: str = Field(
        min_length=1, max_length=100, description="What it is for.", examples=["trainer"]
    )
    scopes: list[ScopeName] = Field(
        min_length=1,
        max_length=4,
        description="What it allows. `measure` and `host` include `read`; `admin` includes all.",
    )
    expires_in: Annotated[str, Field(pattern=DURATION_PATTERN)] | None = Field(
        default=DEFAULT_LIFETIME,
        description="How long it is valid: `12h`, `90d`, ten years at most; null: until it is"
        " revoked.",
    )


class TokenInfo(ResponseModel):
    """A token, without its secret."""

    id: str = Field(description="The part of the token between the underscores.")
    name: str = Field(description="What it is for.")
    scopes: list[str] = Field(description="What it allows.")
    created_at: dt.datetime = Field(description="When it was made.")
    created_by: str = Field(description="Who made it.")
    expires_at: dt.datetime | None = Field(description="Until when it is valid; null: no end.")
    revoked_at: dt.datetime | None = Field(description="When it was revoked; null: it wasn't.")
    last_used_at: dt.datetime | None = Field(
        description="When it was last used, to a minute; null: never."
    )


class NewToken(TokenInfo):
    """A token that was just made."""

    token: str = Field(description="The token itself. It can't be shown again.")


class TokenPage(ResponseModel):
    """Tokens, newest first."""

    items: list[TokenInfo] = Field(description="The tokens of this page.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last.")


class AuditInfo(ResponseModel):
    """Something that was done."""

    id: str = Field(description="Id of the entry; later ones have larger ids.")
    at: dt.datetime = Field(description="When, by the database's clock.")
    who: str = Field(
        description="Who did it: a token's id and name; `anyone` while no token is needed;"
        " `command line` on the database's machine.",
        examples=["token 019a… (trainer)"],
    )
    address: str = Field(description="Where the request came from; empty for the command line.")
    action: str = Field(description="What was done.", examples=["sweep.create"])
    subject: str = Field(description="To what: an id or a name.")
    details: dict[str, str] = Field(description="More about it.")


class AuditPage(ResponseModel):
    """Entries of the audit trail, newest first."""

    items: list[AuditInfo] = Field(description="The entries of this page.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last.")
