"""The page of a race's settings, from `profiler_service.plan.race.settings`."""

from __future__ import annotations

from profiler_service.plan.race.settings import describe_settings

INTRODUCTION = """\
---
hide:
  - toc
---

# The race's settings

These are all the numbers that a race uses. [Races](../explanation/races.md) explains the stages in
which they are used. Operators can't change them: with other numbers a race makes other decisions
from the same samples, so a sweep that is under way could not be resumed.

"""


def race_page() -> str:
    """Every setting of a race: its value, unit and meaning."""
    return INTRODUCTION + describe_settings()
