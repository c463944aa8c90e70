"""`lhp hosts approve`, `drain`, `rename`, `label` and `rm`."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from profiler_service.wire import JoinKeyInfo
from tests.cli.conftest import Lhp
from tests.cli.stub import HOST, StubService


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["approve", "anvil"], {"status": "approved"}),
        (["drain", "anvil"], {"status": "draining"}),
        (["rename", "anvil", "hammer"], {"name": "hammer"}),
        (["label", "anvil", "pool=train", "old-"], {"labels": {"pool": "train", "rack": "7"}}),
    ],
)
def test_commands_send_what_they_say(
    lhp: Lhp, service: StubService, arguments: list[str], sent: dict[str, object]
) -> None:
    labelled = HOST.model_copy(update={"labels": {"rack": "7", "old": "x"}, "state": "ready"})
    service.reply("GET /hosts/anvil", labelled)
    service.reply("PATCH /hosts/anvil", labelled)
    done = lhp("hosts", *arguments)
    assert (done.code, done.out) == (0, "host anvil is ready, labelled old=x rack=7\n"), done.err
    body = json.loads(service.requests[-1][2])
    assert {name: value for name, value in body.items() if value is not None} == sent


def test_rm_shows_what_became_of_the_host(lhp: Lhp, service: StubService) -> None:
    service.reply("DELETE /hosts/anvil", HOST.model_copy(update={"state": "retired"}))
    done = lhp("hosts", "rm", "anvil", "--json")
    assert (done.code, json.loads(done.out)["state"]) == (0, "retired")


@pytest.mark.parametrize("label", ["pool", "=x", "pool=", "a b=c"])
def test_a_malformed_label_is_refused_before_anything_is_sent(
    lhp: Lhp, service: StubService, label: str
) -> None:
    service.reply("GET /hosts/anvil", HOST)
    done = lhp("hosts", "label", "anvil", label)
    assert done.code == 2
    assert "hint: " in done.err


def test_add_prints_the_command_to_paste(lhp: Lhp, service: StubService) -> None:
    key = JoinKeyInfo(id="k", key="lhpjoin_x", expires_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
    service.reply("POST /hosts/keys", key)
    arguments = ["--label", "pool=train", "--approve", "--ephemeral", "--expires", "2h"]
    done = lhp("hosts", "add", "gpu-a", *arguments)
    assert (done.code, done.out) == (0, f"lhp join {service.url} lhpjoin_x\n"), done.err
    assert "2026-01-02" in done.err
    [(_, body)] = service.sent("POST /hosts/keys")
    # 2 h are 7,200 s.
    assert json.loads(body) == {
        "name": "gpu-a",
        "labels": {"pool": "train"},
        "approve": True,
        "ephemeral": True,
        "reusable": False,
        "lifetime_s": 7200.0,
    }


@pytest.mark.parametrize(
    "arguments", [["--expires", "soon"], ["--expires", "0s"], ["--label", "x"]]
)
def test_a_key_that_can_t_be_is_refused(lhp: Lhp, arguments: list[str]) -> None:
    done = lhp("hosts", "add", *arguments)
    assert (done.code, "hint: " in done.err) == (2, True)
