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
    "two axes, another seed": "d88f975040ffcf7e",
    "one axis": "26550be1a6266170",
    "steps of a range": "412fa8fbd6716949",
    "thorough, two axes": "2b60605f0bd281f8",
    "thorough, one axis": "2fff39a04fa627f6",
    "budget": "1a545cffb9defee3",
    "budget for a few pairs": "38b5e7e52ccab0da",
    "budget for nothing": "ce5bac8d7f83dce4",
    "thorough within a budget": "2f95538eda7f8668",
    "thorough of dear calls within a budget": "569b980f8a5c2570",
    "failures": "e9f5cff6a9400f77",
    "the leader fails late": "cb3ddf396aeacb71",
    "everything larger fails": "a63a61fb670384c7",
    "everything larger fails, thorough": "fb4c75beb847be74",
    "the queried point fails at once": "0178fcc2c0d6e4e2",
    "the queried point fails": "fdaf17497c742608",
    "noisy": "fa9fbef68f6bfd81",
    "quiet": "27e39b4af9424aac",
    "a neighbour comes": "f32376e0d80a353c",
    "a small gain on a host that throttles": "fff5d84bc54c4dd2",
    "a small gain on a calm host": "1a47de7f802a562c",
    "dear calls": "1a4904b0f3e8130e",
    "calls of two milliseconds": "49a67fcb324532b7",
    "tiny calls": "59e54115079aad06",
    "compiled": "ac35bece816d7f42",
    "packed, a small gain": "b0fd6abfe6eb16db",
    "nothing larger is faster": "43a6ddae14afff85",
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
