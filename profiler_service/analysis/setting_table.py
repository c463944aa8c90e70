"""Tables of settings: numbers with a unit and a meaning, in a dataclass that documentation shows.

Pure, and cheap to import.
"""

from __future__ import annotations

import dataclasses
from typing import Any


def setting(default: object, unit: str, sentence: str) -> Any:
    """A field of a dataclass of settings."""
    return dataclasses.field(default=default, metadata={"unit": unit, "sentence": sentence})


def describe(settings: Any) -> str:
    """All settings of such a dataclass as a Markdown table."""
    rows = ["| setting | value | unit | meaning |", "|---|---|---|---|"]
    for each in dataclasses.fields(settings):
        value = _show(getattr(settings, each.name))
        unit, sentence = each.metadata["unit"], each.metadata["sentence"]
        rows.append(f"| `{each.name}` | {value} | {unit} | {sentence} |")
    return "\n".join(rows) + "\n"


def _show(value: Any) -> str:
    """A number, or several: `5 in 30` for a pair inside a list."""
    if not isinstance(value, tuple):
        return f"{value:g}"
    parts = [
        " in ".join(map(_show, each)) if isinstance(each, tuple) else _show(each) for each in value
    ]
    return ", ".join(parts)
