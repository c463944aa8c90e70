"""What a change of platform changed, in a sentence."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from profiler_service.analysis.platform_change import Agreement, Pattern
from profiler_service.answering.platform_changes import change_info, summarize
from profiler_service.storage.platform_change_records import ChangeState, PlatformChange
from tests.api.curves import PLATFORM, PROTOCOL

BEFORE = dataclasses.replace(PLATFORM, libraries=(("oneDNN", "3.12"),))
AFTER = dataclasses.replace(PLATFORM, libraries=(("oneDNN", "3.13"),))
LOST = Pattern(multiple=16, wins_now=False)
WHEN = dt.datetime(2026, 11, 30, 12, 0, tzinfo=dt.UTC)
DONE = PlatformChange(
    id="c1",
    host="gpu-a",
    old_platform_key=BEFORE.key,
    new_platform_key=AFTER.key,
    protocol_key=PROTOCOL.key,
    changed_at=WHEN,
    state=ChangeState.DONE,
    num_contrasts=30,
    agreement=Agreement(num_agree=18, num_changed=12),
    patterns=(LOST,),
    finished_at=WHEN,
)
KEPT = Agreement(num_agree=30)
MIXED = Agreement(num_agree=25, num_changed=1, num_unclear=3, num_failed=1)
PATTERNS = (LOST, Pattern(multiple=8, wins_now=True))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "multiples of 16 no longer win; 12 of 30 facts changed"),
        ({"patterns": ()}, "12 of 30 facts changed"),
        (
            {"patterns": PATTERNS},
            "multiples of 16 no longer win; multiples of 8 win now; 12 of 30 facts changed",
        ),
        ({"patterns": (), "agreement": KEPT}, "none of 30 facts changed"),
        (
            {"patterns": (), "agreement": MIXED},
            "1 of 30 facts changed, 3 can't be told, 1 couldn't be measured",
        ),
        (
            {"state": ChangeState.OPEN, "agreement": Agreement(num_agree=3, num_changed=1)},
            "4 of 30 facts measured again, 1 changed",
        ),
        (
            {"state": ChangeState.INTERRUPTED, "agreement": Agreement(num_agree=3)},
            "3 of 30 facts measured again, 0 changed, then the platform changed again",
        ),
        (
            {"state": ChangeState.OPEN, "num_contrasts": None},
            "facts of the platform before will be measured again",
        ),
        (
            {"num_contrasts": 0, "agreement": Agreement()},
            "what that changed isn't known, as there is no fact to measure again",
        ),
        (
            {"state": ChangeState.RETURNED, "num_contrasts": None},
            "back on a platform that it was on before, whose curves and facts answer again",
        ),
    ],
)
def test_one_sentence_says_what_changed(changes: dict[str, object], said: str) -> None:
    change = dataclasses.replace(DONE, **changes)  # type: ignore[arg-type]
    assert summarize(change, BEFORE, AFTER) == f"oneDNN 3.12 → 3.13: {said}"


def test_of_many_differences_the_first_are_named() -> None:
    other = dataclasses.replace(
        AFTER, framework="none 2.0", threads=2, cpus=2, flags=(("tf32", "on"),)
    )
    assert summarize(DONE, BEFORE, other).startswith(
        "framework none 1.0 → none 2.0, threads 1 → 2, cpus 1 → 2, and 2 more: multiples"
    )


def test_the_figures_are_those_of_the_replay() -> None:
    platforms = {each.key: each for each in (BEFORE, AFTER)}
    info = change_info(DONE, platforms)
    assert (info.before, info.after, info.state) == (BEFORE.key, AFTER.key, "done")
    assert info.differences == ["oneDNN: 3.12 → 3.13"]
    assert (info.num_facts, info.num_agree, info.num_changed) == (30, 18, 12)
    # 18 of 30: from the tables of Clopper and Pearson.
    assert info.agreeing_share == pytest.approx((0.406, 0.773), abs=1e-3)
    assert (info.verdict, info.inherited) == ("unclear", False)
    assert info.summary == summarize(DONE, BEFORE, AFTER)
    kept = change_info(dataclasses.replace(DONE, agreement=KEPT), platforms)
    assert (kept.verdict, kept.inherited) == ("agree", True)
    # Not before all are measured again.
    early = change_info(
        dataclasses.replace(DONE, agreement=KEPT, state=ChangeState.OPEN), platforms
    )
    assert (early.verdict, early.inherited) == ("agree", False)
    nothing = change_info(dataclasses.replace(DONE, agreement=Agreement()), platforms)
    assert (nothing.agreeing_share, nothing.verdict) == (None, "unclear")
