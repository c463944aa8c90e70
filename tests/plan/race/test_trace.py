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
    "two axes": "7922b1540344e838",
    "two axes, another seed": "234f5c10e42fac38",
    "one axis": "bb176c9f88cf0d4f",
    "steps of a range": "0507b9b4e3017491",
    "thorough, two axes": "711ab6629310e129",
    "thorough, one axis": "27f5809682d9ffb1",
    "budget": "9280d30797af0ffc",
    "budget for a few pairs": "3e75c32377006414",
    "budget for nothing": "a81ebaaae518338f",
    "thorough within a budget": "e120128d1b4a34c0",
    "thorough of dear calls within a budget": "0e1b854534b5ce94",
    "failures": "aa55ed529743e60c",
    "the leader fails late": "f64394d4c7eb8b6d",
    "everything larger fails": "a63a61fb670384c7",
    "everything larger fails, thorough": "fb4c75beb847be74",
    "the queried point fails at once": "0178fcc2c0d6e4e2",
    "the queried point fails": "1d19cf3dc369ec80",
    "noisy": "e99ceba380ceba31",
    "quiet": "27e39b4af9424aac",
    "a neighbour comes": "06eec8aa47d54264",
    "a small gain on a host that throttles": "083f99669cd6f5f4",
    "a small gain on a calm host": "36966539ee4beccb",
    "dear calls": "0ba0003c5048908a",
    "calls of two milliseconds": "64de144c6561174d",
    "tiny calls": "b223b72d76bfb00d",
    "compiled": "37e6781c80a27add",
    "packed, a small gain": "fb80f2ee3ef37f89",
    "nothing larger is faster": "0a4d73b23a45fa8c",
    "guided": "5ca2d66cd98cc08c",
    "a small window": "6e279af8473d23cd",
    "two points": "4752a3ad28f7e88f",
    "one point": "1f7bc2a83451cfae",
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
