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
DIGEST = "digest"
"""In what a checkpoint says about the data: a digest of all of them. The rest are numbers."""
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


def tell_may_change(allowed: Collection[str]) -> str:
    """Settings that may change when a run is resumed, in words for a hint."""
    told = "leave out what differs: the run has its own settings"
    return f"{told}. Only these may change now: {', '.join(sorted(allowed))}" if allowed else told


def differences(
    saved: Mapping[str, Any], own: Mapping[str, Any], *, but: Collection[str] = ()
) -> list[str]:
    """How the configuration and the data of a checkpoint differ from a run's `own`, in words.

    Settings named in `but` may differ.
    """
    told = setting_differences(saved["config"], own["config"], but=but)
    theirs, ours = dict(saved["data"]), dict(own["data"])
    digests = theirs.pop(DIGEST, None), ours.pop(DIGEST, None)
    for name in sorted({**ours, **theirs}):
        if theirs.get(name) != ours.get(name):
            told.append(f"{theirs.get(name, 'no')} {name} there, {ours.get(name, 'no')} now")
    if theirs == ours and digests[0] != digests[1]:
        told.append("other data of the same size")
    return told
