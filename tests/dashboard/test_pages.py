"""What holds for every page."""

from __future__ import annotations

import dataclasses
import re
from urllib.parse import quote

import httpx
import pytest

from profiler_service.access.caller import Caller
from profiler_service.dashboard.rendering import breakable, with_code
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.plan.spec import SweepSpec
from profiler_service.storage.store import HostStatus
from tests.api.conftest import HOST, Worker, keep_curve
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs
from tests.dashboard.conftest import follow, read_page

pytestmark = pytest.mark.anyio

LINE = Grid(axes=(GridAxis(first=4, count=57),))
MARKUP = "<img src=x onerror=alert(1)>\"'&"


@pytest.fixture
def addresses(sqlite_worker: Worker) -> list[str]:
    """Each page of a service that has measured something: with a query where it takes one."""
    store = sqlite_worker.store
    curve = keep_curve(store, square(1, 48), stairs(8))
    line = keep_curve(store, LINE, stairs(4), workload=MATMUL.describe())
    other = keep_curve(store, LINE, stairs(8), workload=MATMUL.describe({"backend": "packed"}))
    sweep = store.get_curve_header(curve).sweep_id
    raced, _ = store.create_sweep(
        SweepSpec(workload=LINEAR.describe(), mode="race", grid=square(5, 12)), host=HOST
    )
    sqlite_worker.finish(raced, stairs(8))
    return [
        "/",
        "/?workload=linear&dims=5,6",
        "/?workload=linear&dims=500,600",
        "/?workload=lstm",
        "/?workload=linear&dims=zero",
        "/ui/curves",
        "/ui/curves?workload=linear",
        f"/ui/curves/{curve}",
        f"/ui/curves/{line}",
        "/ui/compare",
        f"/ui/compare?ids={line}&ids={other}",
        "/ui/history",
        f"/ui/history/canary?dims=5,5&host={HOST}",
        "/ui/hosts",
        f"/ui/hosts/{HOST}",
        "/ui/sweeps",
        f"/ui/sweeps?host={HOST}&state=done",
        f"/ui/sweeps/{sweep}",
        "/ui/sweeps/new",
        "/ui/sweeps/new?workload=lstm",
        "/ui/sign-in",
        "/ui/curves/" + "0" * 32,
    ]


async def test_no_page_names_another_host_or_an_address_that_a_proxy_changes(
    client: httpx.AsyncClient, addresses: list[str]
) -> None:
    for address in addresses:
        reply = await client.get(address)
        assert reply.headers["content-type"] == "text/html; charset=utf-8", address
        for found in read_page(reply.text).addresses():
            assert not re.match(r"[a-z]+:|/", found), (address, found)


async def test_every_address_that_a_page_names_exists(
    client: httpx.AsyncClient, addresses: list[str]
) -> None:
    # Of what isn't in the repository but in a wheel, or comes with the packages.
    seen: set[str] = set()
    for address in addresses:
        page = read_page((await client.get(address)).text)
        for _, has in page.tags:
            for name in ("href", "src", "hx-get", "data-figure", "data-plotly", "data-script"):
                found = follow(has.get(name, ""), address)
                if name not in has or has[name].startswith("#") or found in seen:
                    continue
                seen.add(found)
                assert (await client.get(found)).status_code in (200, 409), (address, found)
    assert len(seen) > 15


async def test_no_page_has_a_script_or_handler_within(
    client: httpx.AsyncClient, addresses: list[str]
) -> None:
    for address in addresses:
        reply = await client.get(address)
        policy = reply.headers["content-security-policy"]
        assert "script-src 'self';" in policy and "default-src 'none'" in policy
        for tag, has in read_page(reply.text).tags:
            assert tag != "script" or has["src"], address
            assert not [name for name in has if name.startswith(("on", "hx-on"))], address


async def test_markup_in_names_is_shown_as_text(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    store = sqlite_worker.store
    platform = dataclasses.replace(PLATFORM, device_model=MARKUP)
    # Names of hosts and labels are checked where they come in; the store takes what it gets.
    store.register_host(MARKUP, platform, protocol=PROTOCOL, dtypes=("float32",))
    store.change_host(MARKUP, labels={MARKUP: MARKUP}, by=Caller())
    curve = keep_curve(store, square(1, 12), stairs(4), host=MARKUP, platform=platform)
    sweep, _ = store.create_sweep(
        SweepSpec(workload=LINEAR.describe(), mode="grid", grid=square(3, 5)), host=MARKUP
    )
    store.fail_sweep(sweep.id, MARKUP)
    for address in (
        "/ui/hosts",
        f"/ui/hosts/{quote(MARKUP)}",
        "/ui/sweeps",
        f"/ui/sweeps/{sweep.id}",
        "/ui/curves",
        f"/ui/curves/{curve}",
        "/",
        "/?workload=<img src=x onerror=alert(1)>&dims=5,6",
        "/?workload=linear&dims=<img src=x onerror=alert(1)>",
    ):
        page = read_page((await client.get(address)).text)
        assert page.find("img", src="x") == [], address
    hosts = read_page((await client.get("/ui/hosts")).text)
    assert hosts.text.count("<img src=x onerror=alert(1)>") >= 3  # name, label and model


@pytest.mark.parametrize(
    ("address", "status", "says"),
    [
        ("/ui/curves/" + "0" * 32, 404, "no curve"),
        ("/ui/sweeps/" + "0" * 32, 404, "no sweep"),
        ("/ui/sweeps?state=asleep", 422, "state"),
        ("/ui/sweeps?hots=here", 422, "did you mean"),
        ("/ui/curves?host=nowhere", 404, "nowhere"),
        ("/ui/elsewhere", 404, "/ui/elsewhere"),
    ],
)
async def test_an_error_is_a_page_that_says_what_to_do(
    client: httpx.AsyncClient, address: str, status: int, says: str
) -> None:
    reply = await client.get(address)
    assert reply.status_code == status
    page = read_page(reply.text)
    assert page.find("nav") and page.find("section", role="alert")
    assert says in page.text


async def test_only_a_curve_that_decides_every_point_counts_its_lhps(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    store = sqlite_worker.store
    decided = keep_curve(store, LINE, stairs(4), workload=MATMUL.describe())
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=square(5, 12))
    raced = sqlite_worker.finish(store.create_sweep(spec, host=HOST)[0], stairs(8))
    for curve, counts in ((decided, True), (raced, False)):
        terms = read_page((await client.get(f"/ui/curves/{curve}")).text).text
        assert ("LHPs" in terms, "Redundancy" in terms) == (counts, counts)
        assert "Samples" in terms


async def test_an_unknown_address_is_a_page_for_browsers_and_a_problem_for_scripts(
    client: httpx.AsyncClient,
) -> None:
    page = await client.get("/nope", headers={"accept": "text/html,*/*;q=0.8"})
    assert page.status_code == 404
    assert "there is no page /nope" in page.text and 'ui/curves"' in page.text
    for accept in ("*/*", "application/json"):
        problem = await client.get("/nope", headers={"accept": accept})
        assert problem.status_code == 404
        assert problem.json()["type"] == "/problems/unknown-address"


async def test_ui_leads_to_the_first_page(client: httpx.AsyncClient) -> None:
    for address in ("/ui", "/ui/"):
        reply = await client.get(address, follow_redirects=True)
        assert (reply.status_code, reply.url.path) == (200, "/"), address


async def test_a_part_of_a_page_that_fails_is_a_part(client: httpx.AsyncClient) -> None:
    reply = await client.get("/ui/sweeps/" + "0" * 32, headers={"hx-request": "true"})
    assert reply.status_code == 404
    page = read_page(reply.text)
    assert page.find("section", role="alert") and not page.find("nav")


async def test_an_operator_drains_labels_and_removes_a_host(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    store = sqlite_worker.store

    async def send(form: dict[str, str]) -> httpx.Response:
        return await client.post(f"/ui/hosts/{HOST}", data=form)

    reply = await send({"status": "draining"})
    assert (reply.status_code, reply.headers["location"]) == (303, "../hosts")
    assert store.get_host(HOST).status is HostStatus.DRAINING
    assert "draining" in (await client.get("/ui/hosts")).text
    await send({"labels": "pool=train rack=4 "})
    assert dict(store.get_host(HOST).labels) == {"pool": "train", "rack": "4"}
    refused = await send({"labels": "pool"})
    assert refused.status_code == 422 and "NAME=VALUE" in refused.text
    assert dict(store.get_host(HOST).labels) == {"pool": "train", "rack": "4"}
    # A button of another host's row does nothing here.
    assert (await send({"remove": "other"})).status_code == 422
    assert store.get_host(HOST).status is HostStatus.DRAINING
    await send({"remove": HOST})
    assert store.get_host(HOST).status is HostStatus.RETIRED
    assert "No host has joined yet" in (await client.get("/ui/hosts")).text


def test_what_stands_between_backticks_is_code_and_nothing_else_is_markup() -> None:
    assert with_code("see `lhp doctor`") == "see <code>lhp doctor</code>"
    assert with_code("a ` alone") == "a ` alone"
    assert with_code("`<b>` & <img>") == "<code>&lt;b&gt;</code> &amp; &lt;img&gt;"


def test_keys_of_workloads_may_be_broken_after_commas() -> None:
    assert breakable("m[a=1,b=<]") == "m<wbr>[a=1,<wbr>b=&lt;]"
