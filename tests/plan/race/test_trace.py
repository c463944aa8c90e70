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
    "two axes": "07653c51e3d58f51",
    "two axes, another seed": "4afd23b91152e8de",
    "one axis": "9cd0c60c3938ba2f",
    "steps of a range": "e403db9de8ccec75",
    "thorough, two axes": "284ec3a70f266eda",
    "thorough, one axis": "0d38dc88b96f783f",
    "budget": "31de2cdad7f842d2",
    "budget for a few pairs": "5dd5af3bc260c597",
    "budget for nothing": "ce5bac8d7f83dce4",
    "thorough within a budget": "11ca074ea042e8de",
    "thorough of dear calls within a budget": "05d6433bd1bf2f47",
    "failures": "5c603bb0e5eaeb0c",
    "the leader fails late": "7fb071a413b23334",
    "everything larger fails": "a63a61fb670384c7",
    "everything larger fails, thorough": "fb4c75beb847be74",
    "the queried point fails at once": "0178fcc2c0d6e4e2",
    "the queried point fails": "fdaf17497c742608",
    "noisy": "d7bf752c9da12ea2",
    "quiet": "c0fb9cf95b3a1ebb",
    "a neighbour comes": "b6fa0d5cb9f11fb6",
    "a small gain on a host that throttles": "15f01dce58ca72aa",
    "a small gain on a calm host": "2bf33f48ce972db6",
    "dear calls": "4e9224f23f179f50",
    "calls of two milliseconds": "af03e87dca12e052",
    "tiny calls": "5b95fb6ed8d05074",
    "compiled": "6d0dceacea1efd55",
    "packed, a small gain": "ffc94341b3851020",
    "nothing larger is faster": "8e63c8c35fbac83f",
    "guided": "f07b4815bfa963a8",
    "a small window": "9cdad7b20b7a52f3",
    "two points": "e64212d70bd54d3a",
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
