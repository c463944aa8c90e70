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
    "two axes": "c1c81f4cba4a858a",
    "two axes, another seed": "c1e5c6f60af31850",
    "one axis": "26550be1a6266170",
    "steps of a range": "26ec79e8a033b156",
    "thorough, two axes": "2b60605f0bd281f8",
    "thorough, one axis": "2fff39a04fa627f6",
    "budget": "973c8f22f62ab541",
    "budget for a few pairs": "38b5e7e52ccab0da",
    "budget for nothing": "ce5bac8d7f83dce4",
    "thorough within a budget": "2f95538eda7f8668",
    "thorough of dear calls within a budget": "3ddd78a11ae101ee",
    "failures": "f223d082b0d35990",
    "the leader fails late": "cb3ddf396aeacb71",
    "everything larger fails": "a63a61fb670384c7",
    "everything larger fails, thorough": "fb4c75beb847be74",
    "the queried point fails at once": "0178fcc2c0d6e4e2",
    "the queried point fails": "fdaf17497c742608",
    "noisy": "6bf66c6888155f0d",
    "quiet": "27e39b4af9424aac",
    "a neighbour comes": "f32376e0d80a353c",
    "a small gain on a host that throttles": "fff5d84bc54c4dd2",
    "a small gain on a calm host": "1a47de7f802a562c",
    "dear calls": "06bad8750a6baa24",
    "calls of two milliseconds": "8826214947059a56",
    "tiny calls": "b59721cea65163bf",
    "compiled": "ac35bece816d7f42",
    "packed, a small gain": "ea9642020b3c84eb",
    "nothing larger is faster": "e595d91cd3fc86bd",
    "guided": "929dc439eff97625",
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
