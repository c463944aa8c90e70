"""`lhp hosts approve`, `drain`, `rename`, `label` and `rm`."""

from __future__ import annotations

import json

import pytest

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
