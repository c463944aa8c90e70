"""Which tokens a running service takes for valid."""

from __future__ import annotations

import time

import pytest

from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope
from profiler_service.answering.tokens import KnownTokens
from profiler_service.errors import UnauthenticatedError
from profiler_service.storage.store import Store

pytestmark = pytest.mark.anyio


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
