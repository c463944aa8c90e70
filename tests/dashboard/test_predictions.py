"""Predictions on the page that asks, and what the page of a host says that it has learned."""

from __future__ import annotations

import httpx
import pytest

from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope
from profiler_service.dashboard.ask import describe_again
from profiler_service.dashboard.predictions import describe_prediction
from profiler_service.settings import Settings
from tests.api.conftest import HOST, Worker, keep_curve, serving
from tests.api.curves import square, stairs
from tests.api.learned import score, teach
from tests.cli.predicted import PREDICTED
from tests.dashboard.conftest import follow, read_page
from tests.plots.reading import traces

pytestmark = pytest.mark.anyio

PART = {"hx-request": "true"}
ASKED = "/?workload=linear&dims=101&dims=203"


def plain(text: str) -> str:
    """The page's text, without spaces that keep a number and its unit together."""
    return read_page(text).text.replace("\N{NO-BREAK SPACE}", " ")


async def test_the_form_offers_the_basis_and_measures_by_default(
    client: httpx.AsyncClient,
) -> None:
    page = read_page((await client.get("/")).text)
    [measured] = page.find("input", name="basis", value="measured")
    [predicted] = page.find("input", name="basis", value="predicted")
    assert "checked" in measured and "checked" not in predicted
    page = read_page((await client.get(f"{ASKED}&basis=any")).text)
    [chosen] = page.find("input", name="basis", value="any")
    assert "checked" in chosen


async def test_a_prediction_is_marked_as_one(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store)
    score(sqlite_worker.store, 30)
    response = await client.get(f"{ASKED}&basis=predicted")
    assert response.status_code == 200
    page = read_page(response.text)
    assert "predicted, not measured" in page.text
    assert page.find("span", **{"class": "pill predicted"})
    # 0.0732 in log: 7.6 % faster.
    assert "Leading: 104 × 208, 7." in page.text
    assert "97 % probability" in page.text.replace("\xa0", " ")
    assert "Use 104" not in page.text and "Measured" not in page.text
    assert "It rests on 1 sweep of this host's platform." in page.text
    [figure] = [has["data-figure"] for has in page.find("div") if "data-figure" in has]
    drawn = (await client.get(follow(figure, "/"))).json()
    assert "predicted" in traces(drawn)
    assert drawn["layout"]["title"]["text"].startswith("Predicted: 104 × 208 is 7.")
    assert not page.find("section", id="measuring")
    [link] = [has["href"] for has in page.find("a", **{"class": "button"})]
    assert "basis" not in link and "dims=101,203" in link
    assert "--basis predicted" in page.text
    assert "client.predict_lhp(" in page.text
    assert sqlite_worker.handed_in.empty()


async def test_what_isnt_believed_says_why(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store)
    page = read_page((await client.get(f"{ASKED}&basis=predicted")).text)
    assert "Keep 101 × 203; 104 × 208 leads" in page.text
    assert "uncalibrated: 0 earlier predictions" in page.text
    nothing = read_page((await client.get(f"{ASKED}&basis=predicted&dtype=bfloat16")).text)
    assert "Keep 101 × 203: nothing was learned of it yet" in nothing.text
    assert not [has for has in nothing.find("div") if "data-figure" in has]


async def test_any_basis_shows_the_prediction_until_it_is_measured(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store)
    score(sqlite_worker.store, 30)
    page = read_page((await client.get(f"{ASKED}&basis=any")).text)
    assert "Leading: 104 × 208" in page.text
    # A link measures nothing; without JavaScript, a button does.
    assert page.find("section", id="measuring")
    assert sqlite_worker.handed_in.empty()
    [button] = page.find("form", method="post")
    address = follow(button["action"], "/")
    response = await client.post(address, headers=PART)
    sweep = await sqlite_worker.take()
    assert "Leading: 104 × 208" in plain(response.text)
    assert "Measuring on here" in response.text
    assert response.headers["hx-retarget"] == "#outcome"
    sqlite_worker.finish(sweep, stairs(32))
    answered = plain((await client.post(address, headers=PART)).text)
    assert "Use 128 × 224" in answered and "Leading" not in answered
    known = plain((await client.get(f"{ASKED}&basis=any")).text)
    assert "Use 128 × 224" in known and "predicted, not measured" not in known


async def test_an_error_beside_a_prediction_leaves_it(
    anyio_backend: str, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store)
    settings = Settings(database_url="sqlite:///unused", host=HOST, max_queued=1)
    async with serving(settings, sqlite_worker) as client:
        assert (await client.get("/lhp?dims=300,300&wait=0")).status_code == 202
        full = await client.post("/ui/ask?workload=linear&dims=101,203&basis=any", headers=PART)
        assert full.status_code == 429
        assert "hx-retarget" not in full.headers
        known = await client.post("/ui/ask?workload=linear&dims=101,203&basis=predicted")
        assert known.status_code == 422 and "not measured" in known.text


async def test_reading_is_enough_for_a_prediction(sqlite_worker: Worker) -> None:
    teach(sqlite_worker.store)
    _, reads = sqlite_worker.store.create_token("reads", [Scope.READ], lifetime_s=None, by=Caller())
    settings = Settings(database_url="sqlite:///unused", host=HOST)
    async with serving(settings, sqlite_worker) as client:
        client.headers["authorization"] = f"Bearer {reads}"
        page = read_page((await client.get(f"{ASKED}&basis=any")).text)
        assert "104 × 208 leads" in page.text
        assert "scope measure" in page.text
        assert not page.find("form", method="post", action="./ui/ask")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("basis=guessed", "basis"),
        ("basis=predicted&effort=thorough", "effort"),
        ("basis=any&platforms=all", "platforms"),
        ("unproven=move", "unproven"),
    ],
)
async def test_what_makes_no_sense_is_an_error_in_the_form(
    client: httpx.AsyncClient, params: str, said: str
) -> None:
    response = await client.get(f"{ASKED}&{params}")
    assert response.status_code == 422
    page = read_page(response.text)
    assert said in page.text
    assert [has["value"] for has in page.find("input", name="dims")] == ["101", "203"]


async def test_a_host_says_what_it_has_learned(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    page = read_page((await client.get(f"/ui/hosts/{HOST}")).text)
    assert "What this host has learned" in page.text
    assert "Nothing yet." in page.text
    teach(sqlite_worker.store)
    score(sqlite_worker.store, 29)
    page = read_page((await client.get(f"/ui/hosts/{HOST}")).text)
    assert "linear[backend=dense,batch=16,dtype=float32]" in page.text
    assert "2,000" in page.text
    assert "uncalibrated" in page.text and "29 predictions compared" in page.text
    # Each was off by 0.5 %, which ± 1 % held.
    score(sqlite_worker.store, 2, half_width=0.01)
    page = read_page((await client.get(f"/ui/hosts/{HOST}")).text)
    assert "calibrated" in page.text and "0 of 2 missed" in page.text


def test_how_to_ask_again_names_the_method_of_the_basis() -> None:
    given = {"dims": "101,203", "workload": "linear"}
    base = "http://127.0.0.1:8000/"
    measured = describe_again({**given, "basis": "measured"}, base_url=base)
    assert "client.ask_lhp({'dims': '101,203'" in measured.python
    found = describe_again({**given, "basis": "any", "unproven": "move"}, base_url=base)
    assert "client.find_lhp({'dims': '101,203', 'workload': 'linear', 'unproven': 'move'})" in (
        found.python
    )
    assert "--basis any --unproven move" in found.command


def test_sentences_never_tell_to_use_what_is_predicted() -> None:
    moved = describe_prediction(PREDICTED)
    assert moved.title == "Leading: 1200 × 320, 3.1 % faster"
    assert moved.lead == "95 % interval 1.9 to 4.2 %. No slower with 97 % probability."
    assert moved.basis == (
        "It rests on 54 sweeps of this host's platform. 31 of 32 earlier predictions held."
    )
    kept = PREDICTED.model_copy(
        update={"lhp": [1197, 317], "speedup_interval": None, "probability": None}
    )
    assert "isn't believed" in describe_prediction(kept).lead
    best = PREDICTED.model_copy(update={"candidate": [1197, 317], "lhp": [1197, 317]})
    assert describe_prediction(best).title.startswith("Keep 1197 × 317: nothing larger")


async def test_a_measured_answer_stays_as_it_was(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_curve(sqlite_worker.store, square(96, 144), stairs(32))
    page = read_page((await client.get("/?dims=100,100&basis=measured")).text)
    assert "Use 128 × 128" in page.text and "predicted, not" not in page.text
