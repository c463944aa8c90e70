"""`lhp hosts approve`, `split`, `drain`, `rename`, `label`, `rm`, `add` and `keys`."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from profiler_service.wire import JoinKeyInfo, JoinKeyPage, KeptJoinKey
from tests.cli.conftest import Lhp
from tests.cli.stub import HOST, NOW, StubService


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["approve", "anvil"], {"status": "approved"}),
        (["drain", "anvil"], {"status": "draining"}),
        (["split", "anvil", "hammer"], {"split_to": "hammer"}),
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
    assert (done.code, done.out) == (0, f"echo lhpjoin_x | lhp join {service.url}\n"), done.err
    assert "2026-01-02" in done.err
    # Another machine can't use that address.
    assert f"{service.url} is this machine itself" in done.err
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


def key(**changes: object) -> KeptJoinKey:
    given: dict[str, object] = {
        "id": "1" * 32,
        "name": None,
        "labels": {"pool": "train"},
        "approve": True,
        "ephemeral": False,
        "reusable": False,
        "created_at": NOW,
        "expires_at": NOW.replace(year=2999),
        "used_at": None,
        "used_by": None,
        "revoked_at": None,
    }
    return KeptJoinKey.model_validate(given | changes)


def test_keys_shows_whom_each_lets_in_and_whom_it_let_in(lhp: Lhp, service: StubService) -> None:
    used = {"used_at": NOW, "used_by": "gpu-a"}
    items = [
        key(),
        key(name="gpu-b", expires_at=NOW.replace(year=2020)),
        key(**used),
        key(**used, reusable=True),
        key(**used, revoked_at=NOW),
    ]
    service.reply("GET /hosts/keys", JoinKeyPage(items=items, next_cursor=None))
    done = lhp("hosts", "keys")
    assert done.code == 0, done.err
    states = (
        "any one valid until 2999-01-02 03:04 UTC",
        "gpu-b one expired 2020-01-02 03:04 UTC",
        "any one used 2026-01-02 03:04 UTC by gpu-a",
        "any several valid until 2999-01-02 03:04 UTC; last used 2026-01-02 03:04 UTC by gpu-a",
        "any one revoked 2026-01-02 03:04 UTC; last used 2026-01-02 03:04 UTC by gpu-a",
    )
    lines = [" ".join(line.split()) for line in done.out.splitlines()[1:]]
    assert lines == [f"{'1' * 32} {state} pool=train" for state in states]


def test_every_page_of_keys_is_listed(lhp: Lhp, service: StubService) -> None:
    service.reply(
        "GET /hosts/keys",
        JoinKeyPage(items=[key()], next_cursor="1" * 32),
        JoinKeyPage(items=[key(id="0" * 32)], next_cursor=None),
    )
    listed = json.loads(lhp("hosts", "keys", "--json").out)
    assert [each["id"] for each in listed] == ["1" * 32, "0" * 32]


@pytest.mark.parametrize("given", ["1" * 32, f"lhpjoin_01234567_{'1' * 32}_{'A_' * 21}A"])
def test_revoking_a_key_never_puts_its_secret_into_an_address(
    lhp: Lhp, service: StubService, given: str
) -> None:
    service.reply(f"DELETE /hosts/keys/{'1' * 32}", key(revoked_at=NOW))
    done = lhp("hosts", "keys", "revoke", given)
    assert (done.code, done.err) == (0, f"revoked {'1' * 32}\n")
    assert "A_A" not in str(service.requests)
