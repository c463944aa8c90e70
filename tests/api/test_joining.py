"""Join keys and joining over HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope
from profiler_service.answering.joining import check_reachable, database_url_of
from profiler_service.answering.resources import platform_info
from profiler_service.errors import ConflictError
from profiler_service.settings import Settings
from profiler_service.storage.store import HostStatus, Joined, Store
from tests.api.conftest import HOST, Worker, check_problem, serving
from tests.api.curves import PLATFORM, PROTOCOL
from tests.storage.examples import create_host

pytestmark = pytest.mark.anyio


def request(key: str, **changes: Any) -> dict[str, Any]:
    return {
        "key": key,
        "name": "node7",
        "machine": "m1",
        "node": "node7.example",
        "platform": platform_info(PLATFORM).model_dump(),
        "protocol": PROTOCOL.key,
        "dtypes": ["float32"],
        "backends": {"dense": ["float32"]},
        "findings": {},
        **changes,
    }


@contextlib.asynccontextmanager
async def serving_operator(settings: Settings, store: Store) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running service, which sends the token of an operator."""
    _, token = store.create_token("ops", [Scope.ADMIN], lifetime_s=None, by=Caller())
    async with serving(settings, Worker(store)) as client:
        client.headers["authorization"] = f"Bearer {token}"
        yield client


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_key_makes_a_host_that_gets_the_database_s_address_when_it_may_measure(
    store: Store, database_url: str
) -> None:
    settings = Settings(
        database_url=database_url, host=HOST, join_database="postgresql://db.example:6432/lhp"
    )
    async with serving_operator(settings, store) as client:
        made = await client.post("/hosts/keys", json={"name": "gpu-a", "labels": {"a": "b"}})
        assert made.status_code == 201, made.text
        assert made.headers["cache-control"] == "no-store"
        asked = request(made.json()["key"])
        waiting = (await client.post("/hosts/join", json=asked)).json()
        assert (waiting["host"]["state"], waiting["database_url"]) == ("pending", "")
        await client.patch("/hosts/gpu-a", json={"status": "approved"})
        response = await client.post("/hosts/join", json=asked)
        assert response.headers["cache-control"] == "no-store"
        joined = response.json()
        assert (joined["host"]["state"], joined["host"]["labels"]) == ("approved", {"a": "b"})
        url = sa.make_url(joined["database_url"])
        assert (url.host, url.port, url.database) == ("db.example", 6432, "lhp")
        assert (url.username or "").startswith("lhp_host_") and url.password
        used = await client.post("/hosts/join", json=request(made.json()["key"], machine="m2"))
        check_problem(used, 403, "lhp hosts add")
        assert used.json()["type"] == "/problems/join-key-refused"
        other = await client.post("/hosts/keys", json={"name": "gpu-a"})
        taken = await client.post("/hosts/join", json=request(other.json()["key"], machine="m2"))
        check_problem(taken, 409, "lhp hosts rm gpu-a")
        trail = (await client.get("/audit?action=host.join.refused")).json()["items"]
        assert [each["details"]["key"] for each in trail] == [other.json()["id"], made.json()["id"]]
        assert {(each["subject"], each["address"]) for each in trail} == {("gpu-a", "127.0.0.1")}


async def test_without_postgresql_there_are_no_keys(client: httpx.AsyncClient) -> None:
    check_problem(await client.post("/hosts/keys", json={}), 409, "postgresql://")
    check_problem(await client.post("/hosts/join", json=request("x")), 409, "postgresql://")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_as_long_as_there_is_no_token_there_are_no_keys(
    store: Store, database_url: str
) -> None:
    settings = Settings(database_url=database_url, host=HOST)
    async with serving(settings, Worker(store)) as client:
        check_problem(await client.post("/hosts/keys", json={}), 409, "lhp tokens bootstrap")
    assert store.list_join_keys().items == []


@pytest.mark.parametrize("machine", ["m 1", "m\u0000", "m/1"])
async def test_a_machine_s_identity_is_one_word(client: httpx.AsyncClient, machine: str) -> None:
    check_problem(await client.post("/hosts/join", json=request("x", machine=machine)), 422)


def test_a_host_gets_none_of_the_service_s_own_secrets() -> None:
    settings = Settings(
        database_url="postgresql://lhp:one@db.example/lhp?sslmode=require&password=two"
        "&sslpassword=three&sslkey=four&passfile=five&user=six"
    )
    host = create_host(status=HostStatus.APPROVED, silent_s=0)
    url = database_url_of(Joined(host=host, role="lhp_host_1", password="its"), settings)
    assert url == "postgresql://lhp_host_1:its@db.example/lhp?sslmode=require"


@pytest.mark.parametrize("status", [HostStatus.PENDING, HostStatus.QUARANTINED, HostStatus.RETIRED])
def test_only_a_host_that_is_let_in_gets_the_database_s_address(status: HostStatus) -> None:
    settings = Settings(database_url="postgresql://db.example/lhp")
    host = create_host(status=status, silent_s=0)
    joined = Joined(host=host, role="lhp_host_1", password="its")
    assert database_url_of(joined, settings) == ""


async def test_a_platform_that_isn_t_its_key_is_refused(client: httpx.AsyncClient) -> None:
    platform = platform_info(PLATFORM).model_dump() | {"threads": 99}
    response = await client.post("/hosts/join", json=request("x", platform=platform))
    check_problem(response, 422)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_keys_are_listed_without_their_texts_and_revoked(
    store: Store, database_url: str
) -> None:
    settings = Settings(database_url=database_url, host=HOST)
    async with serving_operator(settings, store) as client:
        body = {"name": "gpu-a", "labels": {"a": "b"}, "reusable": True}
        made = (await client.post("/hosts/keys", json=body)).json()
        listing = await client.get("/hosts/keys")
        [listed] = listing.json()["items"]
        secret = made["key"].split("_", 3)[3]
        assert secret not in listing.text
        assert {name: listed[name] for name in body} == body
        assert (listed["id"], listed["used_by"], listed["revoked_at"]) == (made["id"], None, None)
        revoked = await client.delete(f"/hosts/keys/{made['id']}")
        assert revoked.json()["revoked_at"] is not None
        check_problem(await client.post("/hosts/join", json=request(made["key"])), 403, "hosts add")
        check_problem(await client.delete(f"/hosts/keys/{'0' * 32}"), 404, "lhp hosts keys")
        trail = (await client.get(f"/audit?subject={made['id']}")).json()["items"]
        assert [each["action"] for each in trail] == ["host.key.revoke", "host.key"]
        assert {each["details"]["name"] for each in trail} == {"gpu-a"}


async def test_what_stands_beside_the_hosts_is_no_host(client: httpx.AsyncClient) -> None:
    assert (await client.get("/hosts/keys")).json() == {"items": [], "next_cursor": None}
    for method in ("PATCH", "DELETE"):
        assert (await client.request(method, "/hosts/keys")).status_code == 405
    check_problem(await client.get("/hosts/keys2"), 404)
    assert (await client.get("/hosts/join")).status_code == 405


@pytest.mark.parametrize(
    ("database_url", "join_database", "address"),
    [
        ("postgresql://lhp@localhost/lhp", "", "192.0.2.7"),
        ("postgresql://lhp@/lhp?host=/run/postgresql", "", "192.0.2.7"),
        ("postgresql://lhp@db.example/lhp", "postgresql://127.0.0.1/lhp", "2001:db8::7"),
    ],
)
def test_another_machine_isn_t_sent_to_its_own_loopback(
    database_url: str, join_database: str, address: str
) -> None:
    settings = Settings(database_url=database_url, join_database=join_database)
    with pytest.raises(ConflictError, match=address) as refusal:
        check_reachable(settings, address)
    assert "LHP_JOIN_DATABASE" in refusal.value.hint
    check_reachable(settings, "127.0.0.1")


@pytest.mark.parametrize(
    ("database_url", "join_database"),
    [
        ("postgresql://lhp@db.example/lhp", ""),
        ("postgresql://lhp@localhost/lhp", "postgresql://db.example/lhp"),
        ("sqlite:////data/lhp.sqlite", ""),
    ],
)
def test_a_database_that_others_reach_lets_them_join(database_url: str, join_database: str) -> None:
    settings = Settings(database_url=database_url, join_database=join_database)
    check_reachable(settings, "192.0.2.7")
