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
    "two axes": "f9a59e60902ff45f",
    "two axes, another seed": "78260072b55e69b3",
    "one axis": "2f0bb19f3b187627",
    "steps of a range": "e161c720b2a5ffce",
    "thorough, two axes": "3e2aaa0213808686",
    "thorough, one axis": "1f68349fc2920166",
    "budget": "dfb23b0d0d40f716",
    "budget for a few pairs": "2e584d900a83f52f",
    "budget for nothing": "cf1c4f9db0bdc242",
    "thorough within a budget": "ecf80612265dfeed",
    "thorough of dear calls within a budget": "a0f2393d557a0686",
    "failures": "2a1015bae6c54669",
    "the leader fails late": "1bca0d399f77b337",
    "everything larger fails": "a3e92d584c9cb391",
    "everything larger fails, thorough": "46d95c233f70b2b7",
    "the queried point fails at once": "0178fcc2c0d6e4e2",
    "the queried point fails": "bf9d70f050d6da76",
    "noisy": "677de4e85a52f37c",
    "quiet": "59f83fe73e6ff534",
    "a neighbour comes": "c19d5ac4edca25df",
    "a small gain on a host that throttles": "e94dd5680c017cc1",
    "a small gain on a calm host": "c4feb1f5a3d307f0",
    "dear calls": "0eebe6ca2c7f914e",
    "calls of two milliseconds": "b39889374571bcd9",
    "tiny calls": "b7cc838918ab1192",
    "compiled": "b9d32f99621254b6",
    "packed, a small gain": "5378d13321b80bea",
    "nothing larger is faster": "3d71b4869f1e2bd4",
    "guided": "fe568b8d08d08c2b",
    "a small window": "b422e547c3677b75",
    "two points": "3169b1467ec5ff5e",
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
