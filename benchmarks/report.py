"""Parts that the reports of the search benchmarks share: head, goals, files, exit code."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.answers.machine import RefereeError, redact
from benchmarks.answers.report import goal_table
from benchmarks.answers.verdicts import Goal


def opening(header: Sequence[str], notes: Sequence[str], goals: Sequence[Goal]) -> list[str]:
    """Markdown lines: the origin of the figures, and the table of goals.

    `header` comes from `provenance.heading`. The notes continue its list.
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


@contextlib.contextmanager
def exits_without_verdict() -> Iterator[None]:
    """Turns an early end of a run into its exit code: 2 without a verdict, 130 if interrupted."""
    try:
        yield
    except RefereeError as error:
        print(f"no verdict: {redact(str(error))}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt as error:
        print("interrupted: no verdict", file=sys.stderr)
        raise SystemExit(130) from error


def publish(
    folder: Path | None,
    name: str,
    text: str,
    *,
    header: Sequence[str],
    notes: Sequence[str],
    goals: Sequence[Goal],
    **figures: object,
) -> int:
    """The exit code by the goals. Prints the report, and writes it if asked to.

    Writes `NAME.md`, and its raw figures as `NAME.json`, into the folder.
    """
    print(text)
    if folder is not None:
        raw = {
            "header": header,
            "notes": notes,
            "goals": [asdict(goal) for goal in goals],
            **figures,
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(text)
        (folder / f"{name}.json").write_text(json.dumps(raw, indent=1) + "\n")
    return 0 if all(goal.met is not False for goal in goals) else 1
