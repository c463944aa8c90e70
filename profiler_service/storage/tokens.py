"""Tokens in the database. They are revoked, and never deleted.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope
from profiler_service.access.tokens import Token, create_secret, digest_of, write_token
from profiler_service.errors import InvalidRequestError, UnknownTokenError
from profiler_service.storage import audit, rows
from profiler_service.storage.records import Page
from profiler_service.storage.statements import fetch_page, read_now
from profiler_service.storage.tables import tokens

MAX_NAME_LENGTH = 100
MAX_LIFETIME_S = 3650 * 86_400.0


def create_token(
    connection: Connection,
    name: str,
    scopes: Sequence[Scope],
    *,
    lifetime_s: float | None,
    by: Caller,
    action: str,
) -> tuple[Token, str]:
    """The new token and its text, which can't be read again.

    `lifetime_s` is how long it is valid; None: until it is revoked. Raises InvalidRequestError;
    InsufficientScopeError if it would allow more than its maker may.
    """
    if not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable() or name != name.strip():
        raise InvalidRequestError(
            f"the name of a token has 1 to {MAX_NAME_LENGTH} printable characters",
            hint="say what the token is for",
        )
    if lifetime_s is not None and not 1 <= lifetime_s <= MAX_LIFETIME_S:
        raise InvalidRequestError(
            f"a token can't be valid for {lifetime_s:g} seconds",
            hint="write a time from 1s to 3650d, or never",
        )
    for scope in scopes:
        by.check(scope)
    now = read_now(connection)
    secret = create_secret()
    token = Token(
        id=rows.create_id(now),
        name=name,
        scopes=tuple(scopes),
        digest=digest_of(secret),
        created_at=now,
        created_by=by.who,
        expires_at=None if lifetime_s is None else now + dt.timedelta(seconds=lifetime_s),
    )
    connection.execute(
        sa.insert(tokens).values(
            id=token.id,
            name=name,
            scopes=list(token.scopes),
            digest=token.digest,
            created_at=now,
            created_by=token.created_by,
            expires_at=token.expires_at,
        )
    )
    details = {"name": name, "scopes": " ".join(scopes)}
    audit.add_entry(connection, by, action, token.id, details)
    return token, write_token(token.id, secret)


def revoke_token(connection: Connection, token_id: str, *, by: Caller) -> Token:
    """The token, which isn't valid any more. Raises UnknownTokenError."""
    revoked = connection.execute(
        sa.update(tokens)
        .where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
        .values(revoked_at=read_now(connection))
    )
    found = connection.execute(sa.select(tokens).where(tokens.c.id == token_id)).one_or_none()
    if found is None:
        raise UnknownTokenError(
            f"there is no token {token_id[:80]!r}", hint="`lhp tokens list` lists them"
        )
    if revoked.rowcount:
        audit.add_entry(connection, by, "token.revoke", token_id, {"name": found.name})
    return _from_row(found)


def list_tokens(connection: Connection, *, cursor: str | None, limit: int) -> Page[Token]:
    """Tokens, newest first, revoked and expired ones included."""
    return fetch_page(
        connection, sa.select(tokens), tokens.c.id, _from_row, cursor=cursor, limit=limit
    )


def count_changes(connection: Connection) -> tuple[int, int]:
    """How many tokens there are, and how many are revoked. Both only grow."""
    query = sa.select(sa.func.count(tokens.c.id), sa.func.count(tokens.c.revoked_at))
    num_tokens, num_revoked = connection.execute(query).one()
    return num_tokens, num_revoked


def load_tokens(connection: Connection) -> tuple[list[Token], dt.datetime]:
    """Every token, and the database's time."""
    found = connection.execute(sa.select(tokens))
    return [_from_row(row) for row in found], read_now(connection)


def note_used(connection: Connection, token_ids: Collection[str]) -> None:
    """Stores that these tokens were used just now."""
    connection.execute(
        sa.update(tokens)
        .where(tokens.c.id.in_(token_ids))
        .values(last_used_at=read_now(connection))
    )


def _from_row(row: rows.Row) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        scopes=tuple(Scope(each) for each in row.scopes if each in list(Scope)),
        digest=row.digest,
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
