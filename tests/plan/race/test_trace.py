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
    "two axes": "e919113cef434ce8",
    "two axes, another seed": "4e637c13fe762c20",
    "one axis": "bcf359d63dc24567",
    "steps of a range": "e8fc879c53156211",
    "thorough, two axes": "5bb303209297d24a",
    "thorough, one axis": "224a2efddbf83fc3",
    "budget": "1fe83ec23248a608",
    "budget for a few pairs": "8a01959cd614de47",
    "budget for nothing": "ce5bac8d7f83dce4",
    "thorough within a budget": "f2282e075b0a70a7",
    "thorough of dear calls within a budget": "99971208c07e6db3",
    "failures": "7901bf6a40107b17",
    "the leader fails late": "7ed5dea7b59d2a60",
    "everything larger fails": "a63a61fb670384c7",
    "everything larger fails, thorough": "fb4c75beb847be74",
    "the queried point fails at once": "0178fcc2c0d6e4e2",
    "the queried point fails": "fdaf17497c742608",
    "noisy": "fc5978d4f6accbfb",
    "quiet": "91c6b83ae307ce64",
    "a neighbour comes": "522870e5f91a5f30",
    "a small gain on a host that throttles": "b7390fb3ec77fc17",
    "a small gain on a calm host": "b882b057c1d9e501",
    "dear calls": "235cc936476d2f66",
    "calls of two milliseconds": "9a9fddaa42b7c87a",
    "tiny calls": "3c6934ee46389736",
    "compiled": "e6450ca4fc030a1a",
    "packed, a small gain": "65f99672ead099b3",
    "nothing larger is faster": "fcd840104f999d64",
    "guided": "214d99068f610d2f",
    "a small window": "b7f9a64063bb9e83",
    "two points": "93de726c0343fe28",
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
