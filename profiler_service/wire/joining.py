"""Join keys, and machines that join with them."""

from __future__ import annotations

import datetime as dt

from pydantic import Field

from profiler_service.wire.base import RequestModel, ResponseModel
from profiler_service.wire.hosts import HostInfo, Labels, PlatformInfo

MAX_KEY_S = 365 * 86_400.0
MAX_TEXT = 4096


class JoinKeyRequest(RequestModel):
    """What the machine that joins with the key becomes."""

    name: str | None = Field(
        default=None, max_length=255, description="Name of the host; null: the machine says it."
    )
    labels: Labels = Field(default_factory=dict, description="Labels of the host.")
    approve: bool = Field(
        default=False, description="Whether it may measure at once, unless its doctor objects."
    )
    ephemeral: bool = Field(
        default=False, description="Whether it counts as retired after a day's silence."
    )
    reusable: bool = Field(default=False, description="Whether several machines may use the key.")
    lifetime_s: float = Field(
        default=3600.0, ge=1, le=MAX_KEY_S, description="How long the key is valid, seconds."
    )


class JoinKeyInfo(ResponseModel):
    """A new join key. Its text can't be read again."""

    id: str = Field(description="Id of the key.")
    key: str = Field(description="The key itself, for `lhp join`.")
    expires_at: dt.datetime = Field(description="When it expires.")


class KeptJoinKey(ResponseModel):
    """A join key, without its text."""

    id: str = Field(description="Id of the key: the third part of its text.")
    name: str | None = Field(description="Name of the host; null: the machine says it.")
    labels: dict[str, str] = Field(description="Labels of the host.")
    approve: bool = Field(description="Whether the host may measure at once.")
    ephemeral: bool = Field(description="Whether the host counts as retired after a day's silence.")
    reusable: bool = Field(description="Whether several machines may use the key.")
    created_at: dt.datetime = Field(description="When it was made.")
    expires_at: dt.datetime = Field(description="When it expires.")
    used_at: dt.datetime | None = Field(description="When it was used last; null: never.")
    used_by: str | None = Field(description="Name of the host that used it last.")
    revoked_at: dt.datetime | None = Field(description="When it was revoked; null: it wasn't.")


class JoinKeyPage(ResponseModel):
    """Join keys, newest first."""

    items: list[KeptJoinKey] = Field(description="The keys of this page.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last.")


class JoinRequest(RequestModel):
    """What a machine says of itself when it joins."""

    key: str = Field(max_length=256, description="A join key.")
    name: str = Field(
        max_length=255, description="Its name as a host, unless the key gives another."
    )
    machine: str = Field(
        max_length=64,
        pattern="^[0-9A-Za-z._-]*$",
        description="Its identity; empty if it has none.",
    )
    node: str = Field(max_length=255, description="Its network name, for messages.")
    platform: PlatformInfo = Field(description="Its platform.")
    protocol: str = Field(max_length=MAX_TEXT, description="Key of its timing protocol.")
    dtypes: list[str] = Field(max_length=64, description="Element types that it supports.")
    backends: dict[str, list[str]] = Field(
        max_length=64, description="Backend of products → the dtypes that it supports."
    )
    findings: dict[str, str] = Field(
        max_length=64,
        description="What its doctor found poor: check → text. Empty if it is fit to measure.",
    )


class JoinInfo(ResponseModel):
    """A host that has joined."""

    host: HostInfo = Field(description="The host.")
    database_url: str = Field(
        description="The database with the host's own credentials. Empty until the host may"
        " measure: ask again with the same key."
    )
