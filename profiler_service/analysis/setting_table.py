"""Tables of settings: numbers with a unit and a meaning, in a dataclass that documentation shows.

Pure, and cheap to import.
"""

from __future__ import annotations

import dataclasses
from typing import Any


def setting(default: float, unit: str, sentence: str) -> Any:
    """A field of a dataclass of settings."""
    return dataclasses.field(default=default, metadata={"unit": unit, "sentence": sentence})


def describe(settings: Any) -> str:
    """All settings of such a dataclass as a Markdown table."""
    rows = ["| setting | value | unit | meaning |", "|---|---|---|---|"]
    for each in dataclasses.fields(settings):
        value = getattr(settings, each.name)
        unit, sentence = each.metadata["unit"], each.metadata["sentence"]
        rows.append(f"| `{each.name}` | {value:g} | {unit} | {sentence} |")
    return "\n".join(rows) + "\n"
