"""What the reports of the search benchmarks share: head and goals, files, exit code."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.answers.measuring import Measurement
from benchmarks.answers.report import goal_table
from benchmarks.answers.verdicts import Goal


def opening(header: Sequence[str], notes: Sequence[str], goals: Sequence[Goal]) -> list[str]:
    """Markdown lines: where the figures come from, and the table of goals, one line each.

    `header` is that of `provenance.heading`, whose list the notes go on with.
    """
    return [
        *header[:-1],
        *(f"- {note}" for note in notes),
        "",
        "## Goals",
        "",
        *goal_table(goals),
        "",
    ]


def write_report(
    folder: Path,
    name: str,
    text: str,
    *,
    header: Sequence[str],
    notes: Sequence[str],
    goals: Sequence[Goal],
    **figures: object,
) -> None:
    """Writes `NAME-DATE.md`, and what it was made from as `NAME-DATE.json`."""
    raw = {
        "header": header,
        "notes": notes,
        "goals": [asdict(goal) for goal in goals],
        **figures,
    }
    stem = f"{name}-{dt.datetime.now(dt.UTC).date()}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.md").write_text(text)
    (folder / f"{stem}.json").write_text(json.dumps(raw, indent=1) + "\n")


def measurement_to_json(measurement: Measurement) -> Mapping[str, object]:
    """The raw figures, JSON-ready; the blocks' log ratios to five places."""
    blocks = {name: [round(log, 5) for log in logs] for name, logs in measurement.blocks.items()}
    return asdict(measurement) | {"blocks": blocks}


def exit_code(goals: Sequence[Goal]) -> int:
    """0 if every goal is met, 1 if one is missed."""
    return 0 if all(goal.met is not False for goal in goals) else 1
