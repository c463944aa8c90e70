"""The text of a join key, and what is kept of it.

A key is `lhpjoin_INSTALLATION_ID_SECRET`. It names its installation, so that a key of another one
is told from a wrong one. As of a token, only a digest of the secret is kept.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass

_FORM = re.compile(r"lhpjoin_([0-9a-f]{8})_([0-9a-f]{32})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, kw_only=True)
class JoinTerms:
    """What a join key lets a machine become."""

    name: str | None = None
    """Name of the host; None: the machine says its own."""
    labels: Mapping[str, str]
    is_approved: bool
    """Whether the host may measure at once."""
    is_ephemeral: bool
    is_reusable: bool
    """Whether several machines may use it."""


@dataclass(frozen=True, kw_only=True)
class JoinKey:
    """A join key as it is kept, without its secret."""

    id: str
    """Sortable by creation time (UUID version 7)."""
    terms: JoinTerms
    created_at: dt.datetime
    expires_at: dt.datetime
    used_at: dt.datetime | None = None
    """When it let a machine in last."""
    used_by: str | None = None
    """The host that this machine became."""
    revoked_at: dt.datetime | None = None


def write_join_key(installation: str, key_id: str, secret: str) -> str:
    """The text of the key."""
    return f"lhpjoin_{installation}_{key_id}_{secret}"


def split_join_key(text: str) -> tuple[str, str, str] | None:
    """The installation, the id and the secret; None if the text is no join key."""
    found = _FORM.fullmatch(text)
    return None if found is None else (found[1], found[2], found[3])
