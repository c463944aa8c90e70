"""GET /hosts says what the last change of each host's platform changed."""

from __future__ import annotations

import httpx
import pytest

from profiler_service.wire import HostInfo
from tests.api.conftest import DTYPES, HOST, Worker
from tests.api.curves import PLATFORM, PROTOCOL
from tests.api.test_lhp_facts import growing, pair, race
from tests.processes.test_platform_replay import NEWER, finish, move

pytestmark = pytest.mark.anyio


async def read(client: httpx.AsyncClient) -> HostInfo:
    reply = await client.get(f"/hosts/{HOST}")
    assert reply.status_code == 200, reply.text
    assert (await client.get("/hosts")).json()[0]["platform_change"] == (
        reply.json()["platform_change"]
    )
    return HostInfo.model_validate(reply.json())


async def test_a_host_says_what_its_upgrade_changed(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    race(worker, growing, pair((8, 8), 0.94, 0.95), pair((16, 16), 0.84, 0.85))
    assert (await read(both_client)).platform_change is None
    replay = move(worker)
    found = (await read(both_client)).platform_change
    assert found is not None and found.state == "open"
    for interval in ((0.84, 0.85), (1.02, 1.03)):
        sweep = replay.consider()
        assert sweep is not None
        finish(worker, sweep, *interval)
    replay.consider()
    found = (await read(both_client)).platform_change
    assert found is not None
    assert (found.before, found.after) == (PLATFORM.key, NEWER.key)
    assert found.summary == "blas 3.14 → 3.15: 1 of 2 facts changed"
    assert (found.num_agree, found.num_changed, found.inherited) == (1, 1, False)
    # The same as before, on this platform; then back.
    move(worker, PLATFORM)
    found = (await read(both_client)).platform_change
    assert found is not None and found.state == "returned"
    assert "back on a platform that it was on before" in found.summary


async def test_curves_and_facts_of_the_platform_before_never_answer(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    """However well the platforms agree."""
    race(worker, growing, *(pair((8 * n, 8), 0.94, 0.95) for n in range(1, 15)))
    replay = move(worker)
    while (sweep := replay.consider()) is not None:
        finish(worker, sweep, 0.94, 0.95)
    found = (await read(both_client)).platform_change
    assert found is not None and found.inherited
    # The service has seen the host's new platform.
    await both_client._transport.app.state.services.known.refresh()  # type: ignore[attr-defined]
    reply = await both_client.get("/lhp", params={"dims": "5,6", "wait": 0})
    assert reply.status_code == 202, reply.text  # it is measured


async def test_a_host_that_waits_for_an_operator_says_how_its_platform_differs(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    worker.store.register_host(
        HOST, NEWER, protocol=PROTOCOL, dtypes=DTYPES, quarantine_changed=True
    )
    host = await read(both_client)
    assert (host.state, host.platform, host.platform_change) == ("quarantined", PLATFORM.key, None)
    assert f"from {PLATFORM.key} to {NEWER.key} (blas 3.14 → 3.15)" in host.wrong
    reply = await both_client.patch(f"/hosts/{HOST}", json={"status": "approved"})
    assert reply.status_code == 200, reply.text
    host = HostInfo.model_validate(reply.json())
    assert (host.state, host.platform, host.wrong) == ("ready", NEWER.key, "")
    assert host.platform_change is not None
    assert host.platform_change.summary == (
        "blas 3.14 → 3.15: facts of the platform before will be measured again"
    )
