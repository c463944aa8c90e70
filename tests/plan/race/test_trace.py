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
    "two axes": "cfbc39b1b961db61",
    "two axes, another seed": "2d2a755c1d5e3fc5",
    "one axis": "a0780acb5064cd5c",
    "steps of a range": "53cc5150d630ea6b",
    "thorough, two axes": "2ec39b3c49861af3",
    "thorough, one axis": "80ea0b68111cdea4",
    "budget": "dce59b5350e671d9",
    "budget for a few pairs": "3557d7b313b49e5f",
    "budget for nothing": "f9a38d9126548c33",
    "thorough within a budget": "8e0824d542575a6f",
    "thorough of dear calls within a budget": "f5b401294ccb047f",
    "failures": "e8d8542b9cc63d9a",
    "the leader fails late": "4c2944b1b7e1dac5",
    "everything larger fails": "f883bbbf2a899c7a",
    "everything larger fails, thorough": "fb4c75beb847be74",
    "the queried point fails at once": "0178fcc2c0d6e4e2",
    "the queried point fails": "3305809b3901ce9e",
    "noisy": "a5d4e4d032bb6af4",
    "quiet": "b06615ed3e5ed07b",
    "a neighbour comes": "d5385004d2dc408a",
    "a small gain on a host that throttles": "e5ef13c4a06bb90f",
    "a small gain on a calm host": "16d75c74c6e92f88",
    "dear calls": "d86c3549a2915bd7",
    "calls of two milliseconds": "41708abc1bf84965",
    "tiny calls": "5cf303b9c88a9f6c",
    "compiled": "c940c4bc63a6ff80",
    "packed, a small gain": "6e7c44c9df9c6c32",
    "nothing larger is faster": "c9ded0f265d68c70",
    "guided": "dd572c5735e343fc",
    "a small window": "ad3556b7d1d8cce8",
    "two points": "900f9c62273f71fb",
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
