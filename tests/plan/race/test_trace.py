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
    "two axes": "6684718c37f90c79",
    "two axes, another seed": "d850978c2e063001",
    "one axis": "906123707caea8b3",
    "steps of a range": "46e146f6d88280ef",
    "thorough, two axes": "a27f3b56dfd2ee36",
    "thorough, one axis": "2b65e0ee3d32c7ca",
    "budget": "31de2cdad7f842d2",
    "budget for a few pairs": "5dd5af3bc260c597",
    "budget for nothing": "ce5bac8d7f83dce4",
    "thorough within a budget": "11ca074ea042e8de",
    "thorough of dear calls within a budget": "05d6433bd1bf2f47",
    "failures": "0b586d8db2076207",
    "the leader fails late": "7fb071a413b23334",
    "everything larger fails": "a63a61fb670384c7",
    "everything larger fails, thorough": "fb4c75beb847be74",
    "the queried point fails at once": "0178fcc2c0d6e4e2",
    "the queried point fails": "fdaf17497c742608",
    "noisy": "ff8142515c2d909b",
    "quiet": "56c7741a8bfd47c7",
    "a neighbour comes": "228bd277f44b285a",
    "a small gain on a host that throttles": "73b625e04ae174e8",
    "a small gain on a calm host": "6d32a44b66877f90",
    "dear calls": "4e9224f23f179f50",
    "calls of two milliseconds": "80750210d23ba34b",
    "tiny calls": "36544952a46c76a9",
    "compiled": "e7a556850d6a529f",
    "packed, a small gain": "90caf6afa642800c",
    "nothing larger is faster": "7ce0b2aea1e8a823",
    "guided": "2cac80ff45fadb57",
    "a small window": "8c7693f9d3b73e73",
    "two points": "432483b781fab880",
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
