"""The page that shows how a pair compared over time."""

from __future__ import annotations

import dataclasses
import datetime as dt

import httpx
import pytest

from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec
from tests.api.conftest import DTYPES, HOST, Worker
from tests.api.curves import MEASURED_AT, PLATFORM, PROTOCOL, square, stairs
from tests.dashboard.conftest import follow, read_page
from tests.plots.reading import notes

pytestmark = pytest.mark.anyio

NEWER = dataclasses.replace(PLATFORM, framework="none 2.0")


def keep_fact(
    worker: Worker, ratio: float, *, days: int, verdict: str = "faster", newer: bool = False
) -> None:
    """A race's fact about (5, 6) and (8, 8), `days` after the first one; ± 1 %."""
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=square(5, 12), seed=days)
    sweep, _ = worker.store.create_sweep(spec, host=HOST)
    pair = ConfirmedPair(
        dims=(5, 6),
        rival=(8, 8),
        verdict=verdict,  # type: ignore[arg-type]
        ratio=ratio,
        low=ratio - 0.01,
        high=ratio + 0.01,
        num_pairs=20,
    )
    worker.finish(
        sweep,
        stairs(8),
        confirmed=[pair],
        platform=NEWER if newer else PLATFORM,
        measured_at=MEASURED_AT + dt.timedelta(days=days),
    )


async def test_a_pair_is_shown_over_time_with_changes_of_its_platform(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_fact(sqlite_worker, 0.8, days=0)
    assert "No pair measured more than once" in (await client.get("/ui/history")).text
    keep_fact(sqlite_worker, 0.81, days=1)
    sqlite_worker.store.register_host(HOST, NEWER, protocol=PROTOCOL, dtypes=DTYPES)
    keep_fact(sqlite_worker, 0.9, days=2, newer=True)
    listed = read_page((await client.get("/ui/history?workload=linear&dims=5,6")).text)
    assert "1 pair measured more than once" in listed.text
    [link] = [a["href"] for a in listed.find("a") if "/pair?" in a.get("href", "")]
    shown = await client.get(follow(link, "/ui/history"))
    page = read_page(shown.text)
    # 1 / 0.9 = 1.111; the interval of the ratio, 0.89 to 0.91, is one of 9.9 to 12.4 %.
    assert "8 × 8 is 11.1 % faster, and so it was all 3 times" in page.text
    assert "9.9 to 12.4 %" in page.text
    address = [has["data-figure"] for has in page.find("div") if "data-figure" in has]
    figure = (await client.get(follow(address[0], "/ui/history/pair"))).json()
    assert figure["data"] and "framework" in notes(figure)
    assert "2025-11-24 12:00: framework: none 1.0 → none 2.0." in page.text


async def test_a_verdict_that_changed_is_said(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_fact(sqlite_worker, 0.8, days=0)
    keep_fact(sqlite_worker, 1.05, days=1, verdict="slower")
    keep_fact(sqlite_worker, 1.06, days=2, verdict="slower")
    query = {"workload": LINEAR.describe().key, "dims": "5,6", "rival": "8,8", "host": HOST}
    page = read_page((await client.get("/ui/history/pair", params=query)).text)
    assert "8 × 8 is 6.0 % slower, in the last 2 facts of 3" in page.text


async def test_a_pair_without_facts_is_not_found(client: httpx.AsyncClient) -> None:
    query = {"workload": "linear", "dims": "5,6", "rival": "8,8", "host": HOST}
    reply = await client.get("/ui/history/pair", params=query)
    assert reply.status_code == 404
    assert "choose a pair" in reply.text
    assert "No facts yet" in (await client.get("/ui/history")).text
