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
    "two axes": "769a0ba6e9dbccf2",
    "two axes, another seed": "8ea97afa49769e80",
    "one axis": "af6eeaaa36f1c6ea",
    "steps of a range": "61883a94cc5b7716",
    "thorough, two axes": "d795c774a997d849",
    "thorough, one axis": "ab533180ba092677",
    "budget": "f1260e8997e34fb3",
    "budget for a few pairs": "faa585e5a947c05a",
    "budget for nothing": "ce5bac8d7f83dce4",
    "thorough within a budget": "4c8eeebde3b9aec4",
    "thorough of dear calls within a budget": "f0dd0cb5999cbcd9",
    "failures": "c9a0adfa22fd42cf",
    "the leader fails late": "45846b4c1961349f",
    "everything larger fails": "a63a61fb670384c7",
    "everything larger fails, thorough": "fb4c75beb847be74",
    "the queried point fails at once": "0178fcc2c0d6e4e2",
    "the queried point fails": "fdaf17497c742608",
    "noisy": "9bc6d930d9324413",
    "quiet": "f0b822859d2217ef",
    "a neighbour comes": "a8381161d9f9d765",
    "a small gain on a host that throttles": "9e821ff42b0ee9ea",
    "a small gain on a calm host": "8fd64f66f16a93dd",
    "dear calls": "0888468697dc8a58",
    "calls of two milliseconds": "8bc5447555a7c97a",
    "tiny calls": "fc7d6b80f6e60473",
    "compiled": "6d0dceacea1efd55",
    "packed, a small gain": "3f973e63a065b0b5",
    "nothing larger is faster": "8191a955d1545b7f",
    "guided": "5374f0e262d947a9",
    "a small window": "ee7bad838983bb81",
    "two points": "a2383154b4d25e1f",
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
