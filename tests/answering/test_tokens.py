"""Which tokens a running service takes for valid."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from profiler_service.access.caller import Caller
from profiler_service.access.keyring import Keyring
from profiler_service.access.scopes import Scope
from profiler_service.answering.tokens import KnownTokens
from profiler_service.errors import UnauthenticatedError
from profiler_service.storage.store import Store

pytestmark = pytest.mark.anyio

PATIENCE_S = 20.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_what_was_verified_expires_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownTokens(store, is_exposed=False)
    _, text = store.create_token("x", [Scope.READ], lifetime_s=600, by=Caller())
    await known.refresh()
    for _ in range(2):  # verified, then remembered
        assert known.verify(text).allowed == {Scope.READ}
    later_s = time.monotonic() + 601
    monkeypatch.setattr("profiler_service.answering.tokens.time.monotonic", lambda: later_s)
    for _ in range(2):
        with pytest.raises(UnauthenticatedError, match="expired"):
            known.verify(text)


async def test_what_was_verified_ends_with_its_revocation(store: Store) -> None:
    known = KnownTokens(store, is_exposed=False)
    token, text = store.create_token("x", [Scope.READ], lifetime_s=None, by=Caller())
    await known.refresh()
    assert known.is_required
    known.verify(text)
    store.revoke_token(token.id, by=Caller())
    await known.refresh()
    with pytest.raises(UnauthenticatedError, match="revoked"):
        known.verify(text)


async def test_a_slow_refresh_doesn_t_put_back_what_it_read_before_a_revocation(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownTokens(store, is_exposed=False)
    token, text = store.create_token("x", [Scope.READ], lifetime_s=None, by=Caller())
    load = store.load_keyring
    has_read, go_on = threading.Event(), threading.Event()

    def load_slowly() -> Keyring:
        keyring = load()
        if not has_read.is_set():
            has_read.set()
            go_on.wait(PATIENCE_S)
        return keyring

    monkeypatch.setattr(store, "load_keyring", load_slowly)
    slow = asyncio.create_task(known.refresh())
    assert await asyncio.to_thread(has_read.wait, PATIENCE_S)
    store.revoke_token(token.id, by=Caller())
    later = asyncio.create_task(known.refresh())
    await asyncio.wait([later], timeout=0.3)  # it would overtake the slow one now
    go_on.set()
    await asyncio.gather(slow, later)
    with pytest.raises(UnauthenticatedError, match="revoked"):
        known.verify(text)
    assert not known.is_valid(token.id)


async def test_what_began_without_a_token_may_go_on_until_one_is_needed(store: Store) -> None:
    known = KnownTokens(store, is_exposed=False)
    await known.refresh()
    assert known.is_valid("")
    token, _ = store.create_token("x", [Scope.READ], lifetime_s=None, by=Caller())
    await known.refresh()
    assert not known.is_valid("")
    assert known.is_valid(token.id)
    assert not known.is_valid("0" * 32)
