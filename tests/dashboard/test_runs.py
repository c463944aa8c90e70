"""The pages of training runs."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope
from profiler_service.settings import Settings
from tests.api.conftest import HOST, Worker, serving
from tests.dashboard.conftest import Page, follow, read_page
from tests.dashboard.run_files import LONG, SPARSE, copy_run, epoch_row, step_row, write_run
from tests.plots.reading import notes, points, traces

pytestmark = pytest.mark.anyio

MARKUP = "<img src=x onerror=alert(1)>\"'&"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "runs"
    path.mkdir()
    return path


@pytest.fixture
def settings(root: Path) -> Settings:
    return Settings(database_url="sqlite:///unused", host=HOST, runs=str(root))


async def read(client: httpx.AsyncClient, address: str) -> Page:
    reply = await client.get(address)
    assert reply.status_code == 200, reply.text
    return read_page(reply.text)


def words(page: Page) -> str:
    return " ".join(page.text.split())


async def test_a_run_is_listed_and_opened(client: httpx.AsyncClient, root: Path) -> None:
    copy_run(SPARSE, root / "sparse")
    copy_run(LONG, root / "long run #2")
    for path in (root / "sparse").iterdir():
        os.utime(path, (1000, 1000))
    listed = await read(client, "/ui/runs")
    assert listed.find("a", href="../ui/runs", aria_current="page")
    assert "2 training runs" in listed.text
    assert "ptb, small, sparse" in listed.text
    links = [has["href"] for has in listed.find("a") if "/runs/" in has.get("href", "")]
    assert [follow(link, "/ui/runs") for link in links] == [
        "/ui/runs/long%20run%20%232",
        "/ui/runs/sparse",
    ]
    assert listed.text.index("not finished") < listed.text.index("finished", 1)
    for link in links:
        page = await read(client, follow(link, "/ui/runs"))
        for has in page.find("div"):
            if "data-figure" in has:
                figure = await client.get(follow(has["data-figure"], follow(link, "/ui/runs")))
                assert figure.json()["data"]
                assert figure.headers["cache-control"] == "no-store"


async def test_the_table_is_that_of_the_report(client: httpx.AsyncClient, root: Path) -> None:
    """Values: docs/results/small-sparse/report.md."""
    copy_run(SPARSE, root / "one")
    page = await read(client, "/ui/runs/one")
    # 93474 / 906300 is 10.31 %.
    assert (
        "(d) has ended with a validation perplexity of 105.8 instead of 97.62, at 10.3 % of the"
        " baseline's parameters"
    ) in page.text
    told = words(page)
    assert (
        "(d) weight pruning 1 of 1 round accepted; threshold 107.6, kept 375 × 100 93,474 20.8 %"
        " 105.8 100.4 54.5 ms 54.4 ms to 54.5 ms, in its own sweep –"
    ) in told
    assert "(a) weight growth 375 × 100 311,565 69.2 % 102.4 97.65 60.9 ms" in told
    assert "Latency, 70 words, batch 16" in told
    assert "learning_rate 0.005" in told
    assert "lhp-train report" not in told


async def test_milliseconds_of_another_sweep_are_left_out(
    client: httpx.AsyncClient, root: Path
) -> None:
    copy_run(LONG, root / "one")
    told = words(await read(client, "/ui/runs/one"))
    assert "338 × 90 268,074 70.8 % 102.7 96.56 – 0.916" in told
    assert "asked for 338 × 90, the service answered 338 × 90" in told


async def test_a_run_in_progress_shows_more_after_a_reload(
    client: httpx.AsyncClient, root: Path
) -> None:
    run = write_run(root / "one")
    assert "No step has ended yet" in (await read(client, "/ui/runs/one")).text
    write_run(run, epochs=[epoch_row(), epoch_row(epoch=2, valid_perplexity=9.0)])
    page = await read(client, "/ui/runs/one")
    assert "baseline: stacked LSTM 2 9.000 20.00" in words(page)
    assert not [has for has in page.find("div") if has.get("data-figure", "").endswith("dims")]
    write_run(run, steps=[step_row()], epochs=[epoch_row()])
    page = await read(client, "/ui/runs/one")
    assert "Baseline has ended with a validation perplexity of 9.500" in page.text
    assert "There is no report yet" in page.text
    assert "lhp-train report ./one --service URL" in page.text


async def test_the_metric_is_drawn_over_all_epochs(client: httpx.AsyncClient, root: Path) -> None:
    epochs = [
        epoch_row(valid_perplexity=40.0),
        epoch_row(epoch=2, valid_perplexity=20.0),
        epoch_row("units", valid_perplexity=18.0),
        epoch_row("units", round=1, valid_perplexity=None),
        epoch_row("units", round=1, epoch=2, valid_perplexity=16.0),
        epoch_row("units", round=2, epoch=3, valid_perplexity=15.0),
    ]
    write_run(root / "one", epochs=epochs)
    figure = (await client.get("/ui/runs/one/metric")).json()
    drawn = traces(figure)
    assert points(drawn["baseline: stacked LSTM"]) == [(1, 40.0), (2, 20.0)]
    # The round that begins anew is apart from the one before, the one that goes on is not; an
    # epoch without a value is a gap, too.
    units = points(drawn["(b) row/column pruning"])
    shown = [None if math.isnan(y) else (x, y) for x, y in units]
    assert shown == [(3, 18.0), None, None, (5, 16.0), (6, 15.0)]
    assert any("log" in text for text in notes(figure))


async def test_dims_are_drawn_over_steps_by_their_names(
    client: httpx.AsyncClient, root: Path
) -> None:
    answer = {"dims": [12, 8], "lhp": [16, 8], "workload": "hlstm_lm[batch=4]"}
    steps = [step_row(), step_row("lhp", dims=[16, 8], answer=answer)]
    write_run(root / "one", steps=steps)
    drawn = traces((await client.get("/ui/runs/one/dims")).json())
    assert points(drawn["gate_width"]) == [(0, 12), (1, 16)]
    assert points(drawn["state_width"]) == [(0, 8), (1, 8)]
    # Of a kind that isn't installed, dims have numbers.
    steps[1]["answer"] = answer | {"workload": "other[]"}
    write_run(root / "one", steps=steps)
    assert set(traces((await client.get("/ui/runs/one/dims")).json())) == {"dim 1", "dim 2"}


async def test_without_scripts_every_value_is_in_a_table(
    client: httpx.AsyncClient, root: Path
) -> None:
    copy_run(SPARSE, root / "one")
    page = await read(client, "/ui/runs/one")
    assert len(page.find("table")) == 3
    # A row for each round of training; see the lines of its epochs.jsonl: 20 epochs of the
    # baseline, 8 rounds of growth (the last one with 13 epochs), 8 epochs of one pruning.
    told = words(page)
    assert "(a) weight growth, round 8 40 102.4" in told
    assert "(d) weight pruning 48 105.8" in told


async def test_what_cannot_be_read_is_said_and_hides_nothing_else(
    client: httpx.AsyncClient, root: Path
) -> None:
    copy_run(SPARSE, root / "whole")
    write_run(root / "broken")
    (root / "broken" / "steps.jsonl").write_text("{}")
    listed = await read(client, "/ui/runs")
    assert "unreadable" in listed.text
    assert (
        "line 1 of steps.jsonl isn't what the trainer writes: step: Field required" in listed.text
    )
    assert "105.8" in listed.text
    page = await read(client, "/ui/runs/broken")
    assert "This run can't be read" in page.text and "Field required" in page.text


async def test_markup_in_names_and_files_is_shown_as_text(
    client: httpx.AsyncClient, root: Path
) -> None:
    name = MARKUP.replace("/", "")
    latency = {
        "latency_s": 1e-3,
        "low_s": None,
        "high_s": None,
        "ratio": None,
        "curves": [MARKUP],
        "platform": MARKUP,
        "host": MARKUP,
        "device": MARKUP,
        "measured_at": MARKUP,
    }
    rows = [step_row(MARKUP, **{f"valid_{MARKUP}": 1.0, "valid_perplexity": None})]
    report = {
        "config": {MARKUP: MARKUP, "corpus": MARKUP},
        "is_finished": True,
        "rows": rows,
        "latencies": {MARKUP: latency},
        "digests": {},
    }
    write_run(root / name, steps=rows, epochs=[epoch_row(MARKUP)], report=report)
    write_run(root / os.fsdecode(b"\xff\n"), steps=rows)
    listed = await read(client, "/ui/runs")
    assert listed.find("img", src="x") == []
    assert "its name is no text" in listed.text and "\\udcff\\n" in listed.text
    [link] = {has["href"] for has in listed.find("a") if "/runs/" in has.get("href", "")}
    address = follow(link, "/ui/runs")
    page = await read(client, address)
    assert page.find("img", src="x") == []
    assert page.text.count("<img src=x onerror=alert(1)>") > 5
    for what in ("metric", "dims"):
        figure = await client.get(f"{address}/{what}")
        texts = [*notes(figure.json()), *(trace["name"] for trace in figure.json()["data"])]
        assert not [text for text in texts if "<img" in text]


async def test_long_lists_have_pages(client: httpx.AsyncClient, root: Path) -> None:
    for number in range(27):
        write_run(root / f"run-{number:02}")
    first = await read(client, "/ui/runs")
    [older] = [has["href"] for has in first.find("a") if "skip=" in has.get("href", "")]
    second = await read(client, follow(older, "/ui/runs"))
    found = [
        {has["href"] for has in page.find("a") if "/runs/" in has.get("href", "")}
        for page in (first, second)
    ]
    assert [len(each) for each in found] == [25, 2] and not found[0] & found[1]
    assert "The newest runs" in (await read(client, "/ui/runs?skip=50")).text


@pytest.mark.parametrize("name", ["none", "..%2Fruns", "%2Fetc", ".hidden", "%00"])
async def test_a_run_that_is_not_there_is_not_found(
    client: httpx.AsyncClient, root: Path, name: str
) -> None:
    write_run(root / ".hidden")
    for address in (f"/ui/runs/{name}", f"/ui/runs/{name}/metric"):
        reply = await client.get(address)
        assert reply.status_code in (400, 404), reply.text


async def test_an_empty_folder_says_what_to_do(client: httpx.AsyncClient, root: Path) -> None:
    page = await read(client, "/ui/runs")
    assert "No training run yet" in page.text and "lhp-train ptb" in page.text
    root.rmdir()
    page = await read(client, "/ui/runs")
    assert "the folder that LHP_RUNS names can't be read" in page.text
    assert str(root) not in page.text


async def test_without_the_setting_there_are_no_such_pages(sqlite_worker: Worker) -> None:
    settings = Settings(database_url="sqlite:///unused", host=HOST)
    async with serving(settings, sqlite_worker) as client:
        page = await read(client, "/ui/curves")
        assert not [has for has in page.find("a") if "runs" in has.get("href", "")]
        for address in ("/ui/runs", "/ui/runs/one", "/ui/runs/one/dims"):
            reply = await client.get(address)
            assert reply.status_code == 404
            assert "set LHP_RUNS" in reply.text


@pytest.fixture
async def guarded(
    anyio_backend: str, sqlite_worker: Worker, settings: Settings, root: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, dict[Scope, str]]]:
    """A client of a service that has tokens, and a run; and a token of each scope."""
    copy_run(SPARSE, root / "one")
    made = {
        scope: sqlite_worker.store.create_token(scope, [scope], lifetime_s=None, by=Caller())[1]
        for scope in Scope
    }
    async with serving(settings, sqlite_worker) as client:
        yield client, made


async def test_who_may_read_sees_runs_and_others_do_not(
    guarded: tuple[httpx.AsyncClient, dict[Scope, str]],
) -> None:
    client, tokens = guarded
    for address in ("/ui/runs", "/ui/runs/one", "/ui/runs/one/metric"):
        assert (await client.get(address)).status_code == 303
        token = {"authorization": f"Bearer {tokens[Scope.READ]}"}
        reply = await client.get(address, headers=token)
        assert reply.status_code == 200 and "perplexity" in reply.text
