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


def test_the_parts_of_stages_have_all_their_numbers() -> None:
    assert len(RACE.contest.shares) == len(RACE.contest.rounds) == len(RACE.contest.kept) + 1
    assert sum(RACE.contest.shares) == pytest.approx(1)
    assert len(RACE.survey.shares) == len(RACE.survey.looks)
    assert sorted(RACE.confirm.looks) == list(RACE.confirm.looks)
    assert RACE.contest.kept[-1] >= RACE.confirm.attempts
    assert 0 < RACE.budget.narrow_until < RACE.budget.contest_until < 1


def test_another_value_shows_in_the_table() -> None:
    other = replace(RACE, budget=replace(RACE.budget, cheap_s=2.5))
    assert "| `budget.cheap_s` | 2.5 | s |" in describe_settings(other)
    assert describe_settings(other) != describe_settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        RACE.budget.cheap_s = 2.0  # type: ignore[misc]
