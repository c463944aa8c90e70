"""`lhp tokens create`, `list` and `revoke`. (`bootstrap`: tests/processes/test_access.py)"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from profiler_service.wire import NewToken, TokenInfo, TokenPage
from tests.cli.conftest import Lhp
from tests.cli.stub import NOW, StubService

SECRET = "A" * 43
ID = "1" * 32
TOKEN = f"lhp_{ID}_{SECRET}"


def info(**changed: Any) -> TokenInfo:
    given: dict[str, Any] = {
        "id": ID,
        "name": "trainer",
        "scopes": ["measure"],
        "created_at": NOW,
        "created_by": "command line",
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
    }
    return TokenInfo(**{**given, **changed})


@pytest.mark.parametrize(
    ("options", "scopes", "expires_in"),
    [
        ([], ["read"], "90d"),
        (["--scope", "measure", "--scope", "host"], ["measure", "host"], "90d"),
        (["--expires", "12h"], ["read"], "12h"),
        (["--expires", "never"], ["read"], None),
    ],
)
def test_create_prints_the_token_alone_on_stdout(
    lhp: Lhp, service: StubService, options: list[str], scopes: list[str], expires_in: str | None
) -> None:
    service.reply("POST /tokens", NewToken(**info().model_dump(), token=TOKEN))
    done = lhp("tokens", "create", "trainer", *options)
    assert (done.code, done.out) == (0, f"{TOKEN}\n"), done.err
    assert SECRET not in done.err
    sent = json.loads(service.requests[-1][2])
    assert sent == {"name": "trainer", "scopes": scopes, "expires_in": expires_in}


@pytest.mark.parametrize("options", [["--scope", "root"], ["--expires", "soon"]])
def test_create_refuses_what_no_token_has(
    lhp: Lhp, service: StubService, options: list[str]
) -> None:
    done = lhp("tokens", "create", "x", *options)
    assert (done.code, service.requests) == (2, [])
    assert "hint: " in done.err


def test_list_shows_the_state_of_each(lhp: Lhp, service: StubService) -> None:
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    items = [
        info(name="a"),
        info(name="b", revoked_at=NOW),
        info(name="c", expires_at=past),
        info(name="d", expires_at=past.replace(year=2999), last_used_at=NOW),
    ]
    service.reply("GET /tokens", TokenPage(items=items, next_cursor=None))
    lines = lhp("tokens", "list").out.splitlines()[1:]
    for line, state in zip(
        lines,
        ("valid", "revoked 2026-01-02", "expired 2020-01-01", "valid until 2999-01-01"),
        strict=True,
    ):
        assert state in line and ID in line
    assert "2026-01-02 03:04 UTC" in lines[3]


@pytest.mark.parametrize("given", [ID, TOKEN])
def test_revoke_never_puts_the_secret_into_an_address(
    lhp: Lhp, service: StubService, given: str
) -> None:
    service.reply(f"POST /tokens/{ID}/revoke", info(revoked_at=NOW))
    done = lhp("tokens", "revoke", given)
    assert done.code == 0, done.err
    assert SECRET not in str(service.requests)
