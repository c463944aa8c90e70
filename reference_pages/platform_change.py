"""The page of the numbers by which platforms are compared, from the analysis."""

from __future__ import annotations

from profiler_service.analysis.platform_change import PLATFORM_CHANGE
from profiler_service.analysis.setting_table import describe

INTRODUCTION = """\
# Changes of platforms

These numbers decide what is measured again after a host's platform has changed, and when two
platforms agree. [When a platform changes](../explanation/platform-changes.md) explains them.

"""


def platform_change_page() -> str:
    """Every setting: its value, unit and meaning."""
    return INTRODUCTION + describe(PLATFORM_CHANGE)
