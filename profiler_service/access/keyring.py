"""Every token, in memory: whether a text is one that is valid now. Asks no database."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable
from typing import NamedTuple

from profiler_service.access.scopes import Scope, expand
from profiler_service.access.tokens import Token, is_secret, split_token
from profiler_service.errors import UnauthenticatedError

_NO_DIGEST = "0" * 64
"""No secret has it."""
HINT = "send `Authorization: Bearer lhp_…`; commands and the client take the token from LHP_TOKEN"


class Verified(NamedTuple):
    """A valid token."""

    token: Token
    allowed: frozenset[Scope]
    """Everything that it allows."""
    ends_s: float
    """When it expires, by the local clock; infinite: never."""


class Keyring:
    """The tokens as they were when they were read."""

    def __init__(self, tokens: Iterable[Token], *, now: dt.datetime, clock_s: float) -> None:
        """`now` is the database's time of reading, `clock_s` a local clock's at that moment.

        Tokens expire by the database's time, also while the database is away.
        """
        self._tokens = {each.id: each for each in tokens}
        self._allowed = {each.id: expand(each.scopes) for each in self._tokens.values()}
        self._ends_s = {
            each.id: clock_s + (each.expires_at - now).total_seconds()
            for each in self._tokens.values()
            if each.expires_at is not None
        }

    def __len__(self) -> int:
        """How many there are, revoked and expired ones included."""
        return len(self._tokens)

    def verify(self, text: str, clock_s: float) -> Verified:
        """The token, and everything that it allows. Raises UnauthenticatedError.

        Only who knows the secret learns whether a token has expired or was revoked.
        """
        parts = split_token(text)
        if parts is None:
            raise UnauthenticatedError("this is no token: lhp_ID_SECRET", hint=HINT)
        token_id, secret = parts
        token = self._tokens.get(token_id)
        if not is_secret(secret, _NO_DIGEST if token is None else token.digest) or token is None:
            raise UnauthenticatedError("the token isn't known here", hint=HINT)
        if fault := self._find_fault(token, clock_s):
            raise UnauthenticatedError(
                f"the token {token_id} {fault}", hint="ask an operator for another one"
            )
        return Verified(token, self._allowed[token_id], self._ends_s.get(token_id, math.inf))

    def is_valid(self, token_id: str, clock_s: float) -> bool:
        """Whether a token that was verified once is valid still."""
        token = self._tokens.get(token_id)
        return token is not None and not self._find_fault(token, clock_s)

    def _find_fault(self, token: Token, clock_s: float) -> str:
        """Why the token isn't valid; empty if it is."""
        if token.revoked_at is not None:
            return "was revoked"
        return "has expired" if clock_s >= self._ends_s.get(token.id, math.inf) else ""
