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
    "two axes": "e9f66d6db0a1fc34",
    "two axes, another seed": "cdd3193f47f85be0",
    "one axis": "26550be1a6266170",
    "steps of a range": "c6f25d73b1795ffb",
    "thorough, two axes": "2b60605f0bd281f8",
    "thorough, one axis": "2fff39a04fa627f6",
    "budget": "7792d3b56bc8c75c",
    "budget for a few pairs": "2c8570cb00100943",
    "budget for nothing": "a81ebaaae518338f",
    "thorough within a budget": "c992b6cca1d4bd7b",
    "thorough of dear calls within a budget": "4042892510f46e1c",
    "failures": "e9f5cff6a9400f77",
    "the leader fails late": "181850a48ebcb172",
    "everything larger fails": "a63a61fb670384c7",
    "everything larger fails, thorough": "fb4c75beb847be74",
    "the queried point fails at once": "0178fcc2c0d6e4e2",
    "the queried point fails": "fdaf17497c742608",
    "noisy": "2e0fe6e49f9f2802",
    "quiet": "27e39b4af9424aac",
    "a neighbour comes": "de57de104407b378",
    "a small gain on a host that throttles": "083f99669cd6f5f4",
    "a small gain on a calm host": "36966539ee4beccb",
    "dear calls": "3f96f83bd7c44e45",
    "calls of two milliseconds": "1c329cc2bd050c2b",
    "tiny calls": "357188c4fe2ee249",
    "compiled": "ac35bece816d7f42",
    "packed, a small gain": "42dce65455ca8e43",
    "nothing larger is faster": "43a6ddae14afff85",
    "guided": "40e887ba63b7184a",
    "a small window": "8f94ae50981558e1",
    "two points": "bc1016752a12107c",
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
