"""The page of the settings of turns, from `profiler_service.plan.turns`."""

from __future__ import annotations

from profiler_service.plan.turns import describe_settings

INTRODUCTION = """\
# Turns of sweeps

These numbers decide which sweep of a host is measured next.
[The decision](../decisions/0011-turns.md) says why.

"""


def turns_page() -> str:
    """Every setting of turns: its value, unit and meaning."""
    return INTRODUCTION + describe_settings()
