"""What races decide, recorded: the same samples must give the same batches and verdicts.

If a digest changes, this version decides differently than the one before. Sweeps that are under way
then can't be resumed, and the stages of older races can't be shown (`ReplayError`). If that is
intended, record the new digest in the same commit and say so in the change log.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.plan.race.traces import RACES, decide, digest

DIGESTS = {
    "two axes": "d1b2ab316908b464",
    "two axes, another seed": "c15afca8d52f0dd8",
    "one axis": "446b05f42be4aca5",
    "steps of a range": "f4425b3d41d28681",
    "thorough, two axes": "e64336b7e16fbf6f",
    "thorough, one axis": "340478e9881b7fab",
    "budget": "57de55282da4b693",
    "budget for a few pairs": "bb6d6db2d6359880",
    "budget for nothing": "cf1c4f9db0bdc242",
    "thorough within a budget": "9f290af8590ebed0",
    "thorough of dear calls within a budget": "4bc5dc457ac0c1a1",
    "failures": "6a94cc5ffa42345c",
    "the leader fails late": "ddea2b1bff654f00",
    "everything larger fails": "1676b20e6d3e70f5",
    "everything larger fails, thorough": "7eacbf6abf0be39b",
    "the queried point fails at once": "0178fcc2c0d6e4e2",
    "the queried point fails": "bf9d70f050d6da76",
    "noisy": "7d0a85d4ce8f2290",
    "quiet": "6acfb6923e21b74f",
    "a neighbour comes": "f87d0a7376a7f897",
    "a small gain on a host that throttles": "1e289c488c02442f",
    "a small gain on a calm host": "d68bd7029d9523ca",
    "dear calls": "f3f5b5e933b10265",
    "calls of two milliseconds": "942480069cd1f51a",
    "tiny calls": "7d8be0cc765f5ec4",
    "compiled": "a4ab15d2a4e9042d",
    "packed, a small gain": "064a7fe5b7939f5b",
    "nothing larger is faster": "2a380d3c4f121cdc",
    "guided": "79e69c126c90122d",
    "a small window": "5d62db98cc342c9b",
    "two points": "16e751140e966fb6",
    "one point": "ca4b34a4dc85504e",
}


def test_every_race_is_recorded() -> None:
    assert set(DIGESTS) == set(RACES)


@pytest.mark.parametrize("name", RACES)
def test_a_race_decides_as_it_did(name: str) -> None:
    assert digest(decide(RACES[name])) == DIGESTS[name]


def test_slow_first_calls_change_nothing() -> None:
    """Every visit begins with an untimed call."""
    slow = replace(RACES["two axes"], device={"cold_penalty": 1.5})
    assert digest(decide(slow)) == DIGESTS["two axes"]


def test_another_race_has_another_digest() -> None:
    race = RACES["a small window"]
    assert digest(decide(replace(race, seed=race.seed + 1))) != DIGESTS["a small window"]
