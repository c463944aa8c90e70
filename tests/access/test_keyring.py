"""Which texts are tokens that are valid now."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pytest

from profiler_service.access.keyring import Keyring
from profiler_service.access.scopes import Scope, expand, parse_scopes
from profiler_service.access.tokens import Token, create_secret, digest_of, write_token
from profiler_service.errors import InvalidRequestError, UnauthenticatedError

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ID = "0" * 31 + "1"
SECRET = "q" * 43  # not a random one: it is part of names of tests


def create_token(**changed: Any) -> Token:
    given: dict[str, Any] = {
        "id": ID,
        "name": "trainer",
        "scopes": (Scope.MEASURE,),
        "digest": digest_of(SECRET),
        "created_at": NOW,
        "created_by": "command line",
        "expires_at": None,
    }
    return Token(**{**given, **changed})


def keyring(**changed: Any) -> Keyring:
    """A keyring read when the local clock showed 100 s."""
    return Keyring([create_token(**changed)], now=NOW, clock_s=100.0)


def test_a_token_is_known_by_its_secret() -> None:
    verified = keyring().verify(write_token(ID, SECRET), 100.0)
    assert (verified.token.name, verified.ends_s) == ("trainer", math.inf)
    assert verified.allowed == {Scope.READ, Scope.MEASURE}


OTHER = ("A" if SECRET[0] != "A" else "B") + SECRET[1:]


@pytest.mark.parametrize(
    "text",
    [
        *("", "lhp", ID, SECRET, f"lhp_{ID}_", f"lhp_{ID}_{SECRET} ", f"lhp_{ID}_{SECRET}x"),
        *(f"lhp_{ID}_{OTHER}", f"LHP_{ID}_{SECRET}", f"lhp_{'2' * 32}_{SECRET}"),
        *(f"lhp_{ID}_{digest_of(SECRET)}", f"lhp_{ID}_{'é' * 43}", f"lhp_{ID}_{SECRET}\n"),
    ],
)
def test_anything_else_is_refused_without_saying_what_it_was(text: str) -> None:
    with pytest.raises(UnauthenticatedError) as refused:
        keyring(revoked_at=NOW).verify(text, 100.0)
    said = f"{refused.value} {refused.value.hint}"
    assert "revoked" not in said
    assert SECRET not in said and OTHER not in said


def test_a_token_expires_by_the_databases_clock() -> None:
    # Read at 12:00 by the database, when the local clock showed 100 s: 60 s later it shows 160.
    ring = keyring(expires_at=NOW + dt.timedelta(seconds=60))
    ring.verify(write_token(ID, SECRET), 159.9)
    with pytest.raises(UnauthenticatedError, match="expired"):
        ring.verify(write_token(ID, SECRET), 160.0)


def test_a_revoked_token_is_refused() -> None:
    with pytest.raises(UnauthenticatedError, match="revoked"):
        keyring(revoked_at=NOW).verify(write_token(ID, SECRET), 100.0)


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (["read"], {"read"}),
        (["measure"], {"read", "measure"}),
        (["host"], {"read", "host"}),
        (["host", "measure"], {"read", "measure", "host"}),
        (["admin"], {"read", "measure", "host", "admin"}),
    ],
)
def test_what_each_scope_allows(scopes: list[str], allowed: set[str]) -> None:
    assert expand(parse_scopes(scopes)) == allowed


@pytest.mark.parametrize("scopes", [[], ["root"], ["read", "Admin"], [""]])
def test_a_token_has_known_scopes(scopes: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match=r"(?i)scope"):
        parse_scopes(scopes)


def test_secrets_are_long_and_never_the_same() -> None:
    # 32 bytes are 43 characters of base64 without padding.
    assert {len(create_secret()) for _ in range(50)} == {43}
    assert len({create_secret() for _ in range(50)}) == 50
