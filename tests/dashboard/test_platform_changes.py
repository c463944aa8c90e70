"""What the upgrade of a host changed, on its page and in the list."""

from __future__ import annotations

import dataclasses
import datetime as dt

import httpx
import pytest

from profiler_service.workload import Dims
from tests.api.conftest import HOST, Worker
from tests.api.curves import PLATFORM
from tests.api.test_lhp_facts import growing, pair, race
from tests.dashboard.test_hosts import read
from tests.processes.test_platform_replay import finish, move

pytestmark = pytest.mark.anyio

ADDRESSES = (f"/ui/hosts/{HOST}", "/ui/hosts")


async def test_a_sentence_and_every_fact_before_and_now(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    large = dataclasses.replace(pair((8, 8), 0.94, 0.95), rival=(1 << 19, 1 << 19))
    confirmed = [pair((8, 8), 0.94, 0.96), pair((16, 16), 0.99, 1.01), large]
    race(sqlite_worker, growing, *confirmed)
    for address in ADDRESSES:
        assert "blas" not in (await read(client, address)).text
    replay = move(sqlite_worker)
    for _ in range(2):
        sweep = replay.consider()
        assert sweep is not None
        intervals: dict[Dims, tuple[float, float]] = {(8, 8): (1.02, 1.04), (16, 16): (0.99, 1.01)}
        if sweep.spec.grid.last == (8, 8):
            page = await read(client)
            assert "blas 3.14 → 3.15: 1 of 3 facts measured again, 0 changed." in page.text
            assert page.text.count("waits") == 2
        finish(sqlite_worker, sweep, *intervals[sweep.spec.grid.last])
    replay.consider()

    today = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
    said = "blas 3.14 → 3.15: 1 of 3 facts changed, 1 couldn't be measured."
    page = await read(client)
    assert f"Since {today}, {said}" in page.text
    assert f"{HOST}, since {today}: {said}" in (await read(client, "/ui/hosts")).text
    told = " ".join(page.text.split())
    # 1 / √(0.94 · 0.96) = 1.0527, and √(1.02 · 1.04) = 1.0300.
    assert "5.3 % faster 3.0 % slower changed" in told
    assert "not told apart not told apart the same" in told
    assert "– not measured" in told and "MiB are measured" in told


async def test_a_host_that_never_changed_has_nothing_to_tell(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    race(sqlite_worker, growing, pair((8, 8), 0.94, 0.96))
    move(sqlite_worker, PLATFORM)
    for address in ADDRESSES:
        text = (await read(client, address)).text
        assert "since" not in text.lower() and "measured again" not in text
