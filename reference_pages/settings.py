"""The page of all settings, from `profiler_service.settings`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticUndefined

from profiler_service.settings import Settings
from reference_pages.markdown import code, table

COMPUTED_DEFAULTS: Mapping[str, str] = {
    "database_url": "the file `lhp/lhp.sqlite` in `~/.local/share` (in `XDG_DATA_HOME`, if set)",
    "host": "the machine's name",
}
"""Defaults that depend on the machine, in words."""

INTRODUCTION = """\
---
hide:
  - toc
---

# Settings

The service, the worker and the commands read these environment variables when they start. Every
setting has a default that suits one machine. A value that isn't allowed ends the program with a
message that names the variable.

"""


def variable(name: str) -> str:
    """The environment variable of the setting `name`."""
    return f"{Settings.model_config['env_prefix']}{name}".upper()


def _default(name: str) -> str:
    field = Settings.model_fields[name]
    if field.default is PydanticUndefined:
        return COMPUTED_DEFAULTS[name]
    return code(f"{field.default}".removesuffix(".0"))


def _allowed(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(map(code, schema["enum"]))
    bounds = [
        f"{sign} {schema[key]}".removesuffix(".0")
        for key, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if key in schema
    ]
    kind = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    return " ".join([kind.get(schema.get("type", ""), ""), ", ".join(bounds)]).strip()


def settings_page() -> str:
    """Every setting: variable, default, what is allowed, what it does."""
    properties = Settings.model_json_schema()["properties"]
    rows = [
        (
            code(variable(name)),
            _default(name),
            _allowed(properties[name]),
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]
    return INTRODUCTION + table(("variable", "default", "allowed", "meaning"), rows)
