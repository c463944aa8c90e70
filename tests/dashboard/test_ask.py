"""The page that asks a question."""

from __future__ import annotations

import asyncio
import datetime as dt

import httpx
import pytest

from profiler_service.answering.own_worker import OwnWorker, WorkerState
from profiler_service.app import create_app
from profiler_service.dashboard.ask import describe_again
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import CALLABLE
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from profiler_service.workload import Dims
from tests.api.conftest import Worker, keep_curve
from tests.api.curves import square, stairs
from tests.dashboard.conftest import follow, read_page

pytestmark = pytest.mark.anyio

PART = {"hx-request": "true"}


async def test_the_form_knows_the_workload(client: httpx.AsyncClient) -> None:
    page = read_page((await client.get("/?workload=lstm")).text)
    assert len(page.find("input", name="dims")) == 2  # hidden_size and input_size
    assert page.find("input", name="steps")
    assert page.find("input", type="radio", name="prefer", value="nearest")
    assert "hidden_size" in page.text
    # What a caveat of an answer may advise can be chosen; and what phones offer can type `0.9`.
    assert page.find("input", type="radio", name="effort", value="thorough")
    [steps] = page.find("input", name="steps")
    linear = read_page((await client.get("/?workload=linear")).text)
    [sparsity] = linear.find("input", name="sparsity")
    assert (steps["inputmode"], sparsity["inputmode"]) == ("numeric", "decimal")


async def test_a_known_answer_is_shown_with_how_to_ask_again(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    curve = keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    # A form sends a field for each axis, and those that were left empty.
    text = (await client.get("/?workload=linear&dims=5&dims=6&batch=&multiple_of=")).text
    page = read_page(text)
    # 2 ms + 11 µs at 5 × 6, 1 ms + 16 µs at 8 × 8: 1.979 times as fast.
    assert "Use 8 × 8: 1.98 × as fast" in page.text
    assert "Grow out_features by 3 and in_features by 2." in page.text
    assert "lhp query 5,6 --url http://service --workload linear" in page.text
    [figure] = [has["data-figure"] for has in page.find("div") if "data-figure" in has]
    assert follow(figure, "/").startswith(f"/ui/curves/{curve}/figure?asked=5,6")
    assert sqlite_worker.handed_in.empty()
    # What was given stays in the form.
    assert [has["value"] for has in page.find("input", name="dims")] == ["5", "6"]


async def test_an_answer_says_why_if_kernels_are_known(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    curve = keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    names: dict[Dims, str] = {(5, 6): "matmul <jit>", (8, 8): "matmul brg"}
    sqlite_worker.store.keep_kernel_names(curve, names)
    text = (await client.get("/?workload=linear&dims=5&dims=6")).text
    page = read_page(text)
    assert "Why: the kernel isn't the same: 5,6 takes matmul <jit>; 8,8 takes" in page.text
    assert "<jit>" not in text
    other = read_page((await client.get("/?workload=linear&dims=7&dims=6")).text)
    assert "Use 8 × 8" in other.text
    assert "Why:" not in other.text


async def test_own_code_is_shown_and_never_measured(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    given = {"function": "m:build", "source": "0123456789ab", "vary": "hidden", "layers": "6"}
    workload = CALLABLE.describe(given)
    grid = Grid(axes=(GridAxis(first=100, count=33),))
    keep_curve(sqlite_worker.store, grid, stairs(8), workload=workload)
    asked = {"workload": "callable", **given}
    known = read_page((await client.get("/", params={**asked, "dims": "100"})).text)
    assert "Use 104" in known.text
    # The form has the arguments that were named, so that other dims can be asked for.
    assert [has["value"] for has in known.find("input", name="dims")] == ["100"]
    assert [has["value"] for has in known.find("input", name="layers")] == ["6"]
    response = await client.get("/", params={**asked, "dims": "500"})
    unknown = read_page(response.text)
    assert response.status_code == 422
    assert "lhp query --callable m:build hidden=500 --param layers=6" in unknown.text
    assert "Measure now" not in unknown.text
    assert sqlite_worker.handed_in.empty()


async def test_a_link_starts_no_measurement(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    for headers in ({}, {"sec-fetch-site": "cross-site"}):
        page = read_page((await client.get("/?dims=500,600", headers=headers)).text)
        begins = [has for has in page.find("section") if "hx-post" in has]
        # The page itself then asks for it, unless another site has led here.
        assert bool(begins) == (not headers)
        assert page.find("form", method="post")
    assert sqlite_worker.handed_in.empty()


async def test_a_question_is_measured_and_its_progress_shown(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    page = read_page((await client.get("/?workload=linear&dims=21,22")).text)
    [address] = [follow(has["hx-post"], "/") for has in page.find("section") if "hx-post" in has]
    asking = asyncio.create_task(client.post(address, headers=PART))
    sweep = await sqlite_worker.take(asking)
    progress = read_page((await asking).text)
    assert progress.find("progress") and not progress.find("nav")
    [again] = [follow(has["hx-post"], "/") for has in progress.find("section")]
    assert again == address
    sqlite_worker.finish(sweep, stairs(8))
    answer = await client.post(again, headers=PART)
    assert "Use 24 × 24" in read_page(answer.text).text
    # The page's address from now on: it shows the same.
    [link] = [
        has["data-address"]
        for has in read_page(answer.text).find("section")
        if "data-address" in has
    ]
    assert "Use 24 × 24" in (await client.get(f"/{link}")).text


async def test_what_must_be_fresh_is_measured_once(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    page = read_page((await client.get("/?workload=linear&dims=5,6&max_age=0")).text)
    [address] = [follow(has["hx-post"], "/") for has in page.find("section") if "hx-post" in has]
    asking = asyncio.create_task(client.post(address, headers=PART))
    sweep = await sqlite_worker.take(asking)
    progress = read_page((await asking).text)
    sqlite_worker.finish(sweep, stairs(4), measured_at=dt.datetime.now(dt.UTC))
    [again] = [follow(has["hx-post"], "/") for has in progress.find("section")]
    answer = await client.post(again, headers=PART)
    # The curve from before is a year old.
    assert "Use 8 × 8" in answer.text and "just now" in answer.text
    assert sqlite_worker.handed_in.empty()


async def test_without_scripts_the_button_leads_back_to_the_page(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    reply = await client.post("/ui/ask?workload=linear&dims=21,22")
    assert reply.status_code == 303
    there = follow(reply.headers["location"], "/ui/ask")
    assert there.startswith("/?workload=linear&dims=21,22&begun=")
    await sqlite_worker.take()


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("workload=linear&dims=5", 422, "2"),
        ("workload=linear&dims=0,6", 422, "1"),
        ("workload=linear&dims=5,6&host=nowhere", 404, "nowhere"),
        ("workload=nothing&dims=5,6", 404, "nothing"),
        ("workload=linear&dims=5,6&prefer=best", 422, "prefer"),
        ("workload=linear&dims=5,6&batch=many", 422, "batch"),
    ],
)
async def test_the_form_keeps_its_values_and_says_what_is_wrong(
    client: httpx.AsyncClient, query: str, status: int, says: str
) -> None:
    reply = await client.get(f"/?{query}")
    assert reply.status_code == status
    page = read_page(reply.text)
    assert page.find("section", role="alert") and says in page.text
    assert page.find("input", name="dims")[-1]["value"] in ("6", "")


def test_the_same_question_from_elsewhere() -> None:
    again = describe_again(
        {"dims": "1197,317", "workload": "lstm", "steps": "35", "max_growth": "0.5", "wait": "9"},
        base_url="http://here:8100/",
    )
    assert again.link == "?dims=1197,317&workload=lstm&steps=35&max_growth=0.5"
    assert again.command == (
        "lhp query 1197,317 --url http://here:8100 --workload lstm --param steps=35"
        " --max-growth 0.5"
    )
    assert again.curl == (
        "curl 'http://here:8100/lhp?dims=1197,317&workload=lstm&steps=35&max_growth=0.5'"
    )
    compile(again.python, "shown", "exec")
    assert "{'dims': '1197,317', 'workload': 'lstm', 'steps': '35', 'max_growth': '0.5'}" in (
        again.python
    )


async def test_a_service_that_knows_its_path_names_it(
    settings: Settings, sqlite_worker: Worker
) -> None:
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    app = create_app(settings, store=sqlite_worker.store, enqueue=sqlite_worker.enqueue)
    # As a server with LHP_ROOT_PATH hands requests over.
    transport = httpx.ASGITransport(app, root_path="/tools/lhp")
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://proxy/tools/lhp/") as client,
    ):
        text = read_page((await client.get("?workload=linear&dims=5,6")).text).text
        assert "--url http://proxy/tools/lhp " in text
        assert "curl 'http://proxy/tools/lhp/lhp?workload=linear&dims=5,6'" in text
        assert "ServiceClient('http://proxy/tools/lhp')" in text
        # A part that the page at / shows has addresses as seen from there.
        part = await client.post("ui/ask?workload=linear&dims=5,6", headers=PART)
        assert {each[:2] for each in read_page(part.text).addresses()} == {"./"}


def test_a_value_with_quotes_can_be_pasted() -> None:
    again = describe_again({"dims": "5,6", "label": "a'; rm -rf"}, base_url="http://here/")
    # shlex writes a quote within quotes as '"'"'.
    assert again.command == "lhp query 5,6 --url http://here --label 'a'\"'\"'; rm -rf'"
    compile(again.python, "shown", "exec")


@pytest.mark.parametrize(("state", "waits"), [("starting", True), ("unable", False)])
async def test_a_question_waits_for_a_worker_that_is_starting_and_for_no_other(
    settings: Settings, sqlite_store: Store, state: WorkerState, waits: bool
) -> None:
    now = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    worker = OwnWorker(state=state, since=now, reason="no CUDA device", next_try_at=now)
    app = create_app(
        settings, store=sqlite_store, enqueue=lambda sweep: None, own_worker=lambda: worker
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
    ):
        part = await client.post("/ui/ask?dims=5,6", headers=PART)
        again = [has["hx-post"] for has in read_page(part.text).find("section") if "hx-post" in has]
        assert (part.status_code, len(again)) == ((200, 1) if waits else (503, 0))
        assert ("is starting since 2026-01-02" in part.text) == waits
        assert ("no CUDA device" in part.text) != waits
        if waits:
            repeated = await client.post(follow(again[0], "/"), headers=PART)
            assert "is starting" in repeated.text
        # Without JavaScript, nothing asks again: that is an error.
        assert (await client.post("/ui/ask?dims=5,6")).status_code == 503
