"""Entries of the audit trail: who did what, when, and from where. Knows no database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """Something that was done."""

    id: str
    """Sortable by time (UUID version 7)."""
    at: dt.datetime
    """By the database's clock."""
    who: str
    """The caller's token, `anyone` without one, or `command line`."""
    address: str
    """Where the request came from; empty for the command line."""
    action: str
    """What was done: `token.create`, `sweep.cancel`."""
    subject: str
    """To what: an id or a name."""
    details: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class AuditFilter:
    """Which entries a list shows. None: all."""

    who: str | None = None
    """Begins so: `token 01a…`."""
    action: str | None = None
    subject: str | None = None
    since: dt.datetime | None = None
