"""Runs of the trainer for the pages: real ones, and rows to change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "docs" / "results"
SPARSE = RESULTS / "small-sparse"
"""Finished; its steps were the baseline, (a) and (d)."""
LONG = RESULTS / "small-long"
"""Not finished when it was reported: (d) was under way."""


def copy_run(source: Path, to: Path) -> Path:
    """A copy of the run's files that a test may change."""
    shutil.copytree(source, to)
    return to


def step_row(step: str = "baseline", **changes: Any) -> dict[str, Any]:
    """A line of `steps.jsonl`."""
    row = {
        "step": step,
        "dims": [12, 8],
        "recurrent_parameters": 1000,
        "valid_perplexity": 9.5,
        "test_perplexity": 9.25,
    }
    return row | changes


def epoch_row(step: str = "baseline", **changes: Any) -> dict[str, Any]:
    """A line of `epochs.jsonl`."""
    row = {
        "step": step,
        "round": 0,
        "epoch": 1,
        "train_perplexity": 20.0,
        "valid_perplexity": 10.0,
    }
    return row | changes


def write_run(
    directory: Path,
    *,
    steps: Sequence[Mapping[str, Any]] = (),
    epochs: Sequence[Mapping[str, Any]] = (),
    report: Mapping[str, Any] | None = None,
) -> Path:
    """A run with these lines in its logs, and this report."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, rows in (("steps.jsonl", steps), ("epochs.jsonl", epochs)):
        (directory / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    if report is not None:
        (directory / "report.json").write_text(json.dumps(report))
    return directory


def write_examples(root: Path) -> Path:
    """A folder of a run that has finished, `sparse`, and of one that has begun, `begun`."""
    copy_run(SPARSE, root / "sparse")
    write_run(root / "begun", epochs=[epoch_row()])
    return root
