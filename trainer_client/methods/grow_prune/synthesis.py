"""The steps from a seed to a compact model: a baseline, then the paper's (a) to (d).

Each step is a function of a run. The baseline and (a) are here, (b) and (d) in `pruning_steps`,
(c) in `lhp_step`; `route` says which of them a run takes. What a step has to remember is in the
run's `notes`, so that a resumed run enters the step again and continues. `is_training` says whether
the masks have already been changed.

Knows nothing of files or of how progress is shown. Source: section 5.1 of Yin et al.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import torch

from trainer_client.groups.growth import grow_matrices
from trainer_client.groups.masks import apply_masks, scale_for_density, seed_masks
from trainer_client.methods.grow_prune.lhp_step import grow_to_lhp
from trainer_client.methods.grow_prune.pruning_steps import (
    find_threshold,
    prune_rows_and_columns,
    prune_weights,
)
from trainer_client.methods.grow_prune.route import (
    CHOICE,
    DONE,
    STEPS,
    check_ahead,
    choose_route,
    find_route,
)
from trainer_client.oracle.protocol import CrossoverOracle, LatencyOracle
from trainer_client.run.logs import Row
from trainer_client.run.training_run import TrainingRun
from trainer_client.tasks.language_model.networks import MaskedHLSTM

logger = logging.getLogger(__name__)


def synthesise(
    run: TrainingRun,
    oracle: LatencyOracle | None,
    *,
    crossovers: CrossoverOracle | None = None,
    at_step_end: Callable[[Row], None] = lambda _: None,
) -> None:
    """Returns when the run has gone through all its steps.

    A run that has not begun starts with the baseline; a restored one continues. `oracle` answers
    for the kind `hlstm_lm`. `crossovers` is needed if the route is `measured`. Both are tried
    before anything is trained. `at_step_end` is called with the step's row of the report, when the
    run has the step's accepted model. If the run is killed at that moment, it is called again.
    Raises the errors of the steps and of `check_ahead`.
    """
    run.ranks.ask_first(lambda: check_ahead(run, oracle, crossovers))
    if not run.step:
        run.step = STEPS[run.config.route][0]
        run.save()
    while run.step != DONE:
        if run.step == CHOICE:
            choose_route(run, crossovers)
            continue
        step, began_s = run.step, time.perf_counter()
        if step == "lhp":
            grow_to_lhp(run, oracle)
        else:
            _ALONE[step](run)
        row = _describe(run, time.perf_counter() - began_s)
        at_step_end(row)
        steps = STEPS[find_route(run.config.route, run.rows)]
        following = steps.index(step) + 1
        run.end_step(row, steps[following] if following < len(steps) else DONE)
        logger.info("%s: perplexity %.1f, %.0f s", step, row["valid_perplexity"], row["seconds"])


def train_baseline(run: TrainingRun) -> None:
    """Trains the stacked LSTM that the H-LSTM is compared with."""
    if not run.is_training:
        run.begin_training(
            max_epochs=run.config.baseline_epochs, learning_rate=run.config.learning_rate
        )
    run.accept(run.train())


def grow_from_seed(run: TrainingRun) -> None:
    """Step (a): a sparse seed grows by its gradients at the beginning of its first epochs.

    It is one training: the optimiser isn't reset at a growth.
    """
    config, model = run.config, run.hlstm
    if not run.is_training:
        generator, density = torch.Generator().manual_seed(config.seed), config.seed_density
        model.load_weights(scale_for_density(model.layout, model.weights, density=density))
        model.masks = seed_masks(model.layout, model.weights, density=density, generator=generator)
        run.notes["round"] = 0
        run.begin_training(
            max_epochs=config.growth_epochs + config.growth_settling_epochs,
            learning_rate=config.learning_rate,
        )

    def grow(epoch: int) -> None:
        if epoch < config.growth_epochs:
            gradients = run.mean_gradient(apply_masks(model.weights, model.masks))
            grown = grow_matrices(model.layout, model.masks, gradients, ratio=config.growth_ratio)
            run.set_masks(grown)
            run.notes["round"] = epoch + 1

    run.accept(run.train(at_epoch=grow))


_ALONE: dict[str, Callable[[TrainingRun], None]] = {
    "baseline": train_baseline,
    "growth": grow_from_seed,
    "units": prune_rows_and_columns,
    "weights": prune_weights,
}
"""The steps that don't ask the service."""


def _find_dims(run: TrainingRun) -> tuple[int, int]:
    """The dims with which the model is exported and measured: those of the LHP, if there is one.

    Units that die after growth to the LHP stay, all zero: smaller dims would not be faster.
    """
    answers = [row.get("answer") for row in run.rows] + [run.notes.get("answer")]
    given = [each["lhp"] for each in answers if each is not None]
    return (given[-1][0], given[-1][1]) if given else run.model.dims


def _describe(run: TrainingRun, seconds: float) -> Row:
    """The report's row of the step that has just ended."""
    assert run.accepted is not None
    run.revert()
    row: Row = {
        "step": run.step,
        "dims": list(_find_dims(run)),
        "live_dims": list(run.model.dims),
        "recurrent_parameters": run.model.count_recurrent_parameters(),
        "table_parameters": run.model.table.numel(),
        "valid_perplexity": run.accepted.perplexity,
        "test_perplexity": run.evaluate("test"),
        "rounds": run.notes.get("round", 1),
        "seconds": seconds,
    }
    if isinstance(run.model, MaskedHLSTM):
        gate_width, state_width = row["dims"]
        possible = 4 * gate_width * (run.config.embedding_width + 2 * state_width)
        row["density"] = row["recurrent_parameters"] / possible
    if run.step in ("units", "weights"):
        threshold = find_threshold(run)
        row["threshold"], row["threshold_of"] = threshold.perplexity, threshold.source
        row["rounds_accepted"] = run.notes["num_accepted"]
        row["kept_threshold"] = run.accepted.perplexity <= threshold.perplexity
        if not row["kept_threshold"]:
            logger.warning(
                "step %s can't keep a perplexity of %.2f: it ends with the model that it began"
                " with, the best so far, of %.2f",
                run.step,
                threshold.perplexity,
                run.accepted.perplexity,
            )
    if run.step == "lhp":
        row["answer"] = run.notes["answer"]
    return row
