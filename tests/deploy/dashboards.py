"""Grafana's dashboards: their panels, and their queries as Grafana would send them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).parents[2] / "deploy"
GRAFANA = DEPLOY / "grafana"
Json = dict[str, Any]
DASHBOARDS: dict[str, Json] = {
    path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").iterdir())
}
"""Each dashboard by the name of its file."""
TIME_RANGE = ("2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z")


def panels() -> Iterator[tuple[str, Json]]:
    """Every panel with the name of its dashboard."""
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            yield name, panel


def sql_panels() -> list[tuple[str, Json]]:
    """The panels that ask PostgreSQL."""
    return [(name, panel) for name, panel in panels() if "rawSql" in panel["targets"][0]]


def interpolate(query: str, values: Mapping[str, Sequence[str]]) -> str:
    """The query with variables and macros filled in, as Grafana does it for PostgreSQL."""

    def quote(match: re.Match[str]) -> str:
        return ",".join("'" + value.replace("'", "''") + "'" for value in values[match[1]])

    filled = re.sub(r"\$\{(\w+):sqlstring\}", quote, query)
    begin, end = TIME_RANGE
    filled = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN '{begin}' AND '{end}'", filled)
    assert "$" not in filled, f"not known to this test: {filled}"
    return filled


def named_columns(panel: Json) -> set[str]:
    """The columns that a panel's options, overrides and transformations name."""
    found = {
        override["matcher"]["options"]
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["id"] == "byName"
    }
    options = panel["options"]
    for series in options.get("series", []):
        found |= {series[axis]["matcher"]["options"] for axis in ("x", "y")}
    if "xField" in options:
        found.add(options["xField"])
    for transformation in panel.get("transformations", []):
        assert transformation["id"] == "partitionByValues"
        found |= set(transformation["options"]["fields"])
    if panel["targets"][0]["format"] == "time_series":
        found.add("time")
    return found
