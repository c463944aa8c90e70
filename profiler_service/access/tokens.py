"""The text of a token, and what is kept of it.

A token is `lhp_ID_SECRET`: the id finds it, the secret proves it. Only a digest of the secret is
kept. The secret is 256 random bits, so one round of SHA-256 is enough: nobody can try them all.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from profiler_service.access.scopes import Scope

SECRET_BYTES = 32
_FORM = re.compile(r"lhp_([0-9a-f]{32})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token as it is kept, without its secret."""

    id: str
    """Sortable by creation time (UUID version 7)."""
    name: str
    """What it is for, as its maker wrote."""
    scopes: tuple[Scope, ...]
    digest: str
    """SHA-256 of the secret, hexadecimal."""
    created_at: dt.datetime
    created_by: str
    """Who made it, as in the audit trail."""
    expires_at: dt.datetime | None
    """None: never."""
    revoked_at: dt.datetime | None = None
    last_used_at: dt.datetime | None = None
    """Up to a minute old."""


def create_secret() -> str:
    """A new secret."""
    return secrets.token_urlsafe(SECRET_BYTES)


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def write_token(token_id: str, secret: str) -> str:
    """The text of the token."""
    return f"lhp_{token_id}_{secret}"


def split_token(text: str) -> tuple[str, str] | None:
    """The id and the secret; None if the text is no token."""
    found = _FORM.fullmatch(text)
    return None if found is None else (found[1], found[2])


def is_secret(secret: str, digest: str) -> bool:
    """Whether the digest is that of the secret. Takes equally long wherever they differ."""
    return hmac.compare_digest(digest_of(secret), digest)
