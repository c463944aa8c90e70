"""What recovering from an outage means: taken up soon, and answered in the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.away import Recovery, Reply, check, find_recovery
from benchmarks.soak.machines import SoakError

STARTED_S = 100.0


def reply(at_s: float, status: str, dims: str = "300,64", *, placed: bool = False) -> Reply:
    """What a new question got, half a second after it was sent."""
    return Reply(
        at_s=at_s,
        took_s=0.5,
        kind="new",
        dims=dims,
        status=status,
        is_marked=False,
        is_placed=placed,
        retry_after="1" if status == "503" else None,
    )


REFUSED = [reply(90, "503"), reply(91, "503", "301,64")]


def recover(*replies: Reply) -> Recovery:
    everything = [*REFUSED, *replies]
    return find_recovery(REFUSED, everything, started_s=STARTED_S, control_s=4.0)


def test_the_last_client_counts_for_both_times() -> None:
    found = recover(
        reply(101, "202", placed=True),
        reply(103, "202", placed=True),
        reply(110, "200"),
        # The other one is answered without ever being told its place: 102.5 s.
        reply(102, "200", "301,64"),
    )
    assert (found.taken_up_s, found.answered_s) == (2.5, 10.5)


def test_a_client_that_is_refused_or_told_no_place_is_not_taken_up() -> None:
    for last in (reply(101, "503", "301,64"), reply(101, "202", "301,64")):
        found = recover(reply(101, "200"), last)
        assert (found.taken_up_s, found.answered_s) == (None, None)
    # What was said before the database was stopped doesn't count.
    found = recover(reply(80, "202", "301,64", placed=True), reply(101, "200"))
    assert found.taken_up_s is None


def test_without_a_refusal_there_is_no_recovery() -> None:
    with pytest.raises(SoakError, match="no question was refused"):
        find_recovery([], [reply(101, "200")], started_s=STARTED_S, control_s=4.0)


def test_slow_answers_are_told_and_a_slow_queue_fails() -> None:
    known = replace(reply(95, "200"), kind="known", is_marked=True)
    after = [replace(reply(111, "200"), kind="known")]
    before = [replace(reply(50, "200"), kind="known")]

    def judge(recovery: Recovery) -> dict[str, bool]:
        checks = check(before, [known, *REFUSED], after, [known, *REFUSED, *after], recovery)
        return {each.found: each.holds for each in checks if not each.holds}

    slow = Recovery(taken_up_s=1.0, answered_s=14.0, control_s=13.0)
    assert judge(slow) == {}
    assert judge(replace(slow, taken_up_s=10.1)).keys() == {
        "the last one 10.1 s after PostgreSQL's start"
    }
    assert judge(replace(slow, taken_up_s=None)).keys() == {"one had neither"}
    [told] = judge(replace(slow, answered_s=None))
    assert told.startswith("not all; 8 such questions")
