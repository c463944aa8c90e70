"""Begins a run with the first steps of another run, instead of training them again.

Runs that differ only in settings of later steps (`LATER_SETTINGS`) have the same baseline and step
(a). The new run starts from the file of a step that the other run has ended: with its rows, its log
of epochs and its model. Random numbers begin anew, so the run doesn't end with the same bits as one
that trained all its steps.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from profiler_service.errors import ConflictError
from trainer_client.files import explaining, make_directory, write_whole
from trainer_client.methods.grow_prune.config import GrowPruneConfig, may_change_after
from trainer_client.methods.grow_prune.route import DONE, STEPS
from trainer_client.run.checkpoint import CheckpointConfigError, CheckpointError, read_checkpoint
from trainer_client.run.logs import CHECKPOINT, EPOCHS_LOG, MODELS, STEPS_LOG, Row, to_lines
from trainer_client.run.step_files import step_file
from trainer_client.run.task import Split
from trainer_client.run.training_run import TrainingRun

logger = logging.getLogger(__name__)

GROWTH = "growth"
TOLERANCE = 0.01
"""Largest difference between a metric and the logged one, as a share. Another processor rounds
differently. Other data or another model differ by more."""


def begin_from(run: TrainingRun[GrowPruneConfig], origin: Path) -> None:
    """Returns when the new run is in the state in which another run ended a step.

    `origin` is the file of a step, or the directory of a run: then step (a) is meant. The rows then
    name their origin: `taken_from`. Raises NoCheckpointError if there is no run, CheckpointError if
    the file doesn't fit its own logs, ConflictError if the run hasn't ended step (a) or has no step
    left, CheckpointConfigError if it has another configuration or other data.
    """
    saved = _read_step(origin)
    told = run.compare(saved, but=may_change_after(saved["step"]))
    if told:
        raise CheckpointConfigError(
            f"the first steps in {origin} are of a run with another configuration:"
            f" {'; '.join(told)}",
            hint="start with the same settings, but for those of later steps; or train all steps",
        )
    rows: list[Row] = saved["rows"]
    steps = STEPS[run.config.route]
    following = [*steps, DONE][steps.index(saved["step"]) + 1] if saved["step"] in steps else DONE
    if following == DONE:
        raise ConflictError(
            f"no step follows on {saved['step']} with route={run.config.route}",
            hint="choose the file of an earlier step, or another route",
        )
    directory = origin if origin.is_dir() else origin.parent.parent
    taken_from: dict[str, Any] = {
        "run": directory.resolve().name,
        **{
            name: {"lines": len(lines), "sha256": hashlib.sha256(to_lines(lines)).hexdigest()}
            for name, lines in ((STEPS_LOG, rows), (EPOCHS_LOG, saved["epoch_rows"]))
        },
    }
    copied = [
        {name: value for name, value in row.items() if name != "route"} | {"taken_from": taken_from}
        for row in rows
    ]
    run.adopt(saved)
    _check_metrics(run, origin, rows[-1])
    if run.ranks.rank == 0:
        _copy_models(run, directory, rows)
    run.begin_after(saved, copied, following)
    logger.info(
        "begins with the first steps of %s: %s, first %d lines, SHA-256 %s",
        directory,
        STEPS_LOG,
        len(rows),
        taken_from[STEPS_LOG]["sha256"],
    )


def _read_step(origin: Path) -> dict[str, Any]:
    """What the file of the step has. Raises as `begin_from`."""
    if not origin.is_dir() and origin.exists():
        saved = read_checkpoint(origin)
        if "descent" in saved:
            raise CheckpointError(
                f"{origin} is the checkpoint of a run, not the file of a step",
                hint="name the run's directory, or a file in its folder `steps`",
            )
        return saved
    path = step_file(origin, GROWTH)
    if not path.exists():
        at = read_checkpoint(origin / CHECKPOINT)["step"]
        raise ConflictError(
            f"the run in {origin} hasn't ended step (a) yet: it is at {at or 'nothing'}",
            hint="let it go on until steps.jsonl has a line `growth`",
        )
    return read_checkpoint(path)


def _check_metrics(run: TrainingRun[GrowPruneConfig], origin: Path, row: Row) -> None:
    """Returns if the run's model is as good as its row says. Raises CheckpointError."""
    metric = run.task.metric.name
    splits: tuple[Split, ...] = ("valid", "test")
    for split in splits:
        found, logged = run.evaluate(split), row[f"{split}_{metric}"]
        if not abs(found - logged) <= TOLERANCE * abs(logged):
            raise CheckpointError(
                f"the model in {origin} has a {metric} of {found:.2f} on the {split} data; its run"
                f" logged {logged:.2f}",
                hint="give the data that it was trained on, and leave its files as they are",
            )


def _copy_models(run: TrainingRun[GrowPruneConfig], directory: Path, rows: list[Row]) -> None:
    """Copies the exported models of these steps, where there are any."""
    for row in rows:
        name = f"{MODELS}/{row['step']}.safetensors"
        if not (directory / name).exists():
            continue
        make_directory(run.directory / MODELS)
        with explaining(directory / name, doing="read"):
            content = (directory / name).read_bytes()
        write_whole(run.directory / name, content)
