"""Begins a run with the baseline and step (a) of another run, instead of training both again.

Runs that differ only in settings of later steps (`LATER_SETTINGS`) have the same first steps. The
rows, the log of epochs and the models are copied; the new run starts with the model that step (a)
of the other run exported. Random numbers begin anew, so the run doesn't end with the same bits as
one that trained all its steps. Knows nothing of the later steps.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from profiler_service.errors import ConflictError
from trainer_client.export import ModelFileError, load_dense
from trainer_client.files import explaining, make_directory, write_whole
from trainer_client.groups.masks import Masks, count_weights, full_masks, map_matrices
from trainer_client.methods.grow_prune.config import LATER_SETTINGS, GrowPruneConfig
from trainer_client.methods.grow_prune.route import STEPS
from trainer_client.run.checkpoint import CheckpointConfigError, read_checkpoint
from trainer_client.run.logs import CHECKPOINT, EPOCHS_LOG, MODELS, STEPS_LOG, Row, to_lines
from trainer_client.run.task import Split
from trainer_client.run.training_run import TrainingRun
from trainer_client.tasks.language_model.networks import MaskedHLSTM

logger = logging.getLogger(__name__)

FIRST_STEPS = ("baseline", "growth")
TOLERANCE = 0.01
"""Largest difference between a perplexity and the logged one, as a share. Another processor rounds
differently. Another text or model differs by more."""


def begin_from(run: TrainingRun[GrowPruneConfig], origin: Path) -> None:
    """Returns when the new run is in the state in which the run in `origin` ended step (a).

    Its rows then name their origin: `taken_from`. Raises NoCheckpointError if there is no run,
    CheckpointError, ConflictError if it hasn't ended step (a), CheckpointConfigError if it has
    another configuration or text, ModelFileError if its models don't fit its logs.
    """
    saved = read_checkpoint(origin / CHECKPOINT)
    told = run.compare(saved, but=LATER_SETTINGS)
    if told:
        raise CheckpointConfigError(
            f"the first steps in {origin} are of a run with another configuration:"
            f" {'; '.join(told)}",
            hint="start with the same settings, but for those of later steps; or train all steps",
        )
    rows: list[Row] = saved["rows"][: len(FIRST_STEPS)]
    if tuple(row["step"] for row in rows) != FIRST_STEPS:
        raise ConflictError(
            f"the run in {origin} hasn't ended step (a) yet: it is at {saved['step'] or 'nothing'}",
            hint="let it go on until steps.jsonl has a line `growth`",
        )
    epoch_rows: list[Row] = [row for row in saved["epoch_rows"] if row["step"] in FIRST_STEPS]
    _load_grown(run, origin, rows[-1])
    taken_from: dict[str, Any] = {
        "run": origin.resolve().name,
        **{
            name: {"lines": len(lines), "sha256": hashlib.sha256(to_lines(lines)).hexdigest()}
            for name, lines in ((STEPS_LOG, rows), (EPOCHS_LOG, epoch_rows))
        },
    }
    if run.ranks.rank == 0:
        make_directory(run.directory / MODELS)
        for step in FIRST_STEPS:
            name = f"{MODELS}/{step}.safetensors"
            with explaining(origin / name, doing="read"):
                content = (origin / name).read_bytes()
            write_whole(run.directory / name, content)
    copied = [
        {name: value for name, value in row.items() if name != "route"} | {"taken_from": taken_from}
        for row in rows
    ]
    run.begin_after(
        copied,
        epoch_rows,
        value=rows[-1][f"valid_{run.task.metric.name}"],
        next_step=STEPS[run.config.route][len(FIRST_STEPS)],
    )
    logger.info(
        "begins with the baseline and step (a) of %s: %s, first %d lines, SHA-256 %s",
        origin,
        STEPS_LOG,
        len(rows),
        taken_from[STEPS_LOG]["sha256"],
    )


def _load_grown(run: TrainingRun[GrowPruneConfig], origin: Path, row: Row) -> None:
    """Makes the model that step (a) exported the run's model. Raises ModelFileError.

    The file has no masks. Every weight that isn't zero lives. If their number is the one in the
    row, no other weight lives. In step (a) no unit dies, so no unit was left out or renumbered.
    """
    path = origin / MODELS / "growth.safetensors"
    network, model = load_dense(path), run.compact
    assert isinstance(model, MaskedHLSTM)  # only language models are exported so far
    shapes = {name: each.shape for name, each in model.network.state_dict().items()}
    if {name: each.shape for name, each in network.state_dict().items()} != shapes:
        raise ModelFileError(
            f"{path} has other dims than step (a) trained", hint="is it of another run?"
        )
    model.network.load_state_dict(network.state_dict())
    full, weights = full_masks(model.layout, model.weights), model.weights

    def find_live(_: Tensor, weight_mn: Tensor) -> Tensor:
        return weight_mn != 0

    masks = Masks(
        weights=map_matrices(model.layout, find_live, full.weights, weights), units=full.units
    )
    num_live = count_weights(model.layout, masks)
    if num_live != row["recurrent_parameters"]:
        raise ModelFileError(
            f"{path} has {num_live:,} weights that aren't zero,"
            f" but {row['recurrent_parameters']:,} lived: which of the zeros lived isn't known",
            hint="is it of another run? if not, train all steps",
        )
    model.masks = masks
    metric = run.task.metric.name
    splits: tuple[Split, ...] = ("valid", "test")
    for split in splits:
        found, logged = run.evaluate(split), row[f"{split}_{metric}"]
        if not abs(found - logged) <= TOLERANCE * logged:
            raise ModelFileError(
                f"{path} has a {metric} of {found:.2f} on the {split} data; the run in {origin}"
                f" logged {logged:.2f}",
                hint="give the text that it was trained on (--data), and leave its files as they"
                " are",
            )
