"""The table of settings: complete, consistent, and as the documentation shows it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from profiler_service.plan.race.settings import RACE, describe_settings, list_settings

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "explanation" / "races.md"
BEGIN, END = "<!-- race settings: begin -->\n", "<!-- race settings: end -->\n"


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


def test_the_documentation_shows_the_table_of_the_code() -> None:
    """Where this fails, put what `describe_settings()` returns between the marks."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    table, end, _ = rest.partition(END)
    assert end, f"no marks in {PAGE}"
    assert table.strip() == describe_settings().strip()


def test_another_value_shows_in_the_table() -> None:
    other = replace(RACE, budget=replace(RACE.budget, cheap_s=2.5))
    assert "| `budget.cheap_s` | 2.5 | s |" in describe_settings(other)
    assert describe_settings(other) != describe_settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        RACE.budget.cheap_s = 2.0  # type: ignore[misc]
