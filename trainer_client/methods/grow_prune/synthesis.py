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
from trainer_client.groups.network import MaskedNetwork
from trainer_client.methods.grow_prune.config import GrowPruneConfig
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

logger = logging.getLogger(__name__)


def synthesise(
    run: TrainingRun[GrowPruneConfig],
    oracle: LatencyOracle | None,
    *,
    crossovers: CrossoverOracle | None = None,
    at_step_end: Callable[[Row], None] = lambda _: None,
) -> None:
    """Returns when the run has gone through all its steps.

    A run that has not begun starts with the baseline; a restored one continues. `oracle` answers
    the task's question. `crossovers` is needed if the route is `measured`. Both are tried
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
        metric = run.task.metric.name
        logger.info("%s: %s %.4g, %.0f s", step, metric, row[f"valid_{metric}"], row["seconds"])


def train_baseline(run: TrainingRun[GrowPruneConfig]) -> None:
    """Trains the network that the compact one is compared with.

    With `route=trained`, the network comes trained, and is its own baseline.
    """
    if run.config.route == "trained":
        run.model = run.compact
        run.accept(run.evaluate("valid"))
        return
    if not run.is_training:
        run.begin_training(
            max_epochs=run.config.baseline_epochs, learning_rate=run.config.learning_rate
        )
    run.accept(run.train())


def grow_from_seed(run: TrainingRun[GrowPruneConfig]) -> None:
    """Step (a): a sparse seed grows by its gradients at the beginning of its first epochs.

    It is one training: the optimiser isn't reset at a growth.
    """
    config, model = run.config, run.compact
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


_ALONE: dict[str, Callable[[TrainingRun[GrowPruneConfig]], None]] = {
    "baseline": train_baseline,
    "growth": grow_from_seed,
    "units": prune_rows_and_columns,
    "weights": prune_weights,
}
"""The steps that don't ask the service."""


def find_widths(run: TrainingRun[GrowPruneConfig]) -> dict[str, int]:
    """The widths by axis with which the compact network is exported and measured.

    Those of the LHP, if there is one: units that die after growth to the LHP stay, all zero, for
    smaller dims would not be faster.
    """
    answers = [row.get("answer") for row in run.rows] + [run.notes.get("answer")]
    given = [each["widths"] for each in answers if each is not None]
    return {**run.compact.live_widths, **(given[-1] if given else {})}


def _describe(run: TrainingRun[GrowPruneConfig], seconds: float) -> Row:
    """The report's row of the step that has just ended."""
    assert run.accepted is not None
    run.revert()
    metric, model = run.task.metric, run.model
    row: Row = {"step": run.step, **run.task.describe(model)}
    if isinstance(model, MaskedNetwork):
        widths = find_widths(run)
        row["dims"] = list(widths.values())
        row["live_dims"] = list(model.live_widths.values())
        possible = model.layout.count_possible(widths, model.weights)
        row["density"] = model.count_live_weights() / possible
    row |= {
        f"valid_{metric.name}": run.accepted.value,
        f"test_{metric.name}": run.evaluate("test"),
        "rounds": run.notes.get("round", 1),
        "seconds": seconds,
    }
    if run.step in ("units", "weights"):
        threshold = find_threshold(run)
        row["threshold"], row["threshold_of"] = threshold.value, threshold.source
        row["rounds_accepted"] = run.notes["num_accepted"]
        row["kept_threshold"] = metric.keeps(run.accepted.value, threshold.value)
        if not row["kept_threshold"]:
            logger.warning(
                "step %s can't keep a %s of %.2f: it ends with the model that it began with, the"
                " best so far, of %.2f",
                run.step,
                metric.name,
                threshold.value,
                run.accepted.value,
            )
    if run.step == "lhp":
        row["answer"] = run.notes["answer"]
        if "woken_start" in run.notes:
            row["woken_start"] = run.notes["woken_start"]
    return row
