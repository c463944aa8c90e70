"""Who calls: from a request to everything that is done for it.

The caller is a context variable, because what starts a measurement is far from the request: tasks
and threads that work for a request have its caller. Without a request, anything is allowed: the
command line on the database's machine.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from profiler_service.access.scopes import Scope
from profiler_service.errors import InsufficientScopeError

ALL_SCOPES = frozenset(Scope)


class Caller(NamedTuple):
    """Who calls, and what it may do. (A tuple, because every request makes one.)"""

    allowed: frozenset[Scope] = ALL_SCOPES
    token_id: str = ""
    """Empty without a token."""
    token_name: str = ""
    address: str = ""
    """Where the request comes from; empty without a request."""

    @property
    def who(self) -> str:
        """The caller in the audit trail."""
        if self.token_id:
            return f"token {self.token_id} ({self.token_name})"
        return "anyone" if self.address else "command line"

    @property
    def key(self) -> str:
        """Equal for what one client asks: its token, or without one its address."""
        return f"token {self.token_id}" if self.token_id else self.address

    def check(self, scope: Scope) -> None:
        """Returns if the caller may do what the scope allows. Raises InsufficientScopeError."""
        if scope not in self.allowed:
            has = ", ".join(sorted(self.allowed)) or "none"
            raise InsufficientScopeError(
                f"this needs a token with the scope {scope}; the one given allows: {has}",
                hint=f"ask an operator for one: `lhp tokens create NAME --scope {scope}`",
            )


_CALLER: ContextVar[Caller] = ContextVar("lhp_caller")
_NO_REQUEST = Caller()


def current_caller() -> Caller:
    """Who calls, in this task or thread."""
    return _CALLER.get(_NO_REQUEST)


def set_caller(caller: Caller) -> None:
    """Makes it the caller of this task, and of what this task starts."""
    _CALLER.set(caller)
