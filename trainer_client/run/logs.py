"""The files of a run: their names, the lines of its logs, and how two runs differ.

Knows neither torch's models nor when anything is written.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

CHECKPOINT = "checkpoint.lhp"
STEPS_LOG = "steps.jsonl"
EPOCHS_LOG = "epochs.jsonl"
MODELS = "models"
"""The directory of the exported models."""
Row = dict[str, Any]
"""A line of a log: JSON-ready."""


def to_lines(rows: Sequence[Row]) -> bytes:
    """The text of a log with these rows."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def setting_differences(
    there: Mapping[str, Any], mine: Mapping[str, Any], *, but: Collection[str] = ()
) -> list[str]:
    """How two configurations differ, in words. Settings named in `but` may differ."""
    return [
        f"{name}={there.get(name)!r} there, {mine.get(name)!r} now"
        for name in sorted({**mine, **there})
        if name not in but and there.get(name, "nothing") != mine.get(name, "nothing")
    ]


def differences(
    saved: Mapping[str, Any], own: Mapping[str, Any], *, but: Collection[str] = ()
) -> list[str]:
    """How `config` and text of a checkpoint differ from a run's `own`, in words.

    Settings named in `but` may differ.
    """
    told = setting_differences(saved["config"], own["config"], but=but)
    for name, theirs, ours in zip(
        ("tokens to train on", "words"), saved["text"], own["text"], strict=True
    ):
        if theirs != ours:
            told.append(f"{theirs:,} {name} there, {ours:,} now")
    if saved["text"] == own["text"] and saved.get("text_digest") != own["text_digest"]:
        told.append("texts of the same size, but of other words")
    return told
