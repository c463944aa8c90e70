"""A question about a network is raced with what its operators' curves tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import httpx
import numpy as np
import pytest

from profiler_service.analysis.samples import TimingProtocol
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import get_workload_kind
from profiler_service.plan.race.guide import OPERATORS
from profiler_service.plan.spec import SweepSpec
from tests.api.conftest import Worker, keep_curve
from tests.api.curves import PLATFORM

pytestmark = pytest.mark.anyio

# What a window of 33 × 33 points above 100,40 has as rows of all four gates, and as columns.
OPERATOR = Grid(axes=(GridAxis(first=400, count=33, step=4), GridAxis(first=40, count=33)))


def latency_s(dims: Sequence[int]) -> float:
    """Rows that are multiples of 64 are a tenth faster: gates of 112 and 128."""
    return 1e-4 * (0.9 if dims[0] % 64 == 0 else 1.0)


async def asked(client: httpx.AsyncClient, worker: Worker, **params: str) -> SweepSpec:
    """What is measured for the question: the race, past a comparison of kernels."""
    response = await client.get(
        "/lhp", params={"dims": "100,40", "workload": "hlstm_lm", "wait": "0", **params}
    )
    assert response.status_code == 202, response.text
    specs: list[SweepSpec] = []
    while not specs or specs[-1].workload.kind != "hlstm_lm":
        specs.append((await worker.take()).spec)
    return specs[-1]


async def test_a_products_curve_guides_a_networks_race(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_curve(sqlite_worker.store, OPERATOR, latency_s)
    spec = await asked(client, sqlite_worker)
    assert spec.guide is not None
    rows, columns = spec.guide
    fast = np.flatnonzero(np.array(rows) < np.mean(rows) - 0.05)
    # log 0.9 = −0.105; of gates 100 to 132, those of 112 and 128.
    assert fast.tolist() == [12, 28]
    assert columns == pytest.approx((0.0,) * 33)
    # Read back, it is what was decided: a race that is resumed goes the same way.
    newest = sqlite_worker.store.list_sweeps(mode="race").items[0]
    assert newest.spec.guide == spec.guide


@pytest.mark.parametrize("why", ["none", "elsewhere", "otherwise", "too few", "not a race"])
async def test_other_curves_guide_nothing(
    client: httpx.AsyncClient, sqlite_worker: Worker, why: str
) -> None:
    store = sqlite_worker.store
    params: dict[str, str] = {}
    if why == "elsewhere":
        keep_curve(
            store, OPERATOR, latency_s, host="west", platform=replace(PLATFORM, memory_bytes=1)
        )
    elif why == "otherwise":
        keep_curve(store, OPERATOR, latency_s, protocol=TimingProtocol(timer="another"))
    elif why == "too few":
        few = Grid(axes=(GridAxis(first=400, count=32, step=4), OPERATOR.axes[1]))
        keep_curve(store, few, latency_s)
    assert (await asked(client, sqlite_worker, **params)).guide is None


@pytest.mark.parametrize(("kind", "gates"), [("lstm", 4), ("gru", 3)])
async def test_the_tables_factors_are_those_of_the_kinds_products(kind: str, gates: int) -> None:
    assert OPERATORS[kind]["linear"] == (gates, 1)
    params = dict(get_workload_kind(kind).describe({"steps": 1, "batch": 1}).params)
    # 10 units, 7 inputs: products of (gates · 10) × 7 and (gates · 10) × 10.
    assert get_workload_kind(kind).flops((10, 7), params) == 2 * gates * 10 * (7 + 10)
