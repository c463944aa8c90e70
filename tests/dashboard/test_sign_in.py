"""A browser signs in with a token, and sees what its scope allows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope
from profiler_service.dashboard.app import ROUTERS
from profiler_service.settings import Settings
from profiler_service.storage.store import HostStatus, Store
from tests.api.conftest import HOST, Worker, keep_curve, serving
from tests.api.curves import square, stairs
from tests.dashboard.conftest import follow, read_page

pytestmark = pytest.mark.anyio

PUBLIC = ("/ui/sign-in", "/ui/sign-out", "/ui/database")


@pytest.fixture
def tokens(sqlite_store: Store) -> dict[Scope, str]:
    """A token of each scope, named after it. A service knows those that there are at its start."""
    return {
        scope: sqlite_store.create_token(f"{scope} token", [scope], lifetime_s=None, by=Caller())[1]
        for scope in Scope
    }


@pytest.fixture
async def guarded(
    anyio_backend: str, sqlite_worker: Worker, tokens: dict[Scope, str]
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that has tokens, and one curve."""
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    settings = Settings(database_url="sqlite:///unused", host=HOST, rate_limit="")
    async with serving(settings, sqlite_worker) as client:
        yield client


async def sign_in(
    client: httpx.AsyncClient, token: str, address: str = "ui/sign-in"
) -> httpx.Response:
    return await client.post(f"/{address}", data={"token": token})


async def test_a_page_sends_to_the_form_and_the_form_sends_back(
    guarded: httpx.AsyncClient, tokens: dict[Scope, str]
) -> None:
    wanted = "/ui/curves?workload=linear&host=here"
    sent = await guarded.get(wanted)
    assert sent.status_code == 303
    form = follow(sent.headers["location"], wanted)
    assert form.startswith("/ui/sign-in?next=")
    page = read_page((await guarded.get(form)).text)
    [action] = [has["action"] for has in page.find("form", method="post")]
    token = tokens[Scope.READ]
    reply = await guarded.post(follow(action, form), data={"token": f" {token}\n"})
    assert reply.status_code == 303
    cookie = reply.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert follow(reply.headers["location"], form) == wanted
    shown = await guarded.get(wanted)  # the client keeps cookies, as a browser does
    assert shown.status_code == 200 and "read token" in shown.text
    # The pages' scripts read data with it, too.
    assert (await guarded.get("/curves")).status_code == 200


async def test_a_cookie_is_secure_behind_tls(
    guarded: httpx.AsyncClient, tokens: dict[Scope, str]
) -> None:
    token = tokens[Scope.READ]
    plain = await sign_in(guarded, token)
    assert "secure" not in plain.headers["set-cookie"].lower()
    guarded.base_url = httpx.URL("https://service")
    assert "secure" in (await sign_in(guarded, token)).headers["set-cookie"].lower()


@pytest.mark.parametrize("token", ["", "nonsense", f"lhp_{'0' * 32}_{'A' * 43}", "\N{SNOWMAN}"])
async def test_what_is_no_token_is_refused_and_not_kept(
    guarded: httpx.AsyncClient, token: str
) -> None:
    reply = await sign_in(guarded, token)
    assert reply.status_code == 401
    assert "set-cookie" not in reply.headers
    assert read_page(reply.text).find("p", role="alert")


@pytest.mark.parametrize(
    "elsewhere",
    ["https://example.org/", "//example.org", "/\\example.org", "javascript:alert(1)", "/a\nb"],
)
async def test_the_form_leads_to_no_other_site(
    guarded: httpx.AsyncClient, tokens: dict[Scope, str], elsewhere: str
) -> None:
    token = tokens[Scope.READ]
    reply = await guarded.post("/ui/sign-in", params={"next": elsewhere}, data={"token": token})
    assert reply.headers["location"] == "../"


async def test_a_token_that_is_revoked_ends_the_session(
    guarded: httpx.AsyncClient, tokens: dict[Scope, str]
) -> None:
    admin = tokens[Scope.ADMIN]
    made = await guarded.post(
        "/tokens",
        json={"name": "short", "scopes": ["read"]},
        headers={"authorization": f"Bearer {admin}"},
    )
    await sign_in(guarded, made.json()["token"])
    assert (await guarded.get("/ui/hosts")).status_code == 200
    revoked = await guarded.post(
        f"/tokens/{made.json()['id']}/revoke", headers={"authorization": f"Bearer {admin}"}
    )
    assert revoked.status_code == 200
    assert (await guarded.get("/ui/hosts")).status_code == 303
    # A part of a page isn't replaced by the form: the whole page goes there.
    part = await guarded.get("/ui/hosts", headers={"hx-request": "true"})
    assert part.headers["hx-redirect"].startswith("../ui/sign-in")


async def test_signing_out_forgets_the_token(
    guarded: httpx.AsyncClient, tokens: dict[Scope, str]
) -> None:
    await sign_in(guarded, tokens[Scope.READ])
    reply = await guarded.post("/ui/sign-out")
    assert follow(reply.headers["location"], "/ui/sign-out") == "/ui/sign-in"
    assert (await guarded.get("/ui/hosts")).status_code == 303


async def test_every_page_needs_a_token(guarded: httpx.AsyncClient) -> None:
    walked = 0
    for router in ROUTERS:
        for route in router.routes:
            path = route.path.replace(":host}", "}")
            for method in route.methods:
                if path.startswith(PUBLIC) or path.endswith((".js", ".css")):
                    continue
                reply = await guarded.request(method, path.replace("{", "").replace("}", ""))
                assert reply.status_code == (303 if method == "GET" else 401), path
                walked += 1
    assert walked >= 10


async def test_who_isnt_signed_in_learns_that_the_database_is_away_and_no_more(
    guarded: httpx.AsyncClient, tokens: dict[Scope, str], sqlite_url: str
) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    path.rename(path.with_name("elsewhere"))
    told = await guarded.get("/ui/database")
    assert told.status_code == 200
    assert "The database is away" in told.text and str(path.parent) not in told.text
    bearer = {"authorization": f"Bearer {tokens[Scope.READ]}"}
    assert str(path.parent) in (await guarded.get("/ui/database", headers=bearer)).text


async def test_what_changes_something_is_refused_from_another_site(
    guarded: httpx.AsyncClient, tokens: dict[Scope, str], sqlite_store: Store
) -> None:
    await sign_in(guarded, tokens[Scope.ADMIN])
    for header in ({"origin": "https://example.org"}, {"sec-fetch-site": "cross-site"}):
        reply = await guarded.post(f"/ui/hosts/{HOST}", data={"status": "draining"}, headers=header)
        assert reply.status_code == 403
    assert sqlite_store.get_host(HOST).status is HostStatus.APPROVED
    own = {"origin": "http://service", "sec-fetch-site": "same-origin"}
    reply = await guarded.post(f"/ui/hosts/{HOST}", data={"status": "draining"}, headers=own)
    assert reply.status_code == 303


async def test_who_may_only_read_sees_no_buttons_and_changes_nothing(
    guarded: httpx.AsyncClient, tokens: dict[Scope, str], sqlite_store: Store, sqlite_worker: Worker
) -> None:
    await sign_in(guarded, tokens[Scope.READ])
    hosts = read_page((await guarded.get("/ui/hosts")).text)
    assert not hosts.find("form", action=f"../ui/hosts/{HOST}")
    unknown = await guarded.get("/?dims=500,600")
    assert "needs a token with the scope measure" in " ".join(read_page(unknown.text).text.split())
    for address in ("/", "/ui/curves", "/ui/sweeps"):
        assert "Measure a curve" not in (await guarded.get(address)).text
    assert (await guarded.get("/ui/sweeps/new")).status_code == 403
    for address in (f"/ui/hosts/{HOST}", "/ui/ask?dims=500,600", "/ui/sweeps/new"):
        reply = await guarded.post(address, data={"status": "draining"})
        assert reply.status_code == 403
        assert read_page(reply.text).find("section", role="alert")
    assert sqlite_store.get_host(HOST).status is HostStatus.APPROVED
    assert sqlite_worker.handed_in.empty()
