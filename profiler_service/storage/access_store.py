"""The part of the store that keeps tokens and the audit trail.

Others use it as part of `store.Store`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from profiler_service.access.audit import AuditEntry, AuditFilter
from profiler_service.access.caller import Caller
from profiler_service.access.keyring import Keyring
from profiler_service.access.scopes import Scope
from profiler_service.access.tokens import Token
from profiler_service.storage import audit, tokens
from profiler_service.storage.open_database import OpenDatabase
from profiler_service.storage.records import Page
from profiler_service.storage.statements import check_page


class AccessStore(OpenDatabase):
    """Tokens and the audit trail, in SQLite or PostgreSQL. What it raises: see `store.Store`."""

    def create_token(
        self,
        name: str,
        scopes: Sequence[Scope],
        *,
        lifetime_s: float | None,
        by: Caller,
        action: str = "token.create",
    ) -> tuple[Token, str]:
        """The new token and its text, which can't be read again.

        `lifetime_s` is how long it is valid; None: until it is revoked. Raises InvalidRequestError;
        InsufficientScopeError if it would allow more than its maker may.
        """
        with self._write() as connection:
            return tokens.create_token(
                connection, name, scopes, lifetime_s=lifetime_s, by=by, action=action
            )

    def revoke_token(self, token_id: str, *, by: Caller) -> Token:
        """The token, which isn't valid any more. Raises UnknownTokenError."""
        with self._write() as connection:
            return tokens.revoke_token(connection, token_id, by=by)

    def list_tokens(self, *, cursor: str | None = None, limit: int = 50) -> Page[Token]:
        """Tokens, newest first. Raises InvalidRequestError for a wrong cursor."""
        check_page(cursor=cursor, limit=limit)
        with self._read() as connection:
            return tokens.list_tokens(connection, cursor=cursor, limit=limit)

    def count_token_changes(self) -> tuple[int, int]:
        """Differs whenever a token was made or revoked."""
        with self._read() as connection:
            return tokens.count_changes(connection)

    def load_keyring(self) -> Keyring:
        """Every token, to be verified in memory, by `time.monotonic`."""
        with self._read() as connection:
            found, now = tokens.load_tokens(connection)
        return Keyring(found, now=now, clock_s=time.monotonic())

    def note_tokens_used(self, token_ids: Collection[str]) -> None:
        """Stores that these tokens were used just now."""
        with self._write() as connection:
            tokens.note_used(connection, token_ids)

    def list_audit(
        self, wanted: AuditFilter, *, cursor: str | None = None, limit: int = 50
    ) -> Page[AuditEntry]:
        """Entries, newest first. Raises InvalidRequestError for a wrong cursor."""
        check_page(cursor=cursor, limit=limit)
        with self._read() as connection:
            return audit.list_entries(connection, wanted, cursor=cursor, limit=limit)
