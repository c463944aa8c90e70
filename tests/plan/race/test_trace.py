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
    "two axes": "15ea3cca75982cd6",
    "two axes, another seed": "30a3dfc3451c8633",
    "one axis": "27d333e816b05718",
    "steps of a range": "6fa6c2ff69d8d59c",
    "thorough, two axes": "ec6500db951767a4",
    "thorough, one axis": "3cbaad6ce621c3a3",
    "budget": "51e34f65f123d76b",
    "budget for a few pairs": "d7ad9f225218af7b",
    "budget for nothing": "a0ec55567ebe02d9",
    "thorough within a budget": "a9a8cc2499fc3c3d",
    "thorough of dear calls within a budget": "25d7e90454bc51a4",
    "failures": "5bf56946448607ae",
    "the leader fails late": "b77ef8ed6a2d2cfa",
    "everything larger fails": "99e23b934f6c683c",
    "everything larger fails, thorough": "95227f64625564d9",
    "the queried point fails at once": "64c2c0ad8127e19f",
    "the queried point fails": "133e5814f0007b42",
    "noisy": "3b3018ab37c9c6cb",
    "quiet": "b300368b5306707f",
    "a neighbour comes": "414bc716f6598965",
    "a small gain on a host that throttles": "e0e52feee10d934e",
    "a small gain on a calm host": "e0b5531552466f72",
    "dear calls": "303b38ec240be8f6",
    "calls of two milliseconds": "18834b5b684d93a4",
    "tiny calls": "d0a6a98d6833de15",
    "slow first calls": "4ec5d694b23430f2",
    "compiled": "764993d57f856b6c",
    "packed, a small gain": "69c3c27126b5e53c",
    "nothing larger is faster": "4a0c6cd476100358",
    "guided": "06d02eb852a3806a",
    "a small window": "e74ebb873ffbbde4",
    "two points": "1b83e93940968bfc",
    "one point": "b77b298d5db49609",
}


def test_every_race_is_recorded() -> None:
    assert set(DIGESTS) == set(RACES)


@pytest.mark.parametrize("name", RACES)
def test_a_race_decides_as_it_did(name: str) -> None:
    assert digest(decide(RACES[name])) == DIGESTS[name]


def test_another_race_has_another_digest() -> None:
    race = RACES["a small window"]
    assert digest(decide(replace(race, seed=race.seed + 1))) != DIGESTS["a small window"]
