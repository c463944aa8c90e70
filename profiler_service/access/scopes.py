"""What a token allows: `read`, `measure`, `host`, `admin`. Knows no token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from profiler_service.errors import InvalidRequestError


class Scope(StrEnum):
    """A kind of use that a token allows."""

    READ = "read"
    MEASURE = "measure"
    HOST = "host"
    ADMIN = "admin"


MEANINGS: Mapping[Scope, str] = {
    Scope.READ: "read what is stored",
    Scope.MEASURE: "also start and cancel measurements",
    Scope.HOST: "read, and act as a host that measures",
    Scope.ADMIN: "everything, tokens and hosts included",
}

INCLUDED: Mapping[Scope, frozenset[Scope]] = {
    Scope.READ: frozenset({Scope.READ}),
    Scope.MEASURE: frozenset({Scope.READ, Scope.MEASURE}),
    Scope.HOST: frozenset({Scope.READ, Scope.HOST}),
    Scope.ADMIN: frozenset(Scope),
}
"""Scope → every scope whose uses it allows."""


def expand(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """Every scope that these allow."""
    return frozenset().union(*(INCLUDED[each] for each in scopes))


def parse_scopes(texts: Iterable[str]) -> tuple[Scope, ...]:
    """The scopes of these names, each once. Raises InvalidRequestError if there is none."""
    try:
        found = {Scope(text) for text in texts}
    except ValueError as error:
        raise InvalidRequestError(str(error), hint=f"scopes are {', '.join(Scope)}") from error
    if not found:
        raise InvalidRequestError("a token has a scope", hint=f"choose from {', '.join(Scope)}")
    return tuple(each for each in Scope if each in found)
