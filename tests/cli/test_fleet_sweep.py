"""`lhp sweep … --label`: followed on every host at once."""

from __future__ import annotations

import json

from profiler_service.wire import FleetSweepInfo
from tests.cli.conftest import Lhp
from tests.cli.stub import DONE, NOW, Reply, StubService, make_sweep

ON_BOTH = [make_sweep(host="gpu-a"), DONE.model_copy(update={"host": "gpu-b"})]
RUNNING = FleetSweepInfo(
    id="f1", label="pool:train", state="running", created_at=NOW, fraction=0.7, sweeps=ON_BOTH
)
ENDED = RUNNING.model_copy(update={"state": "done", "fraction": 1.0, "sweeps": [DONE, DONE]})
COMMAND = ("sweep", "matmul", "256:261", "--label", "pool:train")


def test_the_sweep_of_all_hosts_is_followed_to_its_end(lhp: Lhp, service: StubService) -> None:
    service.reply("POST /fleet-sweeps", Reply(RUNNING, 201))
    service.reply("GET /fleet-sweeps/f1", RUNNING, ENDED)
    done = lhp(*COMMAND)
    assert done.code == 0
    assert "fleet sweep f1 of pool:train is done" in done.out
    assert "1 of 2 hosts have ended, gpu-a " in done.err
    [(_, body)] = service.sent("POST /fleet-sweeps")
    assert json.loads(body)["label"] == "pool:train"


def test_it_fails_if_a_host_failed(lhp: Lhp, service: StubService) -> None:
    failed = make_sweep(state="failed", error="out of memory", host="gpu-a")
    ended = RUNNING.model_copy(update={"state": "failed", "sweeps": [failed]})
    service.reply("POST /fleet-sweeps", Reply(ended, 201))
    done = lhp(*COMMAND)
    assert done.code == 1
    assert "gpu-a: sweep s1 is failed: out of memory" in done.out
