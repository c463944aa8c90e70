"""Steps (b) and (d): prune in rounds. A round changes the masks, retrains, and is judged.

Source: section 5.1 of Yin et al.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from profiler_service.errors import InvalidRequestError
from trainer_client.groups.masks import Masks
from trainer_client.groups.pruning import (
    PruningRate,
    prune_matrices,
    prune_units,
    pruned_share,
)
from trainer_client.methods.grow_prune.config import GrowPruneConfig
from trainer_client.run.descent import DivergedError
from trainer_client.run.training_run import TrainingRun

logger = logging.getLogger(__name__)


Prune = Callable[[PruningRate, float, float], None]
"""Prunes the run's model at a rate. A share of the round's pruning is done already, and a larger
one, the last argument, is to be done; 1 is all of it."""


def prune_rows_and_columns(run: TrainingRun[GrowPruneConfig]) -> None:
    """Step (b): removes the weakest units of every axis, as long as retraining succeeds."""

    def prune(rate: PruningRate, _: float, share: float) -> None:
        model = run.compact
        began = run.notes["widths"]
        counts = {
            axis: round(share * rate.count(began[axis])) - (began[axis] - live)
            for axis, live in model.live_widths.items()
        }
        masks = prune_units(model.layout, model.weights, model.masks, counts=counts)
        _set_masks(run, masks)

    _prune_in_rounds(
        run, run.config.unit_ratio, prune, lambda: max(run.compact.live_widths.values())
    )


def prune_weights(run: TrainingRun[GrowPruneConfig]) -> None:
    """Step (d): removes the smallest weights, as long as retraining succeeds."""

    def prune(rate: PruningRate, before: float, share: float) -> None:
        model = run.compact
        ratio = 1 - (1 - rate.ratio * share) / (1 - rate.ratio * before)
        masks = prune_matrices(model.layout, model.weights, model.masks, ratio=ratio)
        _set_masks(run, masks)

    def count() -> int:
        return run.compact.count_live_weights()

    _prune_in_rounds(run, run.config.weight_ratio, prune, count)


def _set_masks(run: TrainingRun[GrowPruneConfig], masks: Masks) -> None:
    """Sets the masks of the run's model, whether it is in training or not."""
    if run.is_training:
        run.set_masks(masks)
    else:
        run.compact.masks = masks


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The value of the task's metric on the validation data that pruning has to keep."""

    value: float
    """A round that ends worse than this after its retraining is undone."""
    target: float
    """A retraining ends early at this value. It has no slack, and is the baseline's by default."""
    source: str
    """Its origin, in words."""


def find_threshold(run: TrainingRun[GrowPruneConfig]) -> Threshold:
    """The threshold of all pruning of a run.

    It is the `threshold` that is set. Otherwise it is the baseline's value, or that of growth if
    growth ended worse than the baseline (retraining then continues towards the baseline's).
    `slack` is added. Raises InvalidRequestError if there is no baseline.
    """
    given, slack, metric = run.config.threshold, run.config.slack, run.task.metric
    more = f" and {100 * slack:g}% more" if slack else ""
    if given is not None:
        value = metric.worse_by(given, slack)
        return Threshold(value=value, target=given, source=f"as configured{more}")
    ended = {row["step"]: float(row[f"valid_{metric.name}"]) for row in run.rows}
    if "baseline" not in ended:
        raise InvalidRequestError(
            f"there is no {metric.name} that pruning has to keep",
            hint="set the threshold, or train the baseline first",
        )
    baseline = ended["baseline"]
    grown = ended.get("growth", baseline)
    is_kept = metric.keeps(grown, baseline)
    return Threshold(
        value=metric.worse_by(baseline if is_kept else grown, slack),
        target=baseline,
        source=("the baseline's" if is_kept else "that of (a), worse than the baseline's") + more,
    )


def _prune_in_rounds(
    run: TrainingRun[GrowPruneConfig],
    ratio: float,
    prune: Prune,
    count_live: Callable[[], int],
) -> None:
    """Prunes and retrains the run's accepted model, until no round keeps the threshold."""
    config, notes = run.config, run.notes
    threshold = find_threshold(run)
    notes.setdefault("round", 0)
    notes.setdefault("num_accepted", 0)
    notes.setdefault("ratio", ratio)
    while notes["ratio"] is not None and notes["round"] != config.max_rounds:
        rate = PruningRate(ratio=notes["ratio"])
        if not run.is_training:
            if count_live() < 2:
                break
            notes["num_live"], notes["widths"] = count_live(), run.compact.live_widths
            prune(rate, 0.0, pruned_share(0, over_epochs=config.prune_epochs))
            if run.compact.count_live_weights() > 0:
                run.begin_training(
                    max_epochs=config.retrain_epochs,
                    learning_rate=config.retrain_learning_rate,
                    stop_at=threshold.target,
                    min_epochs=config.prune_epochs + 1,
                )

        def prune_more(epoch: int, rate: PruningRate = rate) -> None:
            if 0 < epoch <= config.prune_epochs:
                before, share = (
                    pruned_share(each, over_epochs=config.prune_epochs)
                    for each in (epoch - 1, epoch)
                )
                prune(rate, before, share)

        # When the last weights of a network are removed, it may lose all its units.
        metric = run.task.metric
        value = _train_or_fail(run, prune_more) if run.is_training else metric.worst
        if metric.keeps(value, threshold.value):
            run.accept(value)
            notes["num_accepted"] += 1
        else:
            run.revert()
            slower = rate.after_failure(notes["num_live"])
            is_over = slower is None or slower.ratio < config.min_prune_ratio
            notes["ratio"] = None if slower is None or is_over else slower.ratio
        notes["round"] += 1


def _train_or_fail(run: TrainingRun[GrowPruneConfig], at_epoch: Callable[[int], None]) -> float:
    """The validation metric after a round's retraining; the worst value if it diverges."""
    try:
        return run.train(at_epoch=at_epoch)
    except DivergedError as error:
        logger.warning("a round fails: %s", error)
        run.end_training()
        return run.task.metric.worst
