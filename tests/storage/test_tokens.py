"""Tokens and the audit trail, on SQLite and PostgreSQL."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from profiler_service.access.audit import AuditFilter
from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope, expand
from profiler_service.errors import (
    InsufficientScopeError,
    InvalidRequestError,
    UnauthenticatedError,
    UnknownTokenError,
)
from profiler_service.storage.store import Host, Store
from tests.storage.examples import create_spec

ADMIN = Caller(token_id="a" * 32, token_name="ops", address="10.0.0.9")
MEASURE = Caller(allowed=expand([Scope.MEASURE]), token_id="b" * 32, address="10.0.0.8")


def test_a_token_is_kept_without_its_secret(store: Store, database_url: str) -> None:
    token, text = store.create_token("ci", [Scope.READ], lifetime_s=60, by=ADMIN)
    secret = text.removeprefix(f"lhp_{token.id}_")
    assert store.load_keyring().verify(text, time.monotonic())[0] == token
    assert token.expires_at is not None
    assert (token.expires_at - token.created_at).total_seconds() == 60
    engine = sa.create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        rows = [
            str(row)
            for table in ("tokens", "audit")
            for row in connection.execute(sa.text(f"SELECT * FROM {table}"))
        ]
    engine.dispose()
    assert len(rows) == 2 and not any(secret in row for row in rows)


def test_a_revoked_token_stays_in_the_list_and_is_refused(store: Store) -> None:
    token, text = store.create_token("ci", [Scope.READ], lifetime_s=None, by=ADMIN)
    before = store.count_token_changes()
    assert store.revoke_token(token.id, by=ADMIN).revoked_at is not None
    assert store.count_token_changes() != before
    again = store.revoke_token(token.id, by=ADMIN)
    [listed] = store.list_tokens().items
    assert listed == again
    with pytest.raises(UnauthenticatedError, match="revoked"):
        store.load_keyring().verify(text, time.monotonic())
    actions = [each.action for each in store.list_audit(AuditFilter()).items]
    assert actions == ["token.revoke", "token.create"]  # once, however often it is asked for


def test_nobody_gives_more_than_they_have(store: Store) -> None:
    for scope in (Scope.HOST, Scope.ADMIN):
        with pytest.raises(InsufficientScopeError):
            store.create_token("more", [Scope.READ, scope], lifetime_s=None, by=MEASURE)
    assert store.list_tokens().items == [] and store.list_audit(AuditFilter()).items == []
    store.create_token("less", [Scope.READ], lifetime_s=None, by=MEASURE)


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\nb", " x"])
def test_a_token_has_a_plain_name(store: Store, name: str) -> None:
    with pytest.raises(InvalidRequestError, match="name"):
        store.create_token(name, [Scope.READ], lifetime_s=None, by=ADMIN)


def test_an_unknown_token_cant_be_revoked(store: Store) -> None:
    with pytest.raises(UnknownTokenError):
        store.revoke_token("0" * 32, by=ADMIN)


def test_the_last_use_is_noted(store: Store) -> None:
    used, _ = store.create_token("used", [Scope.READ], lifetime_s=None, by=ADMIN)
    store.create_token("unused", [Scope.READ], lifetime_s=None, by=ADMIN)
    store.note_tokens_used([used.id])
    last = {each.name: each.last_used_at for each in store.list_tokens().items}
    assert last["used"] is not None and last["used"] >= used.created_at
    assert last["unused"] is None


def test_the_trail_says_who_did_what_from_where(store: Store, host: Host) -> None:
    sweep, _ = store.create_sweep(create_spec(), host=host.name, by=ADMIN)
    store.create_sweep(create_spec(), host=host.name, by=MEASURE)  # the same: nothing new
    store.request_cancel(sweep.id, by=MEASURE)
    cancelled, made = store.list_audit(AuditFilter()).items
    assert (made.who, made.address, made.action, made.subject) == (
        f"token {'a' * 32} (ops)",
        "10.0.0.9",
        "sweep.create",
        sweep.id,
    )
    assert made.details["host"] == host.name
    assert (cancelled.action, cancelled.address) == ("sweep.cancel", "10.0.0.8")
    for wanted in (
        AuditFilter(who=f"token {'a' * 32}"),
        AuditFilter(action="sweep.create"),
        AuditFilter(subject=sweep.id, action="sweep.create", since=made.at),
    ):
        assert store.list_audit(wanted).items == [made]
    first = store.list_audit(AuditFilter(), limit=1)
    assert first.items == [cancelled]
    assert store.list_audit(AuditFilter(), limit=1, cursor=first.next_cursor).items == [made]
