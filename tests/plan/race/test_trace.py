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
    "two axes": "228589fe83038131",
    "two axes, another seed": "48af557b35569da3",
    "one axis": "b2ae7b0f55d8e4d9",
    "steps of a range": "a2257684863ce4da",
    "thorough, two axes": "9b3b77466ed603a7",
    "thorough, one axis": "267dc86084d03503",
    "budget": "3b5bec588cb78dcb",
    "budget for a few pairs": "4741401da32a0e10",
    "budget for nothing": "cf1c4f9db0bdc242",
    "thorough within a budget": "0539d03c373b491e",
    "thorough of dear calls within a budget": "6b9e92bdd0b41f27",
    "failures": "77cab20cb4fdbbd5",
    "the leader fails late": "e004f882227d905e",
    "everything larger fails": "a3e92d584c9cb391",
    "everything larger fails, thorough": "46d95c233f70b2b7",
    "the queried point fails at once": "0178fcc2c0d6e4e2",
    "the queried point fails": "bf9d70f050d6da76",
    "noisy": "21e3d35eafc5f26a",
    "quiet": "73ca46b60f28af83",
    "a neighbour comes": "4fd6d4291403c89d",
    "a small gain on a host that throttles": "e94dd5680c017cc1",
    "a small gain on a calm host": "c4feb1f5a3d307f0",
    "dear calls": "4882659e234f07b8",
    "calls of two milliseconds": "1f89ee2c8a537f3b",
    "tiny calls": "9016be40f5bb3159",
    "compiled": "b7cc66f3cecb5f44",
    "packed, a small gain": "c500cd261e5738e6",
    "nothing larger is faster": "1b21c4bdc4dcbbf4",
    "guided": "c9660e42e8fa55e7",
    "a small window": "cc8ee4d01e9c58b8",
    "two points": "e9f7bb9e325051f1",
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
