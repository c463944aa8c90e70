"""Who gets in: every route, with every kind of token that must be refused."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import APIRouter

from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope
from profiler_service.api.access import find_public
from profiler_service.api.rate_limit import network_of
from profiler_service.app import create_app
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from profiler_service.storage.tables import tokens
from tests.api.conftest import HOST, Worker, check_problem, keep_curve, serving
from tests.api.curves import square, stairs

pytestmark = pytest.mark.anyio

DESCRIBED: dict[str, Any] = create_app(
    Settings(database_url="sqlite:///unused", host=HOST, listen="0.0.0.0")
).openapi()["paths"]
ROUTES = [
    (method.upper(), path, operation["security"][0]["token"][0] if operation["security"] else None)
    for path, operations in DESCRIBED.items()
    for method, operation in operations.items()
]
PUBLIC_PATHS = {path for _, path, scope in ROUTES if scope is None}
PAGES = [("GET", path, "read") for path in ("/docs", "/redoc", "/openapi.json", "/nowhere")]
INVALID = ("missing", "wrong", "forged", "expired", "revoked", "basic", "twice", "in the address")


@pytest.fixture
def given(sqlite_store: Store, sqlite_url: str) -> dict[str, str]:
    """A token of each scope, and one that has expired, and one that was revoked."""
    made: dict[str, str] = {}
    for scope in Scope:
        _, made[scope] = sqlite_store.create_token(scope, [scope], lifetime_s=None, by=Caller())
    old, made["expired"] = sqlite_store.create_token(
        "old", [Scope.ADMIN], lifetime_s=60, by=Caller()
    )
    gone, made["revoked"] = sqlite_store.create_token(
        "gone", [Scope.ADMIN], lifetime_s=None, by=Caller()
    )
    sqlite_store.revoke_token(gone.id, by=Caller())
    engine = sa.create_engine(sqlite_url)
    with engine.begin() as connection:
        past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
        connection.execute(sa.update(tokens).where(tokens.c.id == old.id).values(expires_at=past))
    engine.dispose()
    made["wrong"] = made["admin"][:-43] + made["read"][-43:]  # another one's secret
    made["forged"] = f"lhp_{'0' * 32}_{'A' * 43}"
    return made


@pytest.fixture
async def guarded(
    anyio_backend: str, sqlite_worker: Worker, given: dict[str, str]
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that has tokens, and one curve."""
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    settings = Settings(database_url="sqlite:///unused", host=HOST, rate_limit="")
    async with serving(settings, sqlite_worker) as client:
        yield client


def fill(path: str) -> str:
    return re.sub(r"{(\w+)}", "0" * 32, path)


def fillings(path: str) -> Iterator[str]:
    """Addresses of the route: with ids that don't exist, and those that are public otherwise."""
    yield fill(path)
    pattern = re.sub(r"{\w+}", "[^/]+", path)
    yield from (each for each in PUBLIC_PATHS - {path} if re.fullmatch(pattern, each))


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def send(how: str, given: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The ways to send that which must be refused, as arguments of a request."""
    if how == "missing":
        yield {}
    elif how == "basic":
        yield {"auth": ("lhp", given["admin"])}
    elif how == "twice":
        header = ("authorization", f"Bearer {given['admin']}")
        yield {"headers": [header, header]}
    elif how == "in the address":
        yield {"params": {"token": given["admin"], "access_token": given["admin"]}}
        yield {"headers": {"cookie": f"token={given['admin']}"}}
    else:
        yield {"headers": bearer(given[how])}


@pytest.mark.parametrize("how", INVALID)
async def test_every_route_refuses_what_is_no_valid_token(
    guarded: httpx.AsyncClient, sqlite_worker: Worker, given: dict[str, str], how: str
) -> None:
    before = sqlite_worker.store.count_token_changes()
    for method, path, scope in (*ROUTES, *PAGES):
        if scope is None:
            continue
        for address, arguments in itertools.product(fillings(path), send(how, given)):
            response = await guarded.request(method, address, **arguments)
            check_problem(response, 401, "")
            assert response.json()["type"] == "/problems/unauthenticated", address
            assert response.headers["www-authenticate"].startswith('Bearer realm="lhp"')
            assert not any(token in response.text for token in given.values())
    assert sqlite_worker.handed_in.empty()
    assert sqlite_worker.store.count_token_changes() == before


@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "DELETE"])
async def test_a_host_s_name_that_is_a_public_path_opens_no_route(
    guarded: httpx.AsyncClient, method: str
) -> None:
    # POST is public there. The walk above must have had it, too.
    assert "/hosts/join" in fillings("/hosts/{name}")
    assert (await guarded.request(method, "/hosts/join")).status_code == 401


LESS = {"measure": ["read", "host"], "admin": ["read", "measure", "host"], "host": ["measure"]}
"""Scope → the scopes that don't include it."""


async def test_every_route_refuses_a_token_of_less_scope(
    guarded: httpx.AsyncClient, sqlite_worker: Worker, given: dict[str, str]
) -> None:
    refused = 0
    for method, path, scope in ROUTES:
        for less in LESS.get(scope or "", ()):
            response = await guarded.request(method, fill(path), headers=bearer(given[less]))
            check_problem(response, 403, f"--scope {scope}")
            assert response.json()["type"] == "/problems/insufficient-scope"
            refused += 1
    assert refused >= 16  # 2 routes measure, 4 administer: 2 · 2 + 4 · 3
    assert sqlite_worker.handed_in.empty()


async def test_every_route_lets_a_token_of_its_scope_in(
    guarded: httpx.AsyncClient, given: dict[str, str]
) -> None:
    for method, path, scope in (*ROUTES, *PAGES):
        response = await guarded.request(method, fill(path), headers=bearer(given[scope or "read"]))
        assert response.status_code not in (401, 403), (path, response.text)


async def test_health_joining_and_static_files_need_no_token(
    guarded: httpx.AsyncClient, given: dict[str, str]
) -> None:
    public = {path for _, path, scope in ROUTES if scope is None}
    assert public == {"/healthz", "/readyz", "/hosts/join"}
    # Joining needs its key instead.
    assert (await guarded.post("/hosts/join", json={})).status_code == 422
    for token in (None, given["expired"]):
        headers = {} if token is None else bearer(token)
        for path in ("/healthz", "/readyz"):
            assert (await guarded.get(path, headers=headers)).status_code != 401
        docs = (await guarded.get("/docs", headers=bearer(given["read"]))).text
        [script, *_] = re.findall(r'src="([^"]+)"', docs)
        assert (await guarded.get(script, headers=headers)).status_code == 200
    # Nothing else is below that path, however it is written.
    for path in ("/static-offline-docs/../lhp?dims=5,6", "/static-offline-docs/%2e%2e/hosts"):
        assert (await guarded.get(path)).status_code in (401, 404)


@pytest.mark.parametrize("is_open", [True, False])
async def test_metrics_need_a_token_unless_an_operator_opens_them(
    sqlite_worker: Worker, given: dict[str, str], is_open: bool
) -> None:
    settings = Settings(database_url="sqlite:///unused", host=HOST, open_metrics=is_open)
    async with serving(settings, sqlite_worker) as client:
        assert (await client.get("/metrics")).status_code == (200 if is_open else 401)
        assert (await client.get("/hosts")).status_code == 401
        allowed = await client.get("/metrics", headers=bearer(given["read"]))
        assert allowed.status_code == 200


async def test_a_known_answer_is_read_and_an_unknown_one_is_measured(
    guarded: httpx.AsyncClient, sqlite_worker: Worker, given: dict[str, str]
) -> None:
    for path in ("/lhp?dims=5,6", "/lhp?dims=5,6", "/lhp?dims=5,6&wait=1"):  # ready the 2nd time
        assert (await guarded.get(path, headers=bearer(given["read"]))).status_code == 200
    for path in ("/lhp?dims=500,600&wait=0", "/crossover?dims=500,600&wait=0"):
        response = await guarded.get(path, headers=bearer(given["read"]))
        check_problem(response, 403, "--scope measure")
        assert sqlite_worker.handed_in.empty()
    path = "/lhp?dims=500,600&wait=0"
    response = await guarded.get(path, headers=bearer(given["measure"]))
    assert response.status_code == 202
    await sqlite_worker.take()
    # Waiting for one that others have started is measuring, too.
    check_problem(await guarded.get(path, headers=bearer(given["read"])), 403, "measure")


async def test_a_batch_has_known_answers_measured_by_nobody(
    guarded: httpx.AsyncClient, sqlite_worker: Worker, given: dict[str, str]
) -> None:
    questions = [{"dims": "5,6"}, {"dims": "500,600"}]
    response = await guarded.post(
        "/lhp/batch?wait=0", json=questions, headers=bearer(given["read"])
    )
    known, unknown = response.json()["items"]
    assert known["status"] == 200
    assert (unknown["status"], unknown["problem"]["type"]) == (
        403,
        "/problems/insufficient-scope",
    )
    assert sqlite_worker.handed_in.empty()


async def test_tokens_are_made_used_and_revoked(
    guarded: httpx.AsyncClient, given: dict[str, str]
) -> None:
    admin = bearer(given["admin"])
    made = await guarded.post(
        "/tokens", json={"name": "ci", "scopes": ["measure", "read"]}, headers=admin
    )
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    token = made.json()
    assert token["scopes"] == ["read", "measure"]
    lifetime = dt.datetime.fromisoformat(token["expires_at"]) - dt.datetime.fromisoformat(
        token["created_at"]
    )
    assert lifetime == dt.timedelta(days=90)
    assert (await guarded.get("/hosts", headers=bearer(token["token"]))).status_code == 200
    listed = await guarded.get("/tokens?limit=1", headers=admin)
    assert listed.json()["items"] == [{k: v for k, v in token.items() if k != "token"}]
    revoked = await guarded.post(f"/tokens/{token['id']}/revoke", headers=admin)
    assert revoked.json()["revoked_at"] is not None
    refused = await guarded.get("/hosts", headers=bearer(token["token"]))
    check_problem(refused, 401)
    assert "revoked" in refused.json()["detail"]
    check_problem(await guarded.post(f"/tokens/{'0' * 32}/revoke", headers=admin), 404)
    trail = (await guarded.get("/audit?limit=2", headers=admin)).json()["items"]
    assert [each["action"] for each in trail] == ["token.revoke", "token.create"]
    assert all(each["subject"] == token["id"] for each in trail)
    assert all(each["who"].endswith("(admin)") and each["address"] for each in trail)
    written = await guarded.get("/audit?limit=2&since=2020-01-01T00:00:00Z", headers=admin)
    assert written.json()["items"] == trail
    for number in ("0.5", "2026"):
        check_problem(await guarded.get(f"/audit?since={number}", headers=admin), 422)


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["root"]},
        {"name": "", "scopes": ["read"]},
        {"name": "a\nb", "scopes": ["read"]},
        {"name": "x", "scopes": ["read"], "expires_in": "9999999d"},
        {"name": "x", "scopes": ["read"], "expires_in": "0"},
        {"name": "x", "scopes": ["read"], "expires_in": "soon"},
        {"name": "x", "scopes": ["read"], "secret": "mine"},
    ],
)
async def test_a_malformed_token_isnt_made(
    guarded: httpx.AsyncClient, given: dict[str, str], body: dict[str, Any]
) -> None:
    check_problem(await guarded.post("/tokens", json=body, headers=bearer(given["admin"])), 422)


async def test_the_trail_names_who_measured(
    guarded: httpx.AsyncClient, sqlite_worker: Worker, given: dict[str, str]
) -> None:
    measure = bearer(given["measure"])
    accepted = await guarded.get("/lhp?dims=500,600&wait=0", headers=measure)
    await sqlite_worker.take()
    await guarded.post(f"/sweeps/{accepted.json()['id']}/cancel", headers=measure)
    trail = (
        await guarded.get(f"/audit?subject={accepted.json()['id']}", headers=bearer(given["admin"]))
    ).json()["items"]
    assert [each["action"] for each in trail] == ["sweep.cancel", "sweep.create"]
    assert all(each["who"].endswith("(measure)") for each in trail)


async def test_another_process_learns_of_a_revocation(
    guarded: httpx.AsyncClient, sqlite_store: Store, given: dict[str, str]
) -> None:
    services = guarded._transport.app.state.services  # type: ignore[attr-defined]
    token_id = given["read"].split("_", 2)[1]
    sqlite_store.revoke_token(token_id, by=Caller())  # not through this process
    await services.tokens.refresh()  # as it does every second
    check_problem(await guarded.get("/hosts", headers=bearer(given["read"])), 401)


async def test_the_last_use_is_stored_apart_from_the_request(
    guarded: httpx.AsyncClient, sqlite_store: Store, given: dict[str, str]
) -> None:
    assert (await guarded.get("/hosts", headers=bearer(given["read"]))).status_code == 200
    assert {each.last_used_at for each in sqlite_store.list_tokens().items} == {None}
    services = guarded._transport.app.state.services  # type: ignore[attr-defined]
    await services.tokens.store_last_use()  # as it does every minute
    used = [each.name for each in sqlite_store.list_tokens().items if each.last_used_at]
    assert used == ["read"]


async def test_without_tokens_a_service_on_loopback_needs_none(client: httpx.AsyncClient) -> None:
    assert (await client.get("/hosts")).status_code == 200
    # A token for another service does no harm.
    forged = bearer(f"lhp_{'0' * 32}_{'A' * 43}")
    assert (await client.get("/hosts", headers=forged)).status_code == 200
    # But nobody can lock all others out.
    body = {"name": "mine", "scopes": ["admin"]}
    check_problem(await client.post("/tokens", json=body), 409, "lhp tokens bootstrap")


@pytest.mark.parametrize(
    "exposed", [{"listen": "0.0.0.0"}, {"listen": "::"}, {"trusted_proxies": "127.0.0.1"}]
)
async def test_a_service_that_others_reach_needs_a_token_even_if_there_is_none(
    sqlite_worker: Worker, exposed: dict[str, str]
) -> None:
    settings = Settings(database_url="sqlite:///unused", host=HOST, **exposed)  # type: ignore[arg-type]
    async with serving(settings, sqlite_worker) as client:
        check_problem(await client.get("/hosts"), 401)
        assert (await client.get("/healthz")).status_code == 200


async def test_the_end_of_the_last_token_opens_nothing(
    sqlite_worker: Worker, settings: Settings
) -> None:
    token, _ = sqlite_worker.store.create_token("x", [Scope.READ], lifetime_s=None, by=Caller())
    sqlite_worker.store.revoke_token(token.id, by=Caller())
    async with serving(settings, sqlite_worker) as client:
        check_problem(await client.get("/hosts"), 401)


async def test_a_token_that_sends_too_much_is_told_when_to_go_on(
    sqlite_worker: Worker, given: dict[str, str]
) -> None:
    settings = Settings(database_url="sqlite:///unused", host=HOST, rate_limit="3/hour")
    async with serving(settings, sqlite_worker) as client:
        for allowed in (True, True, True, False):
            response = await client.get("/hosts", headers=bearer(given["read"]))
            assert response.status_code == (200 if allowed else 429)
        assert response.json()["type"] == "/problems/too-many-requests"
        assert 1 <= int(response.headers["retry-after"]) <= 3600
        # Others have limits of their own, and so have all without a valid token together.
        assert (await client.get("/hosts", headers=bearer(given["host"]))).status_code == 200
        guesses = [
            await client.get("/hosts", headers=bearer(f"lhp_{each:032}_{'A' * 43}"))
            for each in range(4)
        ]
        assert [each.status_code for each in guesses] == [401, 401, 401, 429]


async def test_whoever_has_no_token_can_t_ask_public_routes_without_end(
    sqlite_worker: Worker, given: dict[str, str]
) -> None:
    settings = Settings(database_url="sqlite:///unused", host=HOST, rate_limit="3/hour")
    async with serving(settings, sqlite_worker) as client:
        asked = [(await client.post("/hosts/join", json={})).status_code for _ in range(4)]
        assert asked == [422, 422, 422, 429]
        # Who has one is told apart from those.
        assert (await client.get("/hosts", headers=bearer(given["read"]))).status_code == 200


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        # The last 64 of 128 bits are a machine's to choose.
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_network_is_one_client(address: str, network: str) -> None:
    assert network_of(address) == network


def test_a_route_that_changes_something_must_name_its_scope() -> None:
    router = APIRouter()
    router.add_api_route("/new", lambda: None, methods=["POST"], name="post_new")
    with pytest.raises(ValueError, match="post_new"):
        find_public(router.routes, open_metrics=False)
