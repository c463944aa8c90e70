"""The table of settings: complete, and consistent."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from profiler_service.plan.race.settings import RACE, describe_settings, list_settings


def test_every_setting_says_what_it_means() -> None:
    settings = list(list_settings())
    assert len({(each.group, each.name) for each in settings}) == len(settings)
    for each in settings:
        assert len(each.sentence) > 20, each
        assert each.sentence[0].isupper() or each.sentence.startswith("..."), each


def test_the_parts_of_stages_agree_with_each_other() -> None:
    assert len(RACE.survey.shares) == len(RACE.survey.looks)
    assert 0 < RACE.budget.narrow_until < RACE.budget.contest_until < 1
    # A contest's first part lets nobody leave before it has enough visits of its own.
    assert RACE.contest.rounds >= RACE.contest.least_visits
    # The error of the finalists, of those that left, and of those never seen.
    assert RACE.settle.error + RACE.contest.error + RACE.settle.unseen_risk <= 0.125


def test_another_value_shows_in_the_table() -> None:
    other = replace(RACE, budget=replace(RACE.budget, search_s=2.5))
    assert "| `budget.search_s` | 2.5 | s |" in describe_settings(other)
    assert describe_settings(other) != describe_settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        RACE.budget.search_s = 2.0  # type: ignore[misc]
